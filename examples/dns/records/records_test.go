package records_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podplumb/podplumb/examples/dns/records"
)

func service(namespace, name string, spec corev1.ServiceSpec) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec}
}

func slice(namespace, owner, name string, addresses ...string) *discoveryv1.EndpointSlice {
	port, tcp := int32(80), corev1.ProtocolTCP
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: owner}},
		Ports:      []discoveryv1.EndpointPort{{Port: &port, Protocol: &tcp}},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

// world is the objects that a Store was told of, to tell them another one at once.
type world struct {
	services map[string]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice
	pods     map[string]*corev1.Pod
	spaces   map[string]bool
}

// step makes a random change to the world and to the Store.
func (w *world) step(r *rand.Rand, e *records.Edit) {
	namespace, name := fmt.Sprint("ns", r.IntN(3)), fmt.Sprint("s", r.IntN(4))
	key := namespace + "/" + name
	switch r.IntN(8) {
	case 0:
		w.spaces[namespace] = true
		e.SetNamespace(namespace)
	case 1:
		delete(w.spaces, namespace)
		e.DropNamespace(namespace)
	case 2, 3:
		spec := []corev1.ServiceSpec{
			{ClusterIP: fmt.Sprint("10.96.0.", r.IntN(4)), Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
			{ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app": name}},
			{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"},
		}[r.IntN(3)]
		w.services[key] = service(namespace, name, spec)
		e.SetService(w.services[key])
	case 4:
		delete(w.services, key)
		e.DropService(namespace, name)
	case 5, 6:
		id := fmt.Sprint("slice", r.IntN(6))
		if r.IntN(3) == 0 {
			delete(w.slices, namespace+"/"+id)
			e.DropSlice(namespace, id)
			return
		}
		w.slices[namespace+"/"+id] = slice(namespace, name, id, fmt.Sprint("10.244.0.", r.IntN(5)))
		e.SetSlice(w.slices[namespace+"/"+id])
	case 7:
		id := fmt.Sprint("pod", r.IntN(4))
		if r.IntN(3) == 0 {
			delete(w.pods, namespace+"/"+id)
			e.DropPod(namespace, id)
			return
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: id, Labels: map[string]string{"app": name}}}
		pod.Status.PodIP = fmt.Sprint("10.244.1.", r.IntN(5))
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		w.pods[namespace+"/"+id] = pod
		e.SetPod(pod)
	}
}

func (w *world) all(e *records.Edit) {
	for name := range w.spaces {
		e.SetNamespace(name)
	}
	for _, o := range w.pods {
		e.SetPod(o)
	}
	for _, o := range w.slices {
		e.SetSlice(o)
	}
	for _, o := range w.services {
		e.SetService(o)
	}
}

// However a state came about, its names are those of the same objects told at once; and what was published stays as it was.
func TestChangesEqualTheWhole(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		w := &world{map[string]*corev1.Service{}, map[string]*discoveryv1.EndpointSlice{}, map[string]*corev1.Pod{}, map[string]bool{}}
		store := new(records.Store)
		store.Update(func(*records.Edit) {})
		for i := range 60 {
			if i%8 != 0 { // looking at everything takes longer than changing it
				store.Update(func(e *records.Edit) { w.step(r, e) })
				continue
			}
			before := store.Snapshot()
			was := answers(before)
			store.Update(func(e *records.Edit) { w.step(r, e) })
			fresh := new(records.Store)
			fresh.Update(w.all)
			require.Equal(t, answers(fresh.Snapshot()), answers(store.Snapshot()))
			require.Equal(t, was, answers(before))
		}
	}
}

// answers asks everything that a world can know.
func answers(s *records.Snapshot) []string {
	var all []string
	ask := func(labels ...string) {
		hosts, found := s.Find(labels)
		all = append(all, fmt.Sprint(labels, found, hosts))
	}
	for n := range 3 {
		namespace := fmt.Sprint("ns", n)
		ask(namespace, "svc")
		for i := range 4 {
			name := fmt.Sprint("s", i)
			ask(name, namespace, "svc")
			ask("_http", "_tcp", name, namespace, "svc")
			for a := range 5 {
				ask(fmt.Sprint("10-244-0-", a), name, namespace, "svc")
				ask(fmt.Sprint("10-244-1-", a), name, namespace, "svc")
			}
		}
	}
	for a := range 5 {
		for _, net := range []string{"10.96.0.", "10.244.0.", "10.244.1."} {
			address := netip.MustParseAddr(fmt.Sprint(net, a))
			all = append(all, fmt.Sprint(address, s.Names(address)))
		}
	}
	return all
}

// many is a Store with n Services of three endpoints each.
func many(n int) *records.Store {
	store := new(records.Store)
	store.Update(func(e *records.Edit) {
		for i := range n {
			namespace, name := fmt.Sprint("ns", i%100), fmt.Sprint("s", i)
			a := fmt.Sprintf("%d.%d", i/250, i%250)
			e.SetService(service(namespace, name, corev1.ServiceSpec{ClusterIP: "10." + "96." + a, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}))
			e.SetSlice(slice(namespace, name, name, "10.1."+a, "10.2."+a, "10.3."+a))
		}
	})
	return store
}

// BenchmarkChange is one changed EndpointSlice, among few and among many Services: their ratio is how much the others cost.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		store := many(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for i := range b.N {
				changed := slice("ns1", "s1", "s1", fmt.Sprint("10.9.0.", i%250))
				store.Update(func(e *records.Edit) { e.SetSlice(changed) })
			}
		})
	}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		snapshot := many(n).Snapshot()
		labels := []string{"s1", "ns1", "svc"}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				snapshot.Find(labels)
			}
		})
	}
}
