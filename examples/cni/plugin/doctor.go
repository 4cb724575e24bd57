package plugin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/netns"
)

// doctor runs CHECK on every attachment of the node and says what to do about what it finds. It returns the exit code: 0 when all is
// well, 1 when something is not, 2 when it could not look.
func (p *plugin) doctor(ctx context.Context, args []string, out io.Writer) int {
	flags := flag.NewFlagSet("podplumb-cni doctor", flag.ContinueOnError)
	flags.SetOutput(out)
	dir := flags.String("data", DefaultDataDir, "dataDir of the networks")
	only := flags.String("network", "", "look at this network alone")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	s := record.Store{Dir: *dir}
	networks, err := s.Networks()
	if err != nil {
		fmt.Fprintln(out, err)
		return 2
	}
	slices.Sort(networks)
	code := 0
	for _, n := range networks {
		if *only != "" && n != *only {
			continue
		}
		sick, err := p.examine(ctx, s, n, out)
		if err != nil {
			fmt.Fprintf(out, "%s: %v\n", n, err)
			return 2
		}
		if sick {
			code = 1
		}
	}
	return code
}

// examine looks at one network.
func (p *plugin) examine(ctx context.Context, s record.Store, network string, out io.Writer) (sick bool, err error) {
	files, err := s.List(network)
	if err != nil {
		return false, err
	}
	slices.Sort(files)
	owners := map[uint64]bool{}
	for _, name := range files {
		f, err := s.OpenFile(ctx, network, name)
		if err != nil {
			continue // gone meanwhile
		}
		faults := []error{errors.New("ADD was killed before it wrote anything down\nfix: DEL or GC removes the file")}
		title := network + "/" + strings.Replace(name, "@", "/", 1)
		if a := f.Have; a != nil {
			owners[ipam.Owner{ContainerID: a.ContainerID, IfName: a.IfName}.ID()] = true
			title = a.String() + " " + text(a.Addresses)
			faults, err = p.diagnose(ctx, s, a)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return sick, fmt.Errorf("%s: %w", title, err)
		}
		if len(faults) == 0 {
			fmt.Fprintf(out, "%s: ok\n", title)
			continue
		}
		sick = true
		fmt.Fprintf(out, "%s: %d found\n", title, len(faults))
		for _, fault := range faults {
			fmt.Fprintf(out, "  %s\n", strings.ReplaceAll(fault.Error(), "\n", "\n  "))
		}
	}
	lost, err := strayLeases(ctx, s, network, owners)
	for _, a := range lost {
		sick = true
		fmt.Fprintf(out, "%s %s: leased without a record\n  fix: GC gives it back, unless its container is still valid\n", network, a)
	}
	return sick, err
}

// diagnose is CHECK with what to do about each fault.
func (p *plugin) diagnose(ctx context.Context, s record.Store, a *record.Attachment) ([]error, error) {
	if !a.Done {
		return []error{errors.New("ADD was killed before its end\nfix: the runtime's DEL, or GC, removes what there is of it")}, nil
	}
	if ns, err := netns.Open(a.NetNS); err != nil {
		return []error{fmt.Errorf("the container's namespace %s is gone\nfix: the runtime's DEL, or GC, removes the rest", a.NetNS)}, nil
	} else if err := ns.Close(); err != nil {
		return nil, err
	}
	faults, err := p.damage(ctx, s, a)
	for i, f := range faults {
		faults[i] = fmt.Errorf("%w\nfix: %s", f, remedy(f, a))
	}
	return faults, err
}

// remedy says how to repair what CHECK found.
func remedy(fault error, a *record.Attachment) string {
	msg := fault.Error()
	if name, rest, ok := strings.Cut(strings.TrimPrefix(msg, "sysctl "), " is "); ok && strings.HasPrefix(msg, "sysctl net.") {
		_, want, _ := strings.Cut(rest, " instead of ")
		if name, ok := strings.CutSuffix(name, " of the container"); ok {
			return fmt.Sprintf("nsenter --net=%s sysctl -w %s=%s", a.NetNS, name, want)
		}
		return fmt.Sprintf("sysctl -w %s=%s", name, want)
	}
	if strings.HasPrefix(msg, "table ") {
		return "nothing, it is repaired; find out who changes the rules of others"
	}
	return "remove the container; its runtime makes another one"
}

func text(list []netip.Prefix) string {
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = p.String()
	}
	return strings.Join(parts, ",")
}

// strayLeases are addresses whose owner has no record.
func strayLeases(ctx context.Context, s record.Store, network string, owners map[uint64]bool) (out []netip.Addr, err error) {
	err = withLeases(ctx, s, network, func(leases *ipam.Store) error {
		return leases.Each(func(a netip.Addr, owner uint64) {
			if !owners[owner] {
				out = append(out, a)
			}
		})
	})
	return out, err
}
