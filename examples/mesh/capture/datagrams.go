package capture

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/podplumb/podplumb/netns"
)

// Datagrams counts the UDP datagrams of a network namespace since it was made,
// of both families. They pass the mesh by: the kernel counts them.
type Datagrams struct{ In, Out uint64 }

// CountDatagrams reads the counters of a namespace, nil for the caller's.
// (InDatagrams and OutDatagrams, RFC 4113, of proc_net_snmp.)
func CountDatagrams(ns *netns.NS) (Datagrams, error) {
	var d Datagrams
	read := func() error {
		v4, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		v6, err := os.ReadFile("/proc/thread-self/net/snmp6")
		if err != nil {
			return err
		}
		d = parseDatagrams(v4, v6)
		return nil
	}
	do := read
	if ns != nil {
		do = func() error { return ns.Do(read) }
	}
	if err := do(); err != nil {
		return Datagrams{}, fmt.Errorf("capture: count datagrams: %w", err)
	}
	return d, nil
}

// parseDatagrams reads a file with a line of names and one of values for each
// protocol, and one with a name and a value on each line.
func parseDatagrams(v4, v6 []byte) (d Datagrams) {
	add := func(name string, value []byte) {
		n, _ := strconv.ParseUint(string(value), 10, 64) // what is no number counts nothing
		switch name {
		case "InDatagrams", "Udp6InDatagrams":
			d.In += n
		case "OutDatagrams", "Udp6OutDatagrams":
			d.Out += n
		}
	}
	var names [][]byte
	for line := range bytes.Lines(v4) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i := 1; i < min(len(fields), len(names)); i++ {
			add(string(names[i]), fields[i])
		}
	}
	for line := range bytes.Lines(v6) {
		if fields := bytes.Fields(line); len(fields) == 2 {
			add(string(fields[0]), fields[1])
		}
	}
	return d
}
