package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Kinds of questions for [Lookup].
const (
	A    = "A"
	AAAA = "AAAA"
	SRV  = "SRV"
	PTR  = "PTR"
)

// Found is what a process in a pod finds under a name, by the /etc/resolv.conf that it has there.
type Found struct {
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`
	Records []string `json:"records,omitempty"` // sorted: addresses, "PORT NAME" of SRV, or names
	Missing bool     `json:"missing,omitempty"` // there is no such name, or it has no such records
}

// Lookup has the container at via look a name up, or an address for PTR.
func Lookup(ctx context.Context, dial Dialer, via netip.AddrPort, kind, name string) (Found, error) {
	var found Found
	err := fetch(ctx, dial, "http://"+via.String()+"/?kind="+kind+"&lookup="+url.QueryEscape(name), &found, nil)
	return found, err
}

// look answers the request of Lookup.
func look(w http.ResponseWriter, r *http.Request, kind, name string) {
	found, err := resolve(r.Context(), kind, name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(found) // an error here is the client's to notice
}

// resolve uses Go's own resolver, which reads /etc/resolv.conf as others do; strictly, so that a server that fails is no
// name that is missing.
func resolve(ctx context.Context, kind, name string) (Found, error) {
	resolver := &net.Resolver{PreferGo: true, StrictErrors: true}
	found := Found{Kind: kind, Name: name}
	var err error
	switch kind {
	case A, AAAA:
		var addrs []netip.Addr
		addrs, err = resolver.LookupNetIP(ctx, map[string]string{A: "ip4", AAAA: "ip6"}[kind], name)
		for _, a := range addrs {
			found.Records = append(found.Records, a.Unmap().String())
		}
	case SRV:
		var records []*net.SRV
		_, records, err = resolver.LookupSRV(ctx, "", "", name)
		for _, s := range records {
			found.Records = append(found.Records, fmt.Sprintf("%d %s", s.Port, strings.TrimSuffix(s.Target, ".")))
		}
	case PTR:
		var names []string
		names, err = resolver.LookupAddr(ctx, name)
		for _, n := range names {
			found.Records = append(found.Records, strings.TrimSuffix(n, "."))
		}
	default:
		return found, fmt.Errorf("%q is no kind of question", kind)
	}
	slices.Sort(found.Records)
	found.Records = slices.Compact(found.Records)
	var fault *net.DNSError
	if errors.As(err, &fault) && fault.IsNotFound {
		found.Missing, err = true, nil
	}
	return found, err
}
