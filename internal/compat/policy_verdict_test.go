package compat_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"github.com/podplumb/podplumb/policy"
)

// refused returns the paths at which an API server refuses a NetworkPolicy. The rules are those that the documentation of its fields
// gives; what they say of names, labels, selectors, ports and addresses is asked of the API server's own library.
func refused(p *networkingv1.NetworkPolicy) (paths []string) {
	errs := apivalidation.ValidateObjectMeta(&p.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	for _, name := range p.Finalizers {
		if !strings.Contains(name, "/") && !slices.Contains([]string{"kubernetes", "orphan", "foregroundDeletion"}, name) {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "finalizers"), name, "neither one of Kubernetes' own nor qualified"))
		}
	}
	spec := field.NewPath("spec")
	errs = append(errs, metav1validation.ValidateLabelSelector(&p.Spec.PodSelector, metav1validation.LabelSelectorValidationOptions{}, spec.Child("podSelector"))...)
	for i, r := range p.Spec.Ingress {
		errs = append(errs, refusedRule(spec.Child("ingress").Index(i), "from", r.From, r.Ports)...)
	}
	for i, r := range p.Spec.Egress {
		errs = append(errs, refusedRule(spec.Child("egress").Index(i), "to", r.To, r.Ports)...)
	}
	if len(p.Spec.PolicyTypes) > 2 {
		errs = append(errs, field.Invalid(spec.Child("policyTypes"), "", "too many"))
	} else {
		for i, kind := range p.Spec.PolicyTypes {
			if kind != networkingv1.PolicyTypeIngress && kind != networkingv1.PolicyTypeEgress {
				errs = append(errs, field.Invalid(spec.Child("policyTypes").Index(i), kind, "unknown"))
			}
		}
	}
	for _, err := range errs {
		paths = append(paths, coarse(err.Field))
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func refusedRule(path *field.Path, side string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) (errs field.ErrorList) {
	bad := func(at *field.Path) { errs = append(errs, field.Invalid(at, "", "")) }
	for i, p := range ports {
		at := path.Child("ports").Index(i)
		if p.Protocol != nil && !slices.Contains([]corev1.Protocol{"TCP", "UDP", "SCTP"}, *p.Protocol) {
			bad(at.Child("protocol"))
		}
		if p.Port != nil && p.Port.Type == intstr.Int && len(validation.IsValidPortNum(p.Port.IntValue())) > 0 ||
			p.Port != nil && p.Port.Type == intstr.String && len(validation.IsValidPortName(p.Port.StrVal)) > 0 {
			bad(at.Child("port"))
		}
		if p.EndPort != nil && (p.Port == nil || p.Port.Type == intstr.String || *p.EndPort < p.Port.IntVal || len(validation.IsValidPortNum(int(*p.EndPort))) > 0) {
			bad(at.Child("endPort"))
		}
	}
	for i, p := range peers {
		at := path.Child(side).Index(i)
		kinds := 0
		if p.PodSelector != nil {
			kinds++
			errs = append(errs, metav1validation.ValidateLabelSelector(p.PodSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("podSelector"))...)
		}
		if p.NamespaceSelector != nil {
			kinds++
			errs = append(errs, metav1validation.ValidateLabelSelector(p.NamespaceSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("namespaceSelector"))...)
		}
		if p.IPBlock != nil {
			if kinds++; kinds > 1 {
				bad(at)
			}
			errs = append(errs, refusedBlock(at.Child("ipBlock"), p.IPBlock)...)
		}
		if kinds == 0 {
			bad(at)
		}
	}
	return errs
}

func refusedBlock(path *field.Path, b *networkingv1.IPBlock) (errs field.ErrorList) {
	errs = validation.IsValidCIDRForLegacyField(path.Child("cidr"), b.CIDR, false, nil)
	_, block, err := netutils.ParseCIDRSloppy(b.CIDR)
	if err != nil && b.CIDR == "" {
		return errs
	}
	for i, text := range b.Except {
		at := path.Child("except").Index(i)
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, text, false, nil)...)
		_, except, exceptErr := netutils.ParseCIDRSloppy(text)
		if err != nil || exceptErr != nil {
			continue
		}
		whole, _ := block.Mask.Size()
		part, _ := except.Mask.Size()
		if part <= whole || !block.Contains(except.IP) {
			errs = append(errs, field.Invalid(at, text, "no part"))
		}
	}
	return errs
}

// coarse cuts off what only one of the two has in a path: the key of a label, the index of an owner.
func coarse(path string) string {
	for _, list := range []string{"matchLabels", ".labels", ".annotations", ".finalizers", "ownerReferences"} {
		if before, _, found := strings.Cut(path, list); found {
			return before + list
		}
	}
	return path
}

// ours returns the paths of what State.Validate finds.
func ours(t *testing.T, p *policy.NetworkPolicy) (paths []string) {
	t.Helper()
	err := policy.State{Policies: []policy.NetworkPolicy{*p}}.Validate()
	if err == nil {
		return nil
	}
	for _, fault := range err.(interface{ Unwrap() []error }).Unwrap() {
		var at *policy.FieldError
		require.ErrorAs(t, fault, &at)
		_, path, _ := strings.Cut(at.Path, "].")
		paths = append(paths, coarse(path))
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

var verdictFile = flag.String("verdicts", "", "write the random policies of TestVerdicts and what is wrong with them to this file, one a line")

// TestVerdicts holds State.Validate to the API server's verdict on random good and bad NetworkPolicies, fault by fault.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	d := verdictDice{rand.New(rand.NewPCG(7, 9))}
	var out *os.File
	if *verdictFile != "" {
		var err error
		out, err = os.Create(*verdictFile)
		require.NoError(t, err)
		defer out.Close()
	}
	good := 0
	const count = 20_000
	for range count {
		theirs := d.networkPolicy()
		text := encode(t, theirs)
		var own policy.NetworkPolicy
		require.NoError(t, json.Unmarshal(text, &own))
		want := refused(&theirs)
		require.Equal(t, want, ours(t, &own), "%s", text)
		if len(want) == 0 {
			good++
		}
		if out != nil {
			fmt.Fprintf(out, "%s\t%v\n", text, want)
		}
	}
	require.Greater(t, good, count/20)
	require.Less(t, good, count*9/10)
}

// TestCIDRs: which texts are ranges, and of what, is for the API server to say.
func TestCIDRs(t *testing.T) {
	t.Parallel()
	d := verdictDice{rand.New(rand.NewPCG(3, 4))}
	for range 50_000 {
		text := d.cidr()
		p := policy.NetworkPolicy{Meta: policy.Meta{Name: "x", Namespace: "x"}}
		p.Spec.Ingress = []policy.IngressRule{{From: []policy.Peer{{IPBlock: &policy.IPBlock{CIDR: text}}}}}
		theirs := validation.IsValidCIDRForLegacyField(nil, text, false, nil)
		err := policy.State{Policies: []policy.NetworkPolicy{p}}.Validate()
		require.Equal(t, len(theirs) == 0, err == nil, "%q: %v, but %v", text, theirs, err)
	}
}
