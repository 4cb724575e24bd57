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
	"slices"
	"strings"
)

// Answer is what a container tells a client.
type Answer struct {
	Pod       string         `json:"pod"`
	Container string         `json:"container"`
	Addresses []netip.Addr   `json:"addresses"` // that the container finds on its interfaces, without loopback and link-local
	Client    netip.AddrPort `json:"client"`    // where the packets came from, as the container sees it
	Server    netip.AddrPort `json:"server"`    // where they arrived, as the container sees it
}

// Asked is an answer with what only the client knows.
type Asked struct {
	Answer
	From netip.AddrPort // the client's own address before any translation on the way
}

// Addresses returns the addresses of the interfaces in the process's namespace, IPv4 before IPv6, without loopback and link-local ones.
func Addresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, addr := range all {
		prefix, err := netip.ParsePrefix(addr.String())
		if err != nil {
			return nil, err
		}
		if addr := prefix.Addr(); addr.IsGlobalUnicast() {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, nil
}

// Dialer opens connections, from inside a namespace when it is the DialContext of a netns.NS.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Ask sends one HTTP request over a connection of its own and returns the answer.
func Ask(ctx context.Context, dial Dialer, to netip.AddrPort) (Asked, error) {
	return get(ctx, dial, "http://"+to.String()+"/")
}

// AskThrough has the container at via ask another one, named as host:port, and returns what that one said.
func AskThrough(ctx context.Context, dial Dialer, via netip.AddrPort, to string) (Answer, error) {
	asked, err := get(ctx, dial, "http://"+via.String()+"/?ask="+url.QueryEscape(to))
	return asked.Answer, err
}

func get(ctx context.Context, dial Dialer, target string) (Asked, error) {
	var asked Asked
	if err := fetch(ctx, dial, target, &asked.Answer, &asked.From); err != nil {
		return Asked{}, err
	}
	return asked, nil
}

// fetch asks a container and decodes what it says. from is set to the client's own address, unless it is nil.
func fetch(ctx context.Context, dial Dialer, target string, into any, from *netip.AddrPort) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil && from != nil {
			*from = unmap(conn.LocalAddr().(*net.TCPAddr).AddrPort())
		}
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body := io.LimitReader(response.Body, 1<<16)
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(body)
		return fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	return decode(body, into)
}

// AskUDP sends one datagram and returns the answer.
func AskUDP(ctx context.Context, dial Dialer, to netip.AddrPort) (Asked, error) {
	conn, err := dial(ctx, "udp", to.String())
	if err != nil {
		return Asked{}, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := conn.Write([]byte("who are you?\n")); err != nil {
		return Asked{}, err
	}
	asked := Asked{From: unmap(conn.LocalAddr().(*net.UDPAddr).AddrPort())}
	return asked, decode(conn, &asked.Answer)
}

func decode(r io.Reader, into any) error {
	if err := json.NewDecoder(r).Decode(into); err != nil {
		return fmt.Errorf("not the answer of a container: %w", err)
	}
	return nil
}

// unmap writes IPv4 addresses as such: sockets of both families see them inside ::ffff:0:0/96.
func unmap(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
