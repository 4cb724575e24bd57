package route

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
)

// Class says which Ingresses are this controller's.
type Class struct {
	Controller string // of IngressClass.spec.controller
	Classes    []*networkingv1.IngressClass
}

// legacyClass named the class of an Ingress before the field existed.
const legacyClass = "kubernetes.io/ingress.class"

// defaultClass marks the class of Ingresses that name none.
const defaultClass = networkingv1.AnnotationIsDefaultIngressClass

// Has says whether an Ingress is this controller's. One that names no class belongs to the default class.
func (c Class) Has(ingress *networkingv1.Ingress) bool {
	name := ingress.Annotations[legacyClass]
	if ingress.Spec.IngressClassName != nil {
		name = *ingress.Spec.IngressClassName
	}
	for _, class := range c.Classes {
		if class.Spec.Controller == c.Controller && (class.Name == name || name == "" && class.Annotations[defaultClass] == "true") {
			return true
		}
	}
	return false
}

// FromIngresses returns the rules of Ingresses, the fallback of the oldest that has a default backend, and what is wrong
// with them: a rule with a fault is left out, and does not keep the others from working.
func FromIngresses(ingresses []*networkingv1.Ingress) ([]Rule, *Rule, error) {
	var rules []Rule
	var fallback *Rule
	var faults []error
	for _, ingress := range ingresses {
		c := compiler{ingress: ingress}
		rules = append(rules, c.rules()...)
		if f := c.fallback(); f != nil && (fallback == nil || compare(f, fallback) < 0) {
			fallback = f
		}
		faults = append(faults, c.faults...)
	}
	return rules, fallback, errors.Join(faults...)
}

// compiler turns one Ingress into rules.
type compiler struct {
	ingress *networkingv1.Ingress
	faults  []error
}

func (c *compiler) origin(field string) string {
	return fmt.Sprintf("Ingress %s/%s: %s", c.ingress.Namespace, c.ingress.Name, field)
}

func (c *compiler) fault(field, format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf("%s: %s", c.origin(field), fmt.Sprintf(format, args...)))
}

func (c *compiler) rules() []Rule {
	var rules []Rule
	limits, err := limitsOf(c.ingress)
	if err != nil {
		c.faults = append(c.faults, err)
	}
	for i := range c.ingress.Spec.Rules {
		r := &c.ingress.Spec.Rules[i]
		field := fmt.Sprintf("spec.rules[%d]", i)
		if !c.host(field, r.Host) || r.HTTP == nil {
			continue
		}
		for j := range r.HTTP.Paths {
			p := &r.HTTP.Paths[j]
			field := fmt.Sprintf("%s.http.paths[%d]", field, j)
			match, ok := c.path(field, p)
			to, served := c.backend(field+".backend", &p.Backend)
			if ok && served {
				rules = append(rules, Rule{
					Origin: c.origin(field), Host: strings.ToLower(r.Host), Path: match, Created: c.ingress.CreationTimestamp.Time,
					Limits: limits, To: to,
				})
			}
		}
	}
	return rules
}

func (c *compiler) fallback() *Rule {
	if c.ingress.Spec.DefaultBackend == nil {
		return nil
	}
	to, ok := c.backend("spec.defaultBackend", c.ingress.Spec.DefaultBackend)
	if !ok {
		return nil
	}
	limits, _ := limitsOf(c.ingress) // rules tells the faults
	return &Rule{Origin: c.origin("spec.defaultBackend"), Path: Path{Prefix, "/"}, Created: c.ingress.CreationTimestamp.Time, Limits: limits, To: to}
}

func (c *compiler) host(field, host string) bool {
	name := strings.TrimPrefix(host, "*.")
	_, err := netip.ParseAddr(host)
	if err == nil || strings.ContainsAny(name, "*:/ ") || strings.HasPrefix(name, ".") || host != "" && name == "" {
		c.fault(field+".host", "%q is neither a name nor *. with one behind it", host)
		return false
	}
	return true
}

func (c *compiler) path(field string, p *networkingv1.HTTPIngressPath) (Path, bool) {
	kind := networkingv1.PathTypeImplementationSpecific
	if p.PathType != nil {
		kind = *p.PathType
	}
	value := p.Path
	if value == "" && kind == networkingv1.PathTypeImplementationSpecific {
		value = "/"
	}
	if !strings.HasPrefix(value, "/") {
		c.fault(field+".path", "%q does not begin with a slash", p.Path)
		return Path{}, false
	}
	if clean := path.Clean(value); clean != strings.TrimSuffix(value, "/") && value != "/" {
		c.fault(field+".path", "%q: no request has that path, as //, /. and /.. are taken out first (did you mean %q?)", value, clean)
		return Path{}, false
	}
	switch kind {
	case networkingv1.PathTypeExact:
		return Path{Exact, value}, true
	case networkingv1.PathTypePrefix:
		return Path{Prefix, value}, true
	case networkingv1.PathTypeImplementationSpecific:
		if strings.Contains(value, "*") {
			return Path{Pattern, value}, true
		}
		return Path{Prefix, value}, true
	}
	c.fault(field+".pathType", "%q is not one of Exact, Prefix and ImplementationSpecific", kind)
	return Path{}, false
}

func (c *compiler) backend(field string, b *networkingv1.IngressBackend) (Action, bool) {
	if b.Service == nil || b.Service.Name == "" {
		c.fault(field, "only a service can be a backend")
		return Action{}, false
	}
	port := b.Service.Port.Name
	if port == "" {
		if b.Service.Port.Number < 1 || b.Service.Port.Number > 65535 {
			c.fault(field+".service.port", "a name or a number from 1 to 65535 is needed")
			return Action{}, false
		}
		port = strconv.Itoa(int(b.Service.Port.Number))
	}
	return Action{Backends: []Weighted{{Backend: Backend{c.ingress.Namespace, b.Service.Name, port}, Weight: 1}}}, true
}
