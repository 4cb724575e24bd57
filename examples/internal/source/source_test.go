package source_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/podplumb/podplumb/examples/internal/source"
)

var services = []source.Kind{{Object: &corev1.Service{}, Resource: "services", Namespaced: true}, {Object: &corev1.Namespace{}, Resource: "namespaces"}}

const slow = 20 * time.Second

// log is a Receiver that keeps what it is told as lines.
type log struct {
	mu      sync.Mutex
	batches [][]string
	faults  []string
}

func (l *log) receiver() source.Receiver {
	return source.Receiver{
		Changed: func(changes []source.Change) {
			lines := []string{}
			for _, c := range changes {
				lines = append(lines, line(c))
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.batches = append(l.batches, lines)
		},
		Fault: func(err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.faults = append(l.faults, err.Error())
		},
	}
}

func line(c source.Change) string {
	sign, object := "~", c.New
	switch {
	case c.Old == nil:
		sign = "+"
	case c.New == nil:
		sign, object = "-", c.Old
	}
	about, _ := meta.Accessor(object)
	text := sign + about.GetNamespace() + "/" + about.GetName()
	if s, ok := object.(*corev1.Service); ok && s.Spec.ClusterIP != "" {
		text += "=" + s.Spec.ClusterIP
	}
	return text
}

// batch waits for the n-th batch, and all has what came so far in it.
func (l *log) batch(t *testing.T, n int) []string {
	t.Helper()
	var lines []string
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.batches) <= n {
			return false
		}
		lines = l.batches[n]
		return true
	}, slow, time.Millisecond)
	return lines
}

func (l *log) seen() [][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.batches
}

func (l *log) fault(t *testing.T, part string) {
	t.Helper()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.ContainsFunc(l.faults, func(f string) bool { return strings.Contains(f, part) })
	}, slow, time.Millisecond, part)
}

func run(t *testing.T, s source.Source) *log {
	t.Helper()
	l := new(log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx, scheme.Scheme, services, l.receiver()) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return l
}

func manifest(name, ip string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {clusterIP: %s}\n", name, ip)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path+".tmp", []byte(content), 0o600))
	require.NoError(t, os.Rename(path+".tmp", path))
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/a.yaml", manifest("web", "10.96.0.1")+"---\n# nothing\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n")
	write(t, dir+"/sub/list.json", `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}},{"apiVersion":"v1","kind":"Service","metadata":{"name":"bare"}}]}`)
	write(t, dir+"/flow.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: flow}}\n")
	write(t, dir+"/typed.yaml", "apiVersion: v1\nkind: NamespaceList\nitems: [{metadata: {name: depot}}]\n")
	write(t, dir+"/odd.yaml", "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n")
	l := run(t, source.Directory(dir))
	require.Equal(t, []string{"+/depot", "+/flow", "+/shop", "+default/bare", "+shop/web=10.96.0.1"}, l.batch(t, 0))

	write(t, dir+"/a.yaml", manifest("web", "10.96.0.2"))
	require.Equal(t, []string{"~shop/web=10.96.0.2"}, l.batch(t, 1))
	write(t, dir+"/new/b.yml", manifest("db", "10.96.0.3"))
	require.Equal(t, []string{"+shop/db=10.96.0.3"}, l.batch(t, 2))

	// A file with a fault counts with what it held before; one that names another's object does not.
	write(t, dir+"/a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIPP: 10.96.0.9}\n")
	l.fault(t, "a.yaml: document 1: strict decoding error: unknown field \"spec.clusterIPP\"")
	write(t, dir+"/z.yaml", manifest("db", "10.96.0.99"))
	l.fault(t, "z.yaml: Service shop/db is in ")
	require.NoError(t, os.Remove(dir+"/z.yaml"))
	require.NoError(t, os.RemoveAll(dir+"/new"))
	require.Equal(t, []string{"-shop/db=10.96.0.3"}, l.batch(t, 3))
	write(t, dir+"/a.yaml", manifest("web", "10.96.0.4"))
	require.Equal(t, []string{"~shop/web=10.96.0.4"}, l.batch(t, 4))
}

// What is right in a file counts, also beside something with a fault, which stays as it was; every fault is told.
func TestFaultsInAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {clusterIPP: 10.96.0.9}\n"
	broken := "apiVersion: v1\nkind: [Service\n"
	write(t, dir+"/a.yaml", broken+"---\n"+manifest("web", "10.96.0.1")+"---\n"+bad+"---\n"+manifest("db", "10.96.0.2"))
	l := run(t, source.Directory(dir))
	require.Equal(t, []string{"+shop/db=10.96.0.2", "+shop/web=10.96.0.1"}, l.batch(t, 0))
	l.fault(t, "document 1: ")
	l.fault(t, "document 3: strict decoding error")
	write(t, dir+"/a.yaml", manifest("web", "10.96.0.3")+"---\n"+bad)
	require.Equal(t, []string{"~shop/web=10.96.0.3"}, l.batch(t, 1), "db is not known to be gone")
	write(t, dir+"/a.yaml", manifest("web", "10.96.0.3"))
	require.Equal(t, []string{"-shop/db=10.96.0.2"}, l.batch(t, 2))
}

