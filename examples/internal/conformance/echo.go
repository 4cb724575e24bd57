package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// handler has the paths of the image.
func (p *pod) handler() http.Handler {
	failing := &failing{tries: map[string]int{}}
	socket := websocket.Server{Handler: func(c *websocket.Conn) { _, _ = io.Copy(c, c) }} // from any origin
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch code, isStatus := strings.CutPrefix(r.URL.Path, "/status/"); {
		case r.URL.Path == "/ws":
			socket.ServeHTTP(w, r)
		case isStatus:
			n, err := strconv.Atoi(code)
			if err != nil || n < 100 || n > 999 {
				n = http.StatusBadRequest
			}
			w.WriteHeader(n)
		case strings.HasPrefix(r.URL.Path, "/retry/"):
			if !failing.fail(w, r) {
				p.echo(w, r)
			}
		default:
			p.echo(w, r)
		}
	})
}

// echo tells what has come.
func (p *pod) echo(w http.ResponseWriter, r *http.Request) {
	p.log.printf("Echoing back request made to %s to client (%s)", r.RequestURI, r.RemoteAddr)
	if !delay(w, r, "delay") {
		return
	}
	for _, list := range r.Header["X-Echo-Set-Header"] {
		for one := range strings.SplitSeq(list, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(one), ":")
			if have := w.Header()[name]; len(have) > 0 {
				have[0] += "," + strings.TrimSpace(value)
			} else {
				w.Header()[name] = []string{value} // as it is written
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"path": r.RequestURI, "host": r.Host, "method": r.Method, "proto": r.Proto, "headers": r.Header, "httpPort": "3000",
		"namespace": p.namespace, "pod": p.name, "service": "", "ingress": "",
	})
}

// delay waits as long as a parameter of the request says.
func delay(w http.ResponseWriter, r *http.Request, name string) bool {
	text := r.FormValue(name)
	if text == "" {
		return true
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return false
	}
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}

// failing lets the first requests of each name fail.
type failing struct {
	mu    sync.Mutex
	tries map[string]int
}

func (f *failing) fail(w http.ResponseWriter, r *http.Request) bool {
	query := r.URL.Query()
	after, err := strconv.Atoi(query.Get("succeedAfter"))
	if err != nil || query.Get("uuid") == "" {
		http.Error(w, "uuid and succeedAfter are needed", http.StatusBadRequest)
		return true
	}
	f.mu.Lock()
	n := f.tries[query.Get("uuid")]
	if n < after {
		f.tries[query.Get("uuid")] = n + 1
	}
	f.mu.Unlock()
	if n >= after {
		return false
	}
	if !delay(w, r, "delayRetry") {
		return true
	}
	if code, err := strconv.Atoi(query.Get("responseCode")); err == nil {
		w.WriteHeader(code)
		return true
	}
	if hijacker, ok := w.(http.Hijacker); ok {
		if c, _, err := hijacker.Hijack(); err == nil {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // a reset
			}
			_ = c.Close()
		}
	}
	return true
}

// echoGRPC is the same for gRPC.
type echoGRPC struct {
	pb.UnimplementedGrpcEchoServer
	pod *pod
}

func registerEcho(s *grpc.Server, p *pod) { pb.RegisterGrpcEchoServer(s, &echoGRPC{pod: p}) }

// Echo implements the service.
func (e *echoGRPC) Echo(ctx context.Context, _ *pb.EchoRequest) (*pb.EchoResponse, error) {
	return e.answer(ctx, "Echo"), nil
}

// EchoTwo implements the service.
func (e *echoGRPC) EchoTwo(ctx context.Context, _ *pb.EchoRequest) (*pb.EchoResponse, error) {
	return e.answer(ctx, "EchoTwo"), nil
}

func (e *echoGRPC) answer(ctx context.Context, method string) *pb.EchoResponse {
	said := &pb.Assertions{
		FullyQualifiedMethod: fmt.Sprintf("/%s/%s", pb.GrpcEcho_ServiceDesc.ServiceName, method),
		Context:              &pb.Context{Namespace: e.pod.namespace, Pod: e.pod.name},
	}
	sent, _ := metadata.FromIncomingContext(ctx)
	for name, values := range sent {
		for _, v := range values {
			said.Headers = append(said.Headers, &pb.Header{Key: name, Value: v})
			if name == ":authority" {
				said.Authority = v
			}
		}
	}
	return &pb.EchoResponse{Assertions: said}
}
