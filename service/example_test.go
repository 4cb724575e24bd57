package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/netip"

	"github.com/podplumb/podplumb/service"
)

func ExampleResolve() {
	var web service.Service
	err := json.Unmarshal([]byte(`{
		"metadata": {"name": "web", "namespace": "default"},
		"spec": {"clusterIP": "10.96.0.10", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
	}`), &web)
	if err != nil {
		log.Fatal(err)
	}
	pod := func(name, node, ip string, port int32) service.Pod {
		return service.Pod{
			Meta:   service.Meta{Name: name, Namespace: "default", Labels: map[string]string{"app": "web"}},
			Spec:   service.PodSpec{NodeName: node, Containers: []service.Container{{Name: "c", Ports: []service.ContainerPort{{Name: "http", ContainerPort: port}}}}},
			Status: service.PodStatus{PodIPs: []service.PodIP{{IP: ip}}, Conditions: []service.PodCondition{{Type: "Ready", Status: "True"}}},
		}
	}
	frontends, err := service.Resolve(service.State{
		Services:      []service.Service{web},
		Pods:          []service.Pod{pod("a", "node1", "10.244.1.2", 8080), pod("b", "node2", "10.244.2.2", 9090)},
		PodRanges:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
		ServiceRanges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
	}, service.Node{Meta: service.Meta{Name: "node1"}})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range frontends {
		fmt.Println(f)
	}
	// Output:
	// cluster-ip 10.96.0.10:80/TCP default/web -> 10.244.1.2:8080 local, 10.244.2.2:9090; masquerade outside; inside 10.244.0.0/16
	// unknown-port 10.96.0.10 default/web -> reject
	// unallocated 10.96.0.0/16 -> drop
}

// printer is a Backend that only says what it would do.
type printer struct{}

func (printer) Apply(_ context.Context, p service.Plan) error {
	fmt.Print(p)
	return nil
}

func ExampleProxy() {
	ctx := context.Background()
	p, err := service.New(service.Config{Backend: printer{}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := p.Sync(ctx, service.State{Services: []service.Service{webService("web", "10.96.0.10")}}); err != nil {
		log.Fatal(err)
	}
	if _, err := p.Update(ctx, service.Changes{EndpointSlices: []service.EndpointSlice{webSlice("web-1", "web", "10.244.1.2")}}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// + cluster-ip 10.96.0.10:80/TCP default/web -> reject
	// + unknown-port 10.96.0.10 default/web -> reject
	// ~ cluster-ip 10.96.0.10:80/TCP default/web -> 10.244.1.2:8080
}

func ExampleState_Validate() {
	s := service.State{Services: []service.Service{webService("web", "10.96.0.300"), webService("Web", "10.96.0.1")}}
	fmt.Println(s.Validate())
	// Output:
	// services[default/web].spec.clusterIPs[0]: "10.96.0.300" is not an IP address
	// services[default/Web].metadata.name: "Web" is not an RFC 1035 label
}
