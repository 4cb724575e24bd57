package ipvs_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/ipvs"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		service string // JSON
		faults  []string
	}{
		"fine": {`{"protocol":"tcp","address":"10.96.0.1:80","destinations":[{"address":"10.1.0.1:8080","weight":1}]}`, nil},
		"fine with a mark and every port": {`{"mark":1,"family":"ipv6","destinations":[{"address":"[fd01::1]:0"},
			{"address":"[fd01::2]:8080"},{"address":"10.1.0.1:0","method":"tunnel"}]}`, nil},
		"nothing": {`{}`, []string{".protocol: 0 is not tcp, udp or sctp", ".address: no address",
			".address: port 0, every port, needs persistence"}},
		"both": {`{"protocol":"tcp","address":"10.96.0.1:80","mark":1}`, []string{": a service is either a mark's or an address's",
			".family: 0 is neither ipv4 nor ipv6"}},
		"family of an address": {`{"protocol":"tcp","address":"10.96.0.1:80","family":"ipv4"}`, []string{".family: only a mark's service says its family"}},
		"unspecified":          {`{"protocol":"tcp","address":"0.0.0.0:80"}`, []string{".address: 0.0.0.0 is not the address of one machine"}},
		"multicast":            {`{"protocol":"tcp","address":"[ff02::1]:80"}`, []string{".address: ff02::1 is not the address of one machine"}},
		"broadcast":            {`{"protocol":"tcp","address":"255.255.255.255:80"}`, []string{".address: 255.255.255.255 is not the address of one machine"}},
		"mapped":               {`{"protocol":"tcp","address":"[::ffff:10.0.0.1]:80"}`, []string{".address: ::ffff:10.0.0.1 is IPv4 written as IPv6"}},
		"zone":                 {`{"protocol":"tcp","address":"[fe80::1%eth0]:80"}`, []string{".address: fe80::1%eth0 has a zone"}},
		"every port":           {`{"protocol":"tcp","address":"10.96.0.1:0"}`, []string{".address: port 0, every port, needs persistence"}},
		"scheduler":            {`{"protocol":"tcp","address":"10.96.0.1:80","scheduler":"a name that is too long"}`, []string{`.scheduler: "a name that is too long" is not up to 15 letters, digits, - and _`}},
		"flags": {`{"protocol":"tcp","address":"10.96.0.1:80","scheduler":"rr","hashPort":true,"fallback":true}`,
			[]string{".hashPort: scheduler rr has no such flag", ".fallback: scheduler rr has no such flag"}},
		"one packet": {`{"protocol":"tcp","address":"10.96.0.1:80","onePacket":true,"destinations":[{"address":"10.1.0.1:80"}]}`,
			[]string{".onePacket: is for UDP, not tcp", ".destinations[0].method: answers of a one-packet service are not translated back, so they never reach the client"}},
		"persistence": {`{"protocol":"tcp","address":"10.96.0.1:80","persistence":{"timeout":1500000000,"prefix":33,"engine":"sip"}}`,
			[]string{".persistence.timeout: 1.5s is not whole seconds up to 1193h2m47s", ".persistence.prefix: 33 is not between 1 and 32", ".persistence.engine: sip is for UDP, not tcp"}},
		"no timeout":         {`{"protocol":"tcp","address":"10.96.0.1:80","persistence":{"prefix":24}}`, []string{".persistence.prefix: means nothing without a timeout"}},
		"engine, no timeout": {`{"protocol":"udp","address":"10.96.0.1:80","persistence":{"engine":"sip"}}`, []string{".persistence.engine: means nothing without a timeout"}},
		"destination twice": {`{"protocol":"tcp","address":"10.96.0.1:80","destinations":[{"address":"10.1.0.1:80"},{"address":"10.1.0.1:80","weight":2}]}`,
			[]string{".destinations[1]: 10.1.0.1:80 is destinations[0] already"}},
		"other family": {`{"protocol":"tcp","address":"10.96.0.1:80","destinations":[{"address":"[fd01::1]:80"}]}`,
			[]string{".destinations[0].address: fd01::1 is of another family than the service, which only a tunnel can cross"}},
		"no destination": {`{"protocol":"tcp","address":"10.96.0.1:80","destinations":[{"address":"","method":"bypass"}]}`,
			[]string{".destinations[0].address: no address", ".destinations[0].method: bypass is not masquerade, local, tunnel or direct"}},
		"no port":     {`{"protocol":"tcp","address":"10.96.0.1:80","destinations":[{"address":"10.1.0.1:0"}]}`, []string{".destinations[0].address: no port"}},
		"direct port": {`{"protocol":"tcp","address":"10.96.0.1:80","destinations":[{"address":"10.1.0.1:81","method":"direct"}]}`, []string{".destinations[0].address: port 81: method direct cannot change the service's port 80"}},
		"kept port": {`{"protocol":"tcp","address":"10.96.0.1:0","persistence":{"timeout":60000000000},"destinations":[{"address":"10.1.0.1:81"}]}`,
			[]string{".destinations[0].address: port 81: the service takes every port and keeps it"}},
		"limits": {`{"protocol":"tcp","address":"10.96.0.1:80","destinations":[{"address":"10.1.0.1:81","weight":2147483648,"upper":1,"lower":2}]}`,
			[]string{".destinations[0].weight: 2147483648 is over 2147483647", ".destinations[0].lower: 2 is over upper, 1"}},
		"tunnel without": {`{"protocol":"tcp","address":"10.96.0.1:80","destinations":[{"address":"10.1.0.1:81","tunnel":{"type":"gre"}}]}`,
			[]string{".destinations[0].tunnel: means nothing to method masquerade"}},
		"tunnels": {`{"protocol":"tcp","address":"10.96.0.1:80","destinations":[
			{"address":"10.1.0.1:80","method":"tunnel","tunnel":{"type":"gue"}},
			{"address":"10.1.0.2:80","method":"tunnel","tunnel":{"type":"gre","port":1,"checksum":"remote-checksum"}},
			{"address":"10.1.0.3:80","method":"tunnel","tunnel":{"checksum":"checksum"}}]}`,
			[]string{".destinations[0].tunnel.port: gue needs one, the others have none", ".destinations[1].tunnel.port: gue needs one, the others have none",
				".destinations[1].tunnel.checksum: remote-checksum is not for gre", ".destinations[2].tunnel.checksum: checksum is not for ipip"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s ipvs.Service
			require.NoError(t, json.Unmarshal([]byte(test.service), &s))
			err := ipvs.State{Services: []ipvs.Service{s}}.Validate()
			if test.faults == nil {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, "services[0]"+strings.Join(test.faults, "\nservices[0]"))
		})
	}
}

func TestValidateDuplicates(t *testing.T) {
	t.Parallel()
	s := ipvs.Service{Key: ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddrPort("10.96.0.1:80")}}
	require.EqualError(t, ipvs.State{Services: []ipvs.Service{s, s}}.Validate(), "services[1]: tcp 10.96.0.1:80 is services[0] already")
	s.Persistence.Timeout = 1<<63 - 1
	require.ErrorContains(t, ipvs.Change{Set: []ipvs.Service{s}, Drop: []ipvs.Key{{}}}.Validate(), "set[0].persistence.timeout")
	s.Persistence.Timeout = -time.Second
	require.ErrorContains(t, ipvs.Change{Set: []ipvs.Service{s}, Drop: []ipvs.Key{{}}}.Validate(), "drop[0].protocol: 0 is not")
}
