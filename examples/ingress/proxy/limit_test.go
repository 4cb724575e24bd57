package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/ingress/listen"
	"github.com/podplumb/podplumb/examples/ingress/proxy"
	"github.com/podplumb/podplumb/examples/ingress/route"
)

func TestParseLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"100": "100/100", "100/200": "100/200", "0.5": "0.5/1", "0.5/3": "0.5/3", "none": "none"} {
		l, err := route.ParseLimit(text)
		require.NoError(t, err, text)
		require.Equal(t, want, l.String())
	}
	for _, text := range []string{"", "0", "-1", "x", "1/0", "1/x", "1/-1", "NaN", "Inf", "1e300", "10 /2"} {
		_, err := route.ParseLimit(text)
		require.Error(t, err, text)
	}
}

// limited leads a path with limits.
func limited(path string, all, client string) route.Rule {
	r := prefix(path, "web")
	for to, text := range map[**route.Limit]string{&r.Limits.All: all, &r.Limits.Client: client} {
		if text != "" {
			l, err := route.ParseLimit(text)
			if err != nil {
				panic(err)
			}
			*to = &l
		}
	}
	return r
}

// codes counts what n requests at once are answered.
func codes(t *testing.T, url string, n int) map[int]int {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	seen := map[int]int{}
	for range n {
		all.Go(func() {
			response, err := http.Get(url)
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			if response.StatusCode == http.StatusTooManyRequests {
				after, err := strconv.Atoi(response.Header.Get("Retry-After"))
				if err != nil || after < 1 || after > 1001 {
					t.Errorf("Retry-After: %q", response.Header.Get("Retry-After"))
				}
			}
			_, _ = io.Copy(io.Discard, response.Body)
			mu.Lock()
			defer mu.Unlock()
			seen[response.StatusCode]++
		})
	}
	all.Wait()
	return seen
}

// Each rule has its own limits, or the defaults; changes of other things do not fill its buckets again.
func TestLimits(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{}, func(p *proxy.Proxy) http.Handler {
		p.Limit(route.Limit{PerSecond: 0.001, Burst: 7}, route.Limit{})
		return p
	})
	web := backend{name: "web", addresses: []string{server(t, "web", nil)}}
	use := func() {
		f.use([]route.Rule{limited("/three", "0.001/3", ""), limited("/client", "none", "0.001/5"), limited("/free", "none", ""), prefix("/", "web")}, web)
	}
	use()
	base := "http://" + f.clear
	require.Equal(t, map[int]int{200: 3, 429: 17}, codes(t, base+"/three", 20))
	require.Equal(t, map[int]int{200: 5, 429: 15}, codes(t, base+"/client", 20))
	require.Equal(t, map[int]int{200: 20}, codes(t, base+"/free", 20))
	require.Equal(t, map[int]int{200: 7, 429: 13}, codes(t, base+"/", 20))
	use()
	require.Equal(t, map[int]int{429: 5}, codes(t, base+"/three/deeper", 5))
	f.use([]route.Rule{limited("/three", "0.001/4", "")}, web)
	require.Equal(t, map[int]int{200: 4, 429: 1}, codes(t, base+"/three", 5))
	families, err := f.registry.Gather()
	require.NoError(t, err)
	var text strings.Builder
	for _, family := range families {
		if family.GetName() == "podplumb_ingress_limited_total" {
			fmt.Fprint(&text, family)
		}
	}
	for _, want := range []string{`"/three"`, `"all"`, `"client"`, `value:23`} {
		require.Contains(t, text.String(), want)
	}
}

// A bucket fills again.
func TestLimitRefills(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	f.use([]route.Rule{limited("/", "20/1", "")}, backend{name: "web", addresses: []string{server(t, "web", nil)}})
	begin, passed := time.Now(), 0
	for time.Since(begin) < 600*time.Millisecond {
		passed += codes(t, "http://"+f.clear, 1)[200]
		time.Sleep(5 * time.Millisecond)
	}
	most := int(time.Since(begin).Seconds()*20) + 1
	require.LessOrEqual(t, passed, most)
	require.GreaterOrEqual(t, passed, 3)
}

// Clients are told apart by the addresses that a trusted load balancer names; those of one IPv6 network are one.
func TestLimitByClient(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	f.use([]route.Rule{limited("/", "", "0.001/2")}, backend{name: "web", addresses: []string{server(t, "web", nil)}})
	from := func(client string) int {
		family := "TCP4"
		if strings.Contains(client, ":") {
			family = "TCP6"
		}
		return raw(t, f.clear, fmt.Sprintf("PROXY %s %s %s 1000 80\r\nGET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n", family, client, client))
	}
	for _, client := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
		require.Equal(t, []int{200, 200, 429}, []int{from(client), from(client), from(client)}, client)
	}
	require.Equal(t, 429, from("2001:db8::2"))
	require.Equal(t, 200, from("2001:db8:0:1::2"))
}
