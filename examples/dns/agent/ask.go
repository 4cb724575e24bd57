package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/dns/records"
	"github.com/podplumb/podplumb/examples/dns/server"
	"github.com/podplumb/podplumb/examples/internal/source"
)

// cutQuestion separates the flags from "ask NAME [TYPE...]".
func cutQuestion(args []string) (question, flags []string) {
	if i := slices.Index(args, "ask"); i >= 0 {
		return args[i+1:], args[:i]
	}
	return nil, args
}

// ask answers one question for each type as the server would, on a socket of its own.
func ask(ctx context.Context, o *options, question []string, stdout io.Writer, log *slog.Logger) error {
	if len(question) == 0 {
		return fmt.Errorf("ask: the name is missing")
	}
	types, err := questionTypes(question[1:])
	if err != nil {
		return err
	}
	objects, err := source.Choose(o.directory, o.kubeconfig, o.master, "podplumb-dns")
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", listener.Addr().String())
	if err != nil {
		_ = listener.Close()
		return err
	}
	store := new(records.Store)
	o.config.Store, o.config.Listeners, o.config.Packets = store, []net.Listener{listener}, []net.PacketConn{packets}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, o.config) })
	group.Go(func() error { return follow(ctx, objects, store, log) })
	group.Go(func() error {
		defer cancel()
		for store.Snapshot() == nil { // the first answer would be to ask again
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Millisecond):
			}
		}
		for _, t := range types {
			m := new(dns.Msg).SetQuestion(dns.Fqdn(question[0]), t)
			reply, _, err := (&dns.Client{Net: "tcp"}).ExchangeContext(ctx, m, listener.Addr().String())
			if err != nil {
				return err
			}
			show(stdout, reply)
		}
		return nil
	})
	return group.Wait()
}

func questionTypes(names []string) ([]uint16, error) {
	if len(names) == 0 {
		return []uint16{dns.TypeA, dns.TypeAAAA}, nil
	}
	var types []uint16
	for _, name := range names {
		t, ok := dns.StringToType[strings.ToUpper(name)]
		if !ok {
			return nil, fmt.Errorf("ask: %q is no type of records (A, AAAA, SRV, PTR, TXT, CNAME ...)", name)
		}
		types = append(types, t)
	}
	return types, nil
}

func show(stdout io.Writer, reply *dns.Msg) {
	q := reply.Question[0]
	fmt.Fprintf(stdout, "%s %s: %s\n", q.Name, dns.Type(q.Qtype), dns.RcodeToString[reply.Rcode])
	for _, section := range [][]dns.RR{reply.Answer, reply.Extra} {
		for _, rr := range section {
			if rr.Header().Rrtype != dns.TypeOPT {
				fmt.Fprintln(stdout, "  "+strings.Join(strings.Fields(rr.String()), " "))
			}
		}
	}
}
