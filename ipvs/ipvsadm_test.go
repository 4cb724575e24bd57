//go:build linux

package ipvs_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
)

// requireIPVSADM fails the test unless ipvsadm shows exactly this state.
func requireIPVSADM(t *testing.T, ns *netns.NS, want ipvs.State) {
	t.Helper()
	got := strings.Split(nstest.Run(t, ns, "ipvsadm", "-Sn"), "\n")
	for i := range got {
		got[i] = strings.TrimSpace(got[i])
	}
	got = slices.DeleteFunc(got, func(s string) bool { return s == "" })
	lines := ipvsadmLines(want)
	slices.Sort(got)
	slices.Sort(lines)
	require.Equal(t, strings.Join(lines, "\n"), strings.Join(got, "\n"))
}

// requireThresholds does the same for what --save leaves out: thresholds, in the form of ipvsadm -l --thresholds.
func requireThresholds(t *testing.T, ns *netns.NS, want ipvs.State) {
	t.Helper()
	var got, lines []string
	for line := range strings.Lines(nstest.Run(t, ns, "ipvsadm", "-Ln", "--thresholds")) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "->" && f[1] != "RemoteAddress:Port" {
			got = append(got, strings.Join(f[1:4], " "))
		}
	}
	for _, v := range want.Services {
		for _, d := range v.Destinations {
			lines = append(lines, fmt.Sprintf("%s %d %d", d.Address, d.Upper, d.Lower))
		}
	}
	slices.Sort(got)
	slices.Sort(lines)
	require.Equal(t, lines, got)
}

// ipvsadmLines is the state in the form of ipvsadm --save.
func ipvsadmLines(s ipvs.State) []string {
	var lines []string
	for _, v := range s.Canonical().Services {
		where := map[ipvs.Protocol]string{ipvs.TCP: "-t", ipvs.UDP: "-u", ipvs.SCTP: "--sctp-service"}[v.Protocol] + " " + v.Address.String()
		if v.Mark != 0 {
			where = fmt.Sprintf("-f %d", int32(v.Mark)) // ipvsadm prints it with a sign
			if v.Family == ipvs.IPv6 {
				where += " -6"
			}
		}
		lines = append(lines, "-A "+where+ipvsadmService(v))
		for _, d := range v.Destinations {
			lines = append(lines, "-a "+where+" -r "+ipvsadmDestination(d))
		}
	}
	return lines
}

func ipvsadmService(v ipvs.Service) string {
	s := " -s " + v.Scheduler.String()
	if p := v.Persistence; p.Timeout != 0 {
		s += fmt.Sprintf(" -p %d", p.Timeout/time.Second)
		if p.Prefix != 0 && v.Address.Addr().Is6() {
			s += fmt.Sprintf(" -M %d", p.Prefix)
		} else if p.Prefix == 24 {
			s += " -M 255.255.255.0"
		}
		if p.Engine != "" {
			s += " --pe " + p.Engine
		}
	}
	if v.OnePacket {
		s += " -o"
	}
	var flags []string
	if v.Fallback {
		flags = append(flags, v.Scheduler.String()+"-fallback")
	}
	if v.HashPort {
		flags = append(flags, v.Scheduler.String()+"-port")
	}
	if flags != nil {
		s += " -b " + strings.Join(flags, ",")
	}
	return s
}

func ipvsadmDestination(d ipvs.Destination) string {
	s := d.Address.String()
	switch d.Method {
	case ipvs.Masquerade:
		s += " -m"
	case ipvs.Direct, ipvs.Local: // ipvsadm has no word for Local here
		s += " -g"
	case ipvs.Tunneling:
		s += " -i"
	}
	s += fmt.Sprintf(" -w %d", d.Weight)
	if d.Method == ipvs.Tunneling {
		s += " --tun-type " + d.Tunnel.Type.String()
		if d.Tunnel.Type == ipvs.IPIP {
			return s
		}
		if d.Tunnel.Type == ipvs.GUE {
			s += fmt.Sprintf(" --tun-port %d", d.Tunnel.Port)
		}
		s += map[ipvs.TunnelChecksum]string{ipvs.NoChecksum: " --tun-nocsum", ipvs.Checksum: " --tun-csum", ipvs.RemoteChecksum: " --tun-remcsum"}[d.Tunnel.Checksum]
	}
	return s
}

// statsLine returns the numbers of the first service that ipvsadm --stats --exact shows.
func statsLine(t *testing.T, out string) []uint64 {
	t.Helper()
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 7 || f[0] != "TCP" {
			continue
		}
		var numbers []uint64
		for _, n := range f[2:] {
			v, err := strconv.ParseUint(n, 10, 64)
			require.NoError(t, err)
			numbers = append(numbers, v)
		}
		return numbers
	}
	require.Fail(t, "no service", out)
	return nil
}
