//go:build linux

package ipvs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
)

// fieldsOf returns what ipvsadm shows of destinations, and of services where it shows numbers: the fields of each line, joined by one space, sorted.
func (l *lab) fieldsOf(t *testing.T, args ...string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(nstest.Run(t, l.director, "ipvsadm", args...)) {
		f := strings.Fields(line)
		if len(f) > 2 && (f[0] == "->" && f[1] != "RemoteAddress:Port" || (f[0] == "TCP" || f[0] == "UDP") && strings.Trim(f[2], "0123456789") == "") {
			out = append(out, strings.Join(f, " "))
		}
	}
	slices.Sort(out)
	return out
}

// requireSame compares what ipvsadm shows with what show makes of the client's own listing, for a while: counters and tables move.
func (l *lab) requireSame(t *testing.T, show func() []string, args ...string) {
	t.Helper()
	var want, have []string
	for range 40 {
		want, have = l.fieldsOf(t, args...), show()
		slices.Sort(have)
		if slices.Equal(want, have) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	require.Equal(t, want, have)
}

// requireConnections compares the connection table, the time that is left apart.
func (l *lab) requireConnections(t *testing.T) {
	t.Helper()
	without := func(lines []string) []string {
		for i, line := range lines {
			f := strings.Fields(line)
			lines[i] = strings.Join(slices.Delete(f, 1, 2), " ")
		}
		slices.Sort(lines)
		return lines
	}
	var want, have []string
	for range 20 {
		var lines []string
		for line := range strings.Lines(nstest.Run(t, l.director, "ipvsadm", "-Lcn", "--persistent-conn")) {
			if f := strings.Fields(line); len(f) >= 6 && strings.Contains(f[1], ":") {
				lines = append(lines, strings.Join(f, " "))
			}
		}
		want = without(lines)
		table, err := l.ipvs.Connections(t.Context())
		require.NoError(t, err)
		have = nil
		for _, c := range table {
			name := strings.ToUpper(c.Protocol.String())
			if c.Protocol == 0 {
				name = "IP"
			}
			line := fmt.Sprintf("%s 0 %s %s %s %s", name, c.State, c.Client, c.Virtual, c.Destination)
			if c.Engine != "" {
				line += " " + c.Engine + " " + c.EngineData
			}
			have = append(have, line)
		}
		if have = without(have); slices.Equal(want, have) && len(have) > 0 {
			return
		}
	}
	require.Equal(t, want, have)
}

// requirePersistent compares the counts of persistence entries and connections.
func (l *lab) requirePersistent(t *testing.T) {
	t.Helper()
	l.requireSame(t, func() []string {
		return l.counts(t, func(d ipvs.Destination, s ipvs.DestinationStats) string {
			return fmt.Sprintf("-> %s %d %d %d %d", d.Address, d.Weight, s.Persistent, s.Active, s.Inactive)
		}, nil)
	}, "-Ln", "--persistent-conn")
}

// counts writes a line for every destination, and for every service unless that is nil.
func (l *lab) counts(t *testing.T, destination func(ipvs.Destination, ipvs.DestinationStats) string, service func(ipvs.ServiceStats) string) []string {
	t.Helper()
	state, err := l.ipvs.Read(t.Context())
	require.NoError(t, err)
	stats, err := l.ipvs.Stats(t.Context())
	require.NoError(t, err)
	require.Len(t, stats, len(state.Services))
	var out []string
	for i, s := range stats {
		require.Equal(t, state.Services[i].Key, s.Key)
		if service != nil {
			out = append(out, service(s))
		}
		for j, d := range s.Destinations {
			require.Equal(t, state.Services[i].Destinations[j].Address, d.Address)
			out = append(out, destination(state.Services[i].Destinations[j], d))
		}
	}
	return out
}

// TestListings compares counters, rates, persistence entries and connections of several services with what ipvsadm shows of them.
func TestListings(t *testing.T) {
	l := newLab(t, 2)
	var services []ipvs.Service
	for _, v6 := range []bool{false, true} {
		tcp, udp := l.service(v6, ipvs.TCP, ipvs.RoundRobin), l.service(v6, ipvs.UDP, ipvs.RoundRobin)
		udp.Persistence.Timeout = time.Minute
		services = append(services, tcp, udp)
	}
	l.sync(t, services...)
	for i, s := range services {
		flow, err := nstest.Dial(t, l.client, s.Protocol.String(), s.Address)
		require.NoError(t, err)
		for range 3 + i {
			_, err = flow.Ask()
			require.NoError(t, err)
		}
		l.spread(t, s.Protocol.String(), s.Address, 3)
	}
	require.Eventually(t, func() bool { // the kernel brings counters up to date every two seconds
		all, err := l.ipvs.Stats(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 4)
		return !slices.ContainsFunc(all, func(s ipvs.ServiceStats) bool { return s.InPackets == 0 || s.InByteRate == 0 || s.OutPacketRate == 0 })
	}, 10*time.Second, 50*time.Millisecond)
	name := func(s ipvs.ServiceStats) string {
		return strings.ToUpper(s.Key.Protocol.String()) + " " + s.Key.Address.String()
	}
	rates := func(s ipvs.Stats) string {
		return fmt.Sprintf(" %d %d %d %d %d", s.ConnectionRate, s.InPacketRate, s.OutPacketRate, s.InByteRate, s.OutByteRate)
	}
	totals := func(s ipvs.Stats) string {
		return fmt.Sprintf(" %d %d %d %d %d", s.Connections, s.InPackets, s.OutPackets, s.InBytes, s.OutBytes)
	}
	for option, numbers := range map[string]func(ipvs.Stats) string{"--rate": rates, "--stats": totals} {
		l.requireSame(t, func() []string {
			return l.counts(t, func(d ipvs.Destination, s ipvs.DestinationStats) string {
				return "-> " + d.Address.String() + numbers(s.Stats)
			},
				func(s ipvs.ServiceStats) string { return name(s) + numbers(s.Stats) })
		}, "-Ln", option, "--exact")
	}
	l.requirePersistent(t)
	l.requireConnections(t)
	all, err := l.ipvs.Stats(t.Context())
	require.NoError(t, err)
	some, err := l.ipvs.Stats(t.Context(), all[2].Key, all[0].Key, all[2].Key, simple("10.96.9.9:80").Key)
	require.NoError(t, err)
	require.Equal(t, []ipvs.Key{all[0].Key, all[2].Key}, []ipvs.Key{some[0].Key, some[1].Key})
	require.Len(t, some, 2)
}
