package conditions

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Result is what was found about one condition.
type Result struct {
	Number   int
	Title    string
	Summary  string   // what was tried, in one line
	Evidence []string // what was seen, one line each
	Faults   []error  // empty: the condition holds
}

// Holds tells whether the condition holds.
func (r Result) Holds() bool { return len(r.Faults) == 0 }

// Check sends the probes and returns a result for each condition, and a word on what it did. Its error is that of a cancelled
// context.
func Check(ctx context.Context, pods, nodes []Host) (results []Result, outcome string, err error) {
	podToPod, pairs, tried := podProbes(pods)
	if err := run(ctx, podToPod); err != nil {
		return nil, "", err
	}
	var nodeToPod []*probe
	for i := range nodes {
		step := max(1, 2*len(nodes)*len(pods)/mostProbes)
		for j := i % step; j < len(pods); j += step {
			nodeToPod = append(nodeToPod, probesTo(&nodes[i], &pods[j])...)
		}
	}
	if err := run(ctx, nodeToPod); err != nil {
		return nil, "", err
	}
	all := append(slices.Clone(podToPod), nodeToPod...)

	two := paths(podToPod)
	two.Number, two.Title = 2, "every pod reaches every other pod without NAT"
	two.Summary = fmt.Sprintf("%d connections between %d pairs of pods", len(podToPod), tried)
	if tried < pairs {
		two.Summary += fmt.Sprintf(", a sample of all %d", pairs)
	}
	three := paths(nodeToPod)
	three.Number, three.Title = 3, "every node reaches every pod without NAT"
	three.Summary = fmt.Sprintf("%d connections from %s to %s", len(nodeToPod), count(len(nodes), "node"), count(len(pods), "pod"))
	return []Result{unique(pods, all), two, three, ownIdea(pods, all)}, fmt.Sprintf("%d connections", len(all)), nil
}

// unique checks that no two pods have an address in common, and that behind every address its own pod answered.
func unique(pods []Host, probes []*probe) Result {
	r := Result{Number: 1, Title: "every pod has an address of its own"}
	owner := map[netip.Addr]string{}
	answered := map[netip.Addr]int{}
	for _, p := range probes {
		if p.err == nil && p.asked.Pod == p.to.Name {
			answered[p.target.Addr()]++
		} else if p.err == nil {
			r.Faults = append(r.Faults, fmt.Errorf("%s belongs to %s, but %s answered there", p.target.Addr(), p.to.Name, p.asked.Pod))
		}
	}
	for _, pod := range pods {
		var texts []string
		for _, addr := range pod.Addrs {
			if other, ok := owner[addr]; ok {
				r.Faults = append(r.Faults, fmt.Errorf("%s and %s both have %s", other, pod.Name, addr))
			}
			owner[addr] = pod.Name
			if answered[addr] == 0 {
				r.Faults = append(r.Faults, fmt.Errorf("%s did not answer at %s", pod.Name, addr))
			}
			texts = append(texts, fmt.Sprintf("%s (answered %d times)", addr, answered[addr]))
		}
		r.Evidence = append(r.Evidence, fmt.Sprintf("%s  %s", pod.Name, strings.Join(texts, ", ")))
	}
	r.Summary = fmt.Sprintf("%s, %d addresses, no two alike, its own pod behind each", count(len(pods), "pod"), len(owner))
	return r
}

// paths checks connections for translation and writes a line for each pair of hosts.
func paths(probes []*probe) Result {
	var r Result
	for i := 0; i < len(probes); {
		first := probes[i]
		var seen []string
		for ; i < len(probes) && probes[i].from == first.from && probes[i].to == first.to; i++ {
			p := probes[i]
			if err := p.fault(); err != nil {
				r.Faults = append(r.Faults, err)
				continue
			}
			seen = append(seen, fmt.Sprintf("from %s, seen as %s", p.asked.From, p.asked.Client))
		}
		if len(seen) > 0 {
			r.Evidence = append(r.Evidence, fmt.Sprintf("%s -> %s  %s", first.from.Name, first.to.Name, strings.Join(seen, "; ")))
		}
	}
	return r
}

// ownIdea compares three accounts of each pod's addresses: the one on its own interfaces, the ones that other pods have seen
// its connections come from, and the ones at which others have reached it.
func ownIdea(pods []Host, probes []*probe) Result {
	r := Result{Number: 4, Title: "the address that a pod sees itself as is the one that others see"}
	type accounts struct {
		own, sources, targets []netip.Addr
		observers             map[string]bool
	}
	of := map[string]*accounts{}
	for _, pod := range pods {
		of[pod.Name] = &accounts{observers: map[string]bool{}}
	}
	for _, p := range probes {
		if p.err != nil {
			continue // condition 2 or 3 has told
		}
		if a := of[p.asked.Pod]; a != nil {
			a.own = merge(a.own, p.asked.Addresses...)
			a.targets = merge(a.targets, p.target.Addr())
		}
		if a := of[p.from.Name]; a != nil && p.from.Port != 0 {
			a.sources = merge(a.sources, p.asked.Client.Addr())
			a.observers[p.to.Name] = true
		}
	}
	for _, pod := range pods {
		a := of[pod.Name]
		line := fmt.Sprintf("%s  says %s; %s saw %s; reached at %s",
			pod.Name, texts(a.own), count(len(a.observers), "pod"), texts(a.sources), texts(a.targets))
		if slices.Equal(a.own, a.targets) && (slices.Equal(a.own, a.sources) || len(pods) == 1) && len(a.own) > 0 {
			r.Evidence = append(r.Evidence, line)
		} else {
			r.Faults = append(r.Faults, fmt.Errorf("%s", line))
		}
	}
	r.Summary = "what each says of itself, compared with what others saw"
	return r
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// merge adds addresses to a sorted set.
func merge(set []netip.Addr, addrs ...netip.Addr) []netip.Addr {
	for _, addr := range addrs {
		if i, found := slices.BinarySearchFunc(set, addr, netip.Addr.Compare); !found {
			set = slices.Insert(set, i, addr)
		}
	}
	return set
}

func texts(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return "nothing"
	}
	list := make([]string, len(addrs))
	for i, addr := range addrs {
		list[i] = addr.String()
	}
	return strings.Join(list, " ")
}
