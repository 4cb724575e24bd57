package workloadapi_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/mesh/identity"
	served "github.com/podplumb/podplumb/examples/mesh/workloadapi"
	"github.com/podplumb/podplumb/netns"
)

// envClient set: this process is a workload that prints its identity.
const envClient = "PODPLUMB_MESH_TEST_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(envClient); socket != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		svid, err := workloadapi.FetchX509SVID(ctx, workloadapi.WithAddr(socket))
		if err != nil {
			_, _ = os.Stdout.WriteString(status.Code(err).String())
			return
		}
		_, _ = os.Stdout.WriteString(svid.ID.String())
		return
	}
	os.Exit(kerneltest.Main(m, nil))
}

var (
	domain = spiffeid.RequireTrustDomainFromString("cluster.local")
	web    = spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/web")
)

func serve(t *testing.T, ca *identity.CA, who served.Attestor) (address string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- served.Serve(ctx, l, served.Config{Issuer: ca, Attestor: who, Failed: func(err error) { t.Log(err) }})
	}()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return "unix://" + path
}

func newCA(t *testing.T, c identity.Config) *identity.CA {
	t.Helper()
	c.TrustDomain = domain
	ca, err := identity.OpenCA(c)
	require.NoError(t, err)
	return ca
}

// The stock client follows renewals of its identity and of the roots.
func TestStockClient(t *testing.T) {
	t.Parallel()
	ca := newCA(t, identity.Config{Leaf: 2 * time.Second, Spread: 200 * time.Millisecond, Root: time.Hour})
	go func() { _ = ca.Run(t.Context(), func(err error) { t.Error(err) }) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	options := workloadapi.WithClientOptions(workloadapi.WithAddr(serve(t, ca, served.Only(web))))
	source, err := workloadapi.NewX509Source(ctx, options)
	require.NoError(t, err)
	defer source.Close()
	bundles, err := workloadapi.NewBundleSource(ctx, options) // which waits for those of JWTs too
	require.NoError(t, err)
	defer bundles.Close()
	_, err = bundles.GetX509BundleForTrustDomain(domain)
	require.NoError(t, err)
	first, err := source.GetX509SVID()
	require.NoError(t, err)
	require.Equal(t, web, first.ID)
	require.NoError(t, ca.Rotate())
	rotated := false
	for {
		svid, err := source.GetX509SVID()
		require.NoError(t, err)
		bundle, err := source.GetX509BundleForTrustDomain(domain)
		require.NoError(t, err)
		_, _, err = x509svid.Verify(svid.Certificates, bundle)
		require.NoError(t, err)
		rotated = rotated || len(bundle.X509Authorities()) == 2
		if rotated && svid.Certificates[0].SerialNumber.Cmp(first.Certificates[0].SerialNumber) != 0 {
			break
		}
		require.NoError(t, source.WaitUntilUpdated(ctx))
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	ca := newCA(t, identity.Config{})
	conn, err := grpc.NewClient(serve(t, ca, served.Only(web)), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	client := workload.NewSpiffeWorkloadAPIClient(conn)
	svids := func(values ...string) error {
		ctx := t.Context()
		for _, v := range values {
			ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", v)
		}
		stream, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
		require.NoError(t, err)
		_, err = stream.Recv()
		return err
	}
	require.NoError(t, svids("true"))
	for _, values := range [][]string{nil, {"false"}, {"TRUE"}, {"true", "true"}} {
		require.Equal(t, codes.InvalidArgument, status.Code(svids(values...)), values)
	}
	bundles, err := client.FetchX509Bundles(t.Context(), &workload.X509BundlesRequest{})
	require.NoError(t, err)
	_, err = bundles.Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = client.FetchJWTSVID(t.Context(), &workload.JWTSVIDRequest{Audience: []string{"a"}})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	header := metadata.AppendToOutgoingContext(t.Context(), "workload.spiffe.io", "true")
	_, err = client.FetchJWTSVID(header, &workload.JWTSVIDRequest{Audience: []string{"a"}})
	require.Equal(t, codes.Unimplemented, status.Code(err))
	bundles, err = client.FetchX509Bundles(header, &workload.X509BundlesRequest{})
	require.NoError(t, err)
	got, err := bundles.Recv()
	require.NoError(t, err)
	roots, _ := ca.Bundle()
	require.Equal(t, map[string][]byte{"spiffe://cluster.local": roots.X509Authorities()[0].Raw}, got.Bundles)
}

// A caller gets the identity of the pod whose namespace it runs in.
func TestByNetNS(t *testing.T) {
	kerneltest.Require(t)
	t.Parallel()
	pods := map[netns.ID]spiffeid.ID{}
	var namespaces []*netns.NS
	for _, name := range []string{"web", "db", ""} {
		ns, err := netns.New()
		require.NoError(t, err)
		defer ns.Close()
		namespaces = append(namespaces, ns)
		if name == "" {
			continue
		}
		id, err := ns.ID()
		require.NoError(t, err)
		pods[id], err = identity.IDOf(domain, "shop", name)
		require.NoError(t, err)
	}
	address := serve(t, newCA(t, identity.Config{}), served.ByNetNS(func(id netns.ID) (spiffeid.ID, bool) {
		found, ok := pods[id]
		return found, ok
	}))
	self, err := os.Executable()
	require.NoError(t, err)
	for i, want := range []string{"spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/db", "PermissionDenied"} {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), envClient+"="+address, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, namespaces[i].Start(cmd))
		buf := make([]byte, 200)
		n, _ := out.Read(buf)
		require.NoError(t, cmd.Wait())
		require.Equal(t, want, string(buf[:n]))
	}
}
