package main_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/apis/v1beta1"
	suiteof "sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"

	main "github.com/podplumb/podplumb/examples/ingress"
	"github.com/podplumb/podplumb/examples/ingress/gateway"
	"github.com/podplumb/podplumb/examples/internal/conformance"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
)

// envConformance has the directory of the Gateway API's definitions, in the process that runs its tests.
const envConformance = "PODPLUMB_CONFORMANCE"

// The Gateway API's own tests, with all the features that we tell of, in a process in a network namespace of its own: they use
// well-known ports. `-run TestConformance/NAME` runs one of them.
func TestConformance(t *testing.T) {
	if definitions := os.Getenv(envConformance); definitions != "" {
		runConformance(t, definitions)
		return
	}
	kerneltest.Require(t)
	find := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api")
	find.Env = append(os.Environ(), "GOPROXY=off")
	module, err := find.Output()
	definitions := filepath.Join(strings.TrimSpace(string(module)), "config/crd/experimental")
	if _, missing := os.Stat(definitions); err != nil || missing != nil {
		const why = "the Gateway API's definitions are in the module cache, which the go command finds: %v"
		if os.Getenv("PODPLUMB_KERNEL_TESTS") == "must" {
			t.Fatalf(why, errors.Join(err, missing))
		}
		t.Skipf(why, errors.Join(err, missing))
	}
	ns, err := netns.New()
	require.NoError(t, err)
	defer ns.Close()
	require.NoError(t, ns.LoopbackUp())
	self, err := os.Executable()
	require.NoError(t, err)
	pattern := flag.Lookup("test.run").Value.String()
	if !strings.HasPrefix(pattern, "TestConformance/") {
		pattern = "^TestConformance$"
	}
	cmd := exec.Command(self, "-test.v", "-test.run", pattern, "-test.timeout", "8m")
	cmd.Env = append(os.Environ(), envConformance+"="+definitions)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, ns.Start(cmd))
	err = cmd.Wait()
	lines := strings.Split(out.String(), "\n")
	if err != nil {
		t.Fatalf("%v\n%s\n\n%s", err, strings.Join(filtered(lines, "--- FAIL", "Error:", "DATA RACE"), "\n"), strings.Join(lines[max(0, len(lines)-100):], "\n"))
	}
	results := filtered(lines, result)
	t.Log(strings.Join(results, "\n"))
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, line := range results {
		_, row, _ := strings.Cut(line, result+" ")
		if pattern == "^TestConformance$" {
			require.Contains(t, string(readme), "| "+row+" |")
		}
	}
}

// result marks the lines that say how it went.
const result = "RESULT"

func filtered(lines []string, words ...string) (some []string) {
	for _, line := range lines {
		if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(line, word) }) {
			some = append(some, line)
		}
	}
	return some
}

func runConformance(t *testing.T, definitions string) {
	cluster := conformance.Start(t, definitions, netip.MustParseAddr("127.1.0.0"))
	known := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, gatewayv1.Install, v1beta1.Install, apiextensionsv1.AddToScheme} {
		require.NoError(t, add(known))
	}
	options := client.Options{Scheme: known}
	c, err := client.New(cluster.Config, options)
	require.NoError(t, err)
	require.NoError(t, c.Create(t.Context(), &gatewayv1.GatewayClass{
		ObjectMeta: metav1.ObjectMeta{Name: "podplumb"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "podplumb.github.io/ingress"},
	}))

	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(api.Config{
		Clusters: map[string]*api.Cluster{"c": {Server: cluster.Config.Host}}, Contexts: map[string]*api.Context{"c": {Cluster: "c"}}, CurrentContext: "c",
	}, kubeconfig))
	ctx, cancel := context.WithCancel(context.Background())
	stderr, done := new(buffer), make(chan int)
	go func() {
		done <- main.Run(ctx, []string{"-kubeconfig", kubeconfig, "-gateway-address", "127.2.0.0/24", "-quiet"}, new(buffer), stderr)
	}()
	t.Cleanup(func() {
		cancel()
		code := <-done
		t.Logf("the ingress said:\n%s", stderr)
		require.Zero(t, code)
	})

	timeouts := config.DefaultTimeoutConfig()
	timeouts.DefaultPollInterval = 20 * time.Millisecond
	timeouts.HTTPRouteMustNotHaveParents = 5 * time.Second
	ip := gatewayv1.IPAddressType
	s, err := suite.NewConformanceTestSuite(suite.ConformanceOptions{
		ConfigurableOptions: suite.ConfigurableOptions{
			GatewayClassName: "podplumb", SupportedFeatures: gateway.Features(), TimeoutConfig: timeouts, CleanupTestResources: true,
			ConformanceProfiles:      []suite.ConformanceProfileName{suite.GatewayHTTPConformanceProfileName, suite.GatewayGRPCConformanceProfileName},
			Implementation:           confv1.Implementation{Organization: "podplumb", Project: "ingress", URL: "https://github.com/podplumb/podplumb", Version: "main", Contact: []string{"@podplumb"}},
			UsableNetworkAddresses:   []gatewayv1.GatewaySpecAddress{{Type: &ip, Value: "127.2.0.200"}},
			UnusableNetworkAddresses: []gatewayv1.GatewaySpecAddress{{Type: &ip, Value: "192.0.2.1"}},
		},
		Client: c, ClientOptions: options, Clientset: cluster.Client, RestConfig: cluster.Config, ManifestFS: []fs.FS{&suiteof.Manifests},
	})
	require.NoError(t, err)
	s.Setup(t, tests.ConformanceTests)
	require.NoError(t, s.Run(t, tests.ConformanceTests))
	report, err := s.Report()
	require.NoError(t, err)
	for _, p := range report.ProfileReports {
		row := p.Name
		for _, status := range []confv1.Status{p.Core, p.Extended.Status} {
			n := status.Statistics
			row += fmt.Sprintf(" | %d of %d", n.Passed, n.Passed+n.Failed+n.Skipped)
			require.Equal(t, confv1.Success, status.Result, "%v", status.FailedTests)
			require.Empty(t, status.SkippedTests)
		}
		t.Log(result, row)
	}
}