// A file that is written in place is empty for a moment, and that is not taken for its content. Changes without a pause are seen all
// the same.
func TestWrittenInPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/a.yaml", manifest("web", "10.96.0.1"))
	l := run(t, source.Directory(dir))
	require.Equal(t, []string{"+shop/web=10.96.0.1"}, l.batch(t, 0))
	f, err := os.Create(dir + "/a.yaml")
	require.NoError(t, err)
	defer f.Close()
	late := time.Now().Add(time.Minute) // as if it had begun just now, however slow this machine is
	require.NoError(t, os.Chtimes(dir+"/a.yaml", late, late))
	for begin := time.Now(); len(l.seen()) < 2 && time.Since(begin) < slow; {
		write(t, dir+"/b.yaml", manifest("db", "10.96.0.2"))
		write(t, dir+"/busy", time.Now().String())
		time.Sleep(time.Millisecond)
	}
	require.Equal(t, []string{"+shop/db=10.96.0.2"}, l.batch(t, 1))
	_, err = f.WriteString(manifest("web", "10.96.0.3"))
	require.NoError(t, err)
	require.Equal(t, []string{"~shop/web=10.96.0.3"}, l.batch(t, 2))
}

// A mounted ConfigMap changes by swapping a link to a hidden folder.
func TestSwappedLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/..1/web.yaml", manifest("web", "10.96.0.1"))
	require.NoError(t, os.Symlink("..1", dir+"/..data"))
	require.NoError(t, os.Symlink("..data/web.yaml", dir+"/web.yaml"))
	l := run(t, source.Directory(dir))
	require.Equal(t, []string{"+shop/web=10.96.0.1"}, l.batch(t, 0))
	write(t, dir+"/..2/web.yaml", manifest("web", "10.96.0.2"))
	require.NoError(t, os.Symlink("..2", dir+"/..next"))
	require.NoError(t, os.Rename(dir+"/..next", dir+"/..data"))
	require.Equal(t, []string{"~shop/web=10.96.0.2"}, l.batch(t, 1))
}

func TestOneFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "objects")
	write(t, path, manifest("web", "10.96.0.1"))
	write(t, filepath.Dir(path)+"/other.yaml", manifest("other", "10.96.0.2"))
	l := run(t, source.Directory(path))
	require.Equal(t, []string{"+shop/web=10.96.0.1"}, l.batch(t, 0))
	write(t, path, "")
	require.Equal(t, []string{"-shop/web=10.96.0.1"}, l.batch(t, 1))
}

func TestNothingThere(t *testing.T) {
	t.Parallel()
	err := source.Directory(t.TempDir()+"/none").Run(t.Context(), scheme.Scheme, services, source.Receiver{})
	require.ErrorIs(t, err, os.ErrNotExist)
	l := run(t, source.Directory(t.TempDir()))
	require.Empty(t, l.batch(t, 0), "nothing is a state too")
}

func TestUnknownKind(t *testing.T) {
	t.Parallel()
	err := source.Directory(t.TempDir()).Run(t.Context(), runtime.NewScheme(), services, source.Receiver{})
	require.True(t, runtime.IsNotRegisteredError(err), err)
}

// server speaks just enough of the API: lists, and watches that end at once or send what the test says.
func server(t *testing.T, events <-chan string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		kind := map[string]string{"/api/v1/services": "Service", "/api/v1/namespaces": "Namespace"}[r.URL.Path]
		switch {
		case kind == "":
			http.NotFound(w, r)
		case r.URL.Query().Get("watch") == "":
			items := ""
			if kind == "Service" {
				items = `{"metadata":{"name":"web","namespace":"shop","resourceVersion":"7","managedFields":[{"manager":"x"}]},"spec":{"clusterIP":"10.96.0.1"}}`
			}
			fmt.Fprintf(w, `{"kind":"%sList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[%s]}`, kind, items)
		case kind == "Service" && r.URL.Query().Get("sendInitialEvents") == "":
			w.(http.Flusher).Flush()
			for {
				select {
				case <-r.Context().Done():
					return
				case event := <-events:
					if event == "end" {
						return
					}
					fmt.Fprintln(w, event)
					w.(http.Flusher).Flush()
				}
			}
		case r.URL.Query().Get("sendInitialEvents") != "":
			w.WriteHeader(http.StatusUnprocessableEntity) // a server that has no streaming lists
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		default:
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func event(kind, name, ip, version string) string {
	return fmt.Sprintf(`{"type":%q,"object":{"kind":"Service","apiVersion":"v1","metadata":{"name":%q,"namespace":"shop","resourceVersion":%q},"spec":{"clusterIP":%q}}}`, kind, name, version, ip)
}

func TestAPIServer(t *testing.T) {
	t.Parallel()
	events := make(chan string)
	s := server(t, events)
	l := run(t, source.APIServer{Config: &rest.Config{Host: s.URL}})
	require.Equal(t, []string{"+shop/web=10.96.0.1"}, l.batch(t, 0))
	events <- event("MODIFIED", "web", "10.96.0.2", "8")
	require.Equal(t, []string{"~shop/web=10.96.0.2"}, l.batch(t, 1))
	events <- event("ADDED", "db", "10.96.0.3", "9")
	require.Equal(t, []string{"+shop/db=10.96.0.3"}, l.batch(t, 2))
	events <- "end" // a watch that ends goes on where it was
	events <- event("DELETED", "db", "10.96.0.3", "10")
	require.Equal(t, []string{"-shop/db=10.96.0.3"}, l.batch(t, 3))
	// The server has forgotten where we were: everything is listed anew, and what changed meanwhile is told.
	events <- `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}}`
	require.Equal(t, []string{"~shop/web=10.96.0.1"}, l.batch(t, 4))
}
