package service

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// HealthHandler answers a load balancer's probes of a health check node port, in kube-proxy's words: status 200 while the node has a ready endpoint of
// the Service and its proxy works, else 503; the number of endpoints as JSON, and as the weight in the header X-Load-Balancing-Endpoint-Weight. The path
// and the method do not matter.
//
// now is called for every request, by several goroutines at once. It returns the check as it is now and whether the proxy keeps up with the changes of
// the objects; ok is false when the Service has no health check any more, which answers 503 too. Listening is the caller's part: on HealthCheck.Port of
// the node's addresses that serve node ports.
func HealthHandler(now func() (check HealthCheck, proxyHealthy, ok bool)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		check, healthy, ok := now()
		if !ok {
			http.Error(w, "the Service has no health check any more", http.StatusServiceUnavailable)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(check.Local))
		status := http.StatusOK
		if check.Local == 0 || !healthy {
			status = http.StatusServiceUnavailable
		}
		w.WriteHeader(status)
		body, _ := json.MarshalIndent(newHealthBody(check, healthy), "", "\t") // of strings, a number and a bool: it cannot fail
		_, _ = w.Write(body)                                                   // a client that went away needs no answer
	})
}

// healthBody is the JSON that clients of kube-proxy know.
type healthBody struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

func newHealthBody(check HealthCheck, healthy bool) healthBody {
	body := healthBody{LocalEndpoints: check.Local, ServiceProxyHealthy: healthy}
	body.Service.Namespace, body.Service.Name = check.Service.Namespace, check.Service.Name
	return body
}
