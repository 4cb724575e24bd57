package container

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// readyReport is what a container writes to readyFD when it listens on all ports. Anything else is its reason for giving up.
const (
	readyReport = "ready" // followed by the number of each port
	readyFD     = 3
)

// Main returns at once in an ordinary process. In one that Serve has started it is the container, in one that a command has
// started as "ask" it is that client, and does not return.
func Main() {
	switch {
	case os.Args[0] == program:
		os.Exit(run(os.Args[1], os.Args[2], os.Args[3:]))
	case filepath.Base(os.Args[0]) == askProgram && os.Getenv(Marker) != "":
		os.Exit(ask(os.Args[1:]))
	}
}

// ask is what commands can do without any program being installed: "ask HOST:PORT" prints what the container there answers.
func ask(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: ask HOST:PORT")
		return 1
	}
	address := args[0]
	if port, ok := strings.CutPrefix(address, "localhost:"); ok {
		address = "127.0.0.1:" + port // needs no resolver
	}
	response, err := http.Get((&url.URL{Scheme: "http", Host: address}).String())
	if err != nil {
		fmt.Fprintln(os.Stderr, "ask:", err)
		return 1
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil || response.StatusCode != http.StatusOK {
		fmt.Fprintln(os.Stderr, "ask:", response.Status, err)
		return 1
	}
	return 0
}

func run(pod, name string, ports []string) int {
	ready := os.NewFile(readyFD, "ready")
	failed := make(chan error, len(ports))
	report := readyReport
	for _, port := range ports {
		addr, err := listen(pod, name, port, failed)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			fmt.Fprintln(ready, err)
			return 1
		}
		report += fmt.Sprint(" ", netip.MustParseAddrPort(addr.String()).Port())
	}
	fmt.Fprintln(ready, report)
	ready.Close()
	go func() {
		if waitForStarter() {
			failed <- errStarterGone
		}
	}()
	fmt.Fprintln(os.Stderr, <-failed)
	return 1
}

// listen opens one port, in both address families, and serves it in the background.
func listen(pod, name, port string, failed chan<- error) (net.Addr, error) {
	network, number, _ := strings.Cut(port, "/")
	switch network {
	case "tcp":
		listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", ":"+number)
		if err != nil {
			return nil, err
		}
		go func() { failed <- http.Serve(listener, handler(pod, name)) }()
		return listener.Addr(), nil
	case "udp":
		conn, err := net.ListenPacket("udp", ":"+number)
		if err != nil {
			return nil, err
		}
		go func() { failed <- serveUDP(conn.(*net.UDPConn), pod, name) }()
		return conn.LocalAddr(), nil
	}
	return nil, fmt.Errorf("cannot listen on %s", port)
}

// handler answers every request with an [Answer] in JSON. With ?ask=HOST:PORT in the request it asks that container itself and
// passes on what it got, and with ?lookup=NAME&kind=A it answers with what it [Found]: ways to see the network from inside the pod.
func handler(pod, name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if address := r.URL.Query().Get("ask"); address != "" {
			passOn(w, r, address)
			return
		}
		if name := r.URL.Query().Get("lookup"); name != "" {
			look(w, r, r.URL.Query().Get("kind"), name)
			return
		}
		own, err := Addresses()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		client, _ := netip.ParseAddrPort(r.RemoteAddr)
		answer := Answer{Pod: pod, Container: name, Addresses: own, Client: unmap(client)}
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
			answer.Server = unmap(local.AddrPort())
		}
		_ = json.NewEncoder(w).Encode(answer) // an error here is the client's to notice
	})
}

func passOn(w http.ResponseWriter, r *http.Request, address string) {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, (&url.URL{Scheme: "http", Host: address}).String(), nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body)
}

func serveUDP(conn *net.UDPConn, pod, name string) error {
	buffer := make([]byte, 2048)
	for {
		_, client, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return err
		}
		own, err := Addresses()
		if err != nil {
			return err
		}
		local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
		data, _ := json.Marshal(Answer{Pod: pod, Container: name, Addresses: own, Client: unmap(client), Server: local})
		_, _ = conn.WriteToUDPAddrPort(append(data, '\n'), client) // an answer that gets lost is UDP's way
	}
}
