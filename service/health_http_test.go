package service_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/service"
)

// The answers are those of kube-proxy, whitespace included: clients compare them as text.
func TestHealthHandler(t *testing.T) {
	t.Parallel()
	web := service.HealthCheck{Service: service.Name{Namespace: "default", Name: "web"}, Port: 32100}
	for name, test := range map[string]struct {
		local       int
		healthy, ok bool
		status      int
		weight      string
		body        string
	}{
		"endpoints": {2, true, true, 200, "2", "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}"},
		"none":      {0, true, true, 503, "0", "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 0,\n\t\"serviceProxyHealthy\": true\n}"},
		"behind":    {2, false, true, 503, "2", "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": false\n}"},
		"gone":      {0, true, false, 503, "", "the Service has no health check any more\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check := web
			check.Local = test.local
			w := httptest.NewRecorder()
			service.HealthHandler(func() (service.HealthCheck, bool, bool) { return check, test.healthy, test.ok }).
				ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz?whatever", nil))
			require.Equal(t, test.status, w.Code)
			require.Equal(t, test.body, w.Body.String())
			require.Equal(t, test.weight, w.Header().Get("X-Load-Balancing-Endpoint-Weight"))
			require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			if test.ok {
				require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			}
		})
	}
}

// HealthChecks of a Proxy follow Services that get, change and lose their port.
func TestProxyHealthChecksFollowServices(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := newProxy(t, &ledger{})
	checked := func(port int32) service.Service {
		s := webService("one", "10.96.0.1")
		s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = service.TypeLoadBalancer, service.PolicyLocal, port
		return s
	}
	one := service.Name{Namespace: "default", Name: "one"}
	for _, step := range []struct {
		change service.Changes
		want   []service.HealthCheck
	}{
		{service.Changes{Services: []service.Service{checked(32100), webService("two", "10.96.0.2")}}, []service.HealthCheck{{Service: one, Port: 32100}}},
		{service.Changes{Pods: []service.Pod{webPod("p1", "one", "10.244.0.1")}}, []service.HealthCheck{{Service: one, Port: 32100, Local: 1}}},
		{service.Changes{Services: []service.Service{checked(32101)}}, []service.HealthCheck{{Service: one, Port: 32101, Local: 1}}},
		{service.Changes{Services: []service.Service{webService("one", "10.96.0.1")}}, nil},
		{service.Changes{Services: []service.Service{checked(32100)}}, []service.HealthCheck{{Service: one, Port: 32100, Local: 1}}},
		{service.Changes{DropServices: []service.Name{one}}, nil},
	} {
		_, err := p.Update(ctx, step.change)
		require.NoError(t, err)
		require.Equal(t, step.want, p.HealthChecks())
	}
}
