package workloadapi

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/podplumb/podplumb/examples/mesh/identity"
)

// Config says what is served.
type Config struct {
	Issuer   identity.Issuer // of the identities and of the roots; required
	Attestor Attestor        // required

	// Failed, when set, is told when an identity cannot be renewed, which is
	// tried again.
	Failed func(error)
}

// Serve answers on the listener until ctx ends, and closes it.
func Serve(ctx context.Context, l *net.UnixListener, c Config) error {
	if c.Failed == nil {
		c.Failed = func(error) {}
	}
	server := grpc.NewServer(
		grpc.Creds(transport{c.Attestor}),
		grpc.UnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := checkHeader(ctx); err != nil {
				return nil, err
			}
			return next(ctx, request)
		}),
		grpc.StreamInterceptor(func(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := checkHeader(stream.Context()); err != nil {
				return err
			}
			return next(service, stream)
		}),
	)
	workload.RegisterSpiffeWorkloadAPIServer(server, &service{config: c})
	defer context.AfterFunc(ctx, server.Stop)()
	if err := server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("workloadapi: serve %s: %w", l.Addr(), err)
	}
	return nil
}

// checkHeader refuses calls that a browser or a proxy could have been talked
// into: they cannot set this header.
func checkHeader(ctx context.Context) error {
	in, _ := metadata.FromIncomingContext(ctx)
	if values := in.Get("workload.spiffe.io"); len(values) != 1 || values[0] != "true" {
		return status.Error(codes.InvalidArgument, "the metadata workload.spiffe.io: true is missing")
	}
	return nil
}

// transport attests each connection as it is made.
type transport struct{ attestor Attestor }

// caller is who a connection comes from.
type caller struct {
	id  spiffeid.ID
	err error
}

func (caller) AuthType() string { return "unix" }

func (t transport) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("%T is no Unix socket", conn)
	}
	id, err := t.attestor.Attest(socket)
	return conn, caller{id, err}, nil // told to whoever calls, not to the connection
}

func (transport) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.ErrUnsupported
}

func (transport) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}
func (t transport) Clone() credentials.TransportCredentials { return t }
func (transport) OverrideServerName(string) error           { return errors.ErrUnsupported }

type service struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	config Config
}

// who is the identity of the caller.
func who(ctx context.Context) (spiffeid.ID, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return spiffeid.ID{}, status.Error(codes.Internal, "no peer")
	}
	c, ok := p.AuthInfo.(caller)
	switch {
	case !ok:
		return spiffeid.ID{}, status.Error(codes.Internal, "the connection was not attested")
	case c.err != nil:
		return spiffeid.ID{}, status.Error(codes.PermissionDenied, c.err.Error())
	}
	return c.id, nil
}

// FetchX509SVID implements the stream of the same name.
func (s *service) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	id, err := who(stream.Context())
	if err != nil {
		return err
	}
	err = identity.Keep(stream.Context(), s.config.Issuer, id, func(svid *x509svid.SVID, bundle *x509bundle.Bundle) error {
		key, err := x509.MarshalPKCS8PrivateKey(svid.PrivateKey)
		if err != nil {
			return err
		}
		return stream.Send(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{{
			SpiffeId: id.String(), X509Svid: concat(svid.Certificates), X509SvidKey: key, Bundle: concat(bundle.X509Authorities()),
		}}})
	}, s.config.Failed)
	return ended(stream.Context(), err)
}

// FetchX509Bundles implements the stream of the same name.
func (s *service) FetchX509Bundles(_ *workload.X509BundlesRequest, stream grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	if _, err := who(stream.Context()); err != nil {
		return err
	}
	for {
		bundle, changed := s.config.Issuer.Bundle()
		if err := stream.Send(&workload.X509BundlesResponse{Bundles: map[string][]byte{
			bundle.TrustDomain().IDString(): concat(bundle.X509Authorities()),
		}}); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return ended(stream.Context(), stream.Context().Err())
		case <-changed:
		}
	}
}

// FetchJWTBundles implements the stream of the same name: no JWT-SVIDs are issued, so there are no keys for any. Sources that
// wait for both kinds of bundles get theirs.
func (s *service) FetchJWTBundles(_ *workload.JWTBundlesRequest, stream grpc.ServerStreamingServer[workload.JWTBundlesResponse]) error {
	if _, err := who(stream.Context()); err != nil {
		return err
	}
	bundle, _ := s.config.Issuer.Bundle()
	if err := stream.Send(&workload.JWTBundlesResponse{Bundles: map[string][]byte{bundle.TrustDomain().IDString(): []byte(`{"keys":[]}`)}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return ended(stream.Context(), stream.Context().Err())
}

// ended is the status of a stream that ended with err.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unavailable, err.Error())
}

// concat is certificates one after the other, in DER.
func concat(certificates []*x509.Certificate) []byte {
	var der []byte
	for _, c := range certificates {
		der = append(der, c.Raw...)
	}
	return der
}
