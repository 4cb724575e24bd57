package nat_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"slices"
	stdsync "sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// hostPort leads a port of the host to a pod, as a plugin that knows nothing
// but the pod asks for.
func hostPort(port uint16, pod netip.Addr, owner string) nat.Forward {
	return nat.Forward{
		Addr: anyAddr[pod.Is6()], Port: port, Proto: nat.TCP, Name: owner,
		To: []nat.Target{{Addr: pod, Port: 8080}},
	}
}

// Many Clients, each of which changes one thing and goes, leave what one that
// knows all would.
func TestUpdateByMany(t *testing.T) {
	needs(t)
	for _, mode := range []struct {
		name   string
		change func(*nat.Config)
	}{{"shared", shared}, {"owned", func(*nat.Config) {}}} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			ns := nstest.New(t)
			r := rand.New(rand.NewPCG(5, uint64(len(mode.name))))
			model := nat.State{}
			for round := range 25 {
				from, to := model, randomState(r)
				var change nat.Change
				for _, f := range to.Forwards {
					if r.IntN(4) == 0 {
						change.Set = append(change.Set, f)
						model = lacking(model, f.Key())
						model.Forwards = append(model.Forwards, f)
					}
				}
				if len(from.Forwards) > 0 && r.IntN(2) == 0 {
					k := from.Forwards[r.IntN(len(from.Forwards))].Key()
					if !sets(change, k) {
						change.Drop = append(change.Drop, k)
						model = lacking(model, k)
					}
				}
				pod := netip.AddrFrom4([4]byte{10, 200, 0, byte(r.IntN(8))})
				network := nat.Network{Prefix: netip.PrefixFrom(pod, 32), Name: fmt.Sprint(round)}
				if r.IntN(3) == 0 {
					network.To = nat.Pool{First: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + r.IntN(3))})}
				}
				kept := model.Networks[:0:0]
				for _, n := range model.Networks {
					if n.Prefix != network.Prefix {
						kept = append(kept, n)
					}
				}
				if model.Networks = kept; r.IntN(3) > 0 {
					change.SetNetworks = append(change.SetNetworks, network)
					model.Networks = append(model.Networks, network)
				} else {
					change.DropNetworks = append(change.DropNetworks, network.Prefix)
				}
				wide := netip.MustParsePrefix([]string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "fd00::/8"}[r.IntN(4)])
				if r.IntN(2) == 0 {
					change.SetExclude = append(change.SetExclude, wide)
					model.Exclude = append(model.Exclude, wide)
				}
				c := client(t, ns, mode.change)
				planned, err := c.PlanUpdate(within(t), change)
				require.NoError(t, err)
				p, err := c.Update(within(t), change)
				require.NoError(t, err)
				require.Equal(t, planned.String(), p.String())
				again, err := c.PlanUpdate(within(t), change)
				require.NoError(t, err)
				require.True(t, again.Empty(), "%s", again)
				require.NoError(t, c.Close())
				for _, f := range change.Set {
					other := client(t, ns, mode.change)
					list, err := other.Lookup(within(t), f.Key())
					require.NoError(t, err)
					require.Empty(t, nat.Diff(nat.State{Forwards: list}, nat.State{Forwards: []nat.Forward{f}}).String())
					require.NoError(t, other.Close())
				}
				whole := client(t, ns, mode.change)
				left, err := whole.Plan(within(t), model)
				require.NoError(t, err)
				require.True(t, left.Empty(), "after %d:\n%s\nleft:\n%s", round, p, left)
				names, err := whole.Names(within(t))
				require.NoError(t, err)
				require.Len(t, names.Forwards, len(model.Forwards))
				for _, f := range model.Forwards {
					require.Equal(t, f.Name, names.Forwards[f.Key()])
				}
				require.Len(t, names.Networks, len(model.Networks))
				require.NoError(t, whole.Close())
			}
			sync(t, client(t, ns, mode.change), nat.State{})
			require.Empty(t, nstest.Run(t, ns, "nft", "list", "ruleset"))
		})
	}
}

func lacking(s nat.State, k nat.Key) nat.State {
	kept := s.Forwards[:0:0]
	for _, f := range s.Forwards {
		if f.Key() != k {
			kept = append(kept, f)
		}
	}
	s.Forwards = kept
	return s
}

func sets(c nat.Change, k nat.Key) bool {
	for _, f := range c.Set {
		if f.Key() == k {
			return true
		}
	}
	return false
}

// Clients that change the table at the same time all get through, and of two
// that want one port one is told who has it.
func TestUpdateAtOnce(t *testing.T) {
	needs(t)
	ns := nstest.New(t)
	const pods = 24
	var wg stdsync.WaitGroup
	fail := make(chan error, 2*pods)
	for i := range pods {
		wg.Go(func() {
			pod := netip.AddrFrom4([4]byte{10, 244, 0, byte(i)})
			owner := fmt.Sprintf("default/pod-%d", i)
			c, err := nat.New(nat.Config{NetNS: ns, Shared: true})
			if err != nil {
				fail <- err
				return
			}
			defer c.Close()
			_, err = c.Update(within(t), nat.Change{
				Set:         []nat.Forward{hostPort(uint16(8000+i), pod, owner)},
				SetNetworks: []nat.Network{{Prefix: netip.PrefixFrom(pod, 32), Name: owner}},
				SetExclude:  []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
				Owner:       owner,
			})
			fail <- err
			_, err = c.Update(within(t), nat.Change{Set: []nat.Forward{hostPort(9000, pod, owner)}, Owner: owner})
			if errors.Is(err, fs.ErrExist) {
				err = nil
			}
			fail <- err
		})
	}
	wg.Wait()
	close(fail)
	for err := range fail {
		require.NoError(t, err)
	}
	c := client(t, ns, shared)
	names, err := c.Names(within(t))
	require.NoError(t, err)
	require.Len(t, names.Forwards, pods+1)
	require.Len(t, names.Networks, pods)
	got, err := c.Read(within(t))
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, got.Exclude)
}

// What has another owner is neither taken nor dropped.
func TestUpdateOwner(t *testing.T) {
	needs(t)
	ns := nstest.New(t)
	a, b := netip.MustParseAddr("10.244.0.2"), netip.MustParseAddr("10.244.0.3")
	mine := nat.Change{Set: []nat.Forward{hostPort(8080, a, "default/a")}, SetNetworks: []nat.Network{{Prefix: netip.PrefixFrom(a, 32), Name: "default/a"}}, Owner: "default/a"}
	_, err := client(t, ns, shared).Update(within(t), mine)
	require.NoError(t, err)
	for name, change := range map[string]func(*nat.Config){"knows nothing": shared} {
		t.Run(name, func(t *testing.T) {
			c := client(t, ns, change)
			_, err := c.Update(within(t), nat.Change{
				Set:         []nat.Forward{hostPort(8081, b, "default/b"), hostPort(8080, b, "default/b")},
				SetNetworks: []nat.Network{{Prefix: netip.PrefixFrom(a, 32), Name: "default/b"}},
				Owner:       "default/b",
			})
			require.ErrorIs(t, err, fs.ErrExist)
			var conflict *nat.ConflictError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, "default/a", conflict.Name)
			require.Equal(t, `0.0.0.0:8080/tcp is forwarded to 10.244.0.2:8080 already for "default/a"`, conflict.Error())
			require.ErrorContains(t, err, `network 10.244.0.2/32 is there already for "default/a"`)
			list, err := c.Lookup(within(t), hostPort(8080, a, "").Key(), hostPort(8081, b, "").Key())
			require.NoError(t, err)
			require.Len(t, list, 1, "nothing was changed")
			p, err := c.Update(within(t), nat.Change{Drop: []nat.Key{mine.Set[0].Key()}, DropNetworks: []netip.Prefix{netip.PrefixFrom(a, 32)}, Owner: "default/b"})
			require.NoError(t, err)
			require.True(t, p.Empty(), "%s", p)
		})
	}
	p, err := client(t, ns, shared).Update(within(t), mine)
	require.NoError(t, err)
	require.True(t, p.Empty())
	_, err = client(t, ns, shared).Update(within(t), nat.Change{SetNetworks: []nat.Network{{Prefix: netip.MustParsePrefix("10.244.0.0/24")}}})
	require.ErrorContains(t, err, "network 10.244.0.2/32 is there already")
	nstest.Run(t, ns, "nft", "flush chain inet podplumb-nat translated")
	_, err = client(t, ns, shared).PlanUpdate(within(t), mine)
	require.ErrorIs(t, err, nat.ErrDamaged)
	_, err = client(t, ns, shared).Update(within(t), mine)
	require.ErrorIs(t, err, nat.ErrDamaged)
}

// BenchmarkUpdateOnce is what a short-lived process pays to add and remove one
// forward and one network, with no forward there and with 10,000.
func BenchmarkUpdateOnce(b *testing.B) {
	needs(b)
	medians := map[int]time.Duration{}
	for _, n := range []int{0, 2000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ns := nstest.New(b)
			first := client(b, ns, shared)
			_, err := first.Sync(within(b), many(max(n, 1)))
			require.NoError(b, err)
			pod := netip.MustParseAddr("10.244.0.2")
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				for _, change := range []nat.Change{
					{Set: []nat.Forward{hostPort(8080, pod, "default/a")}, SetNetworks: []nat.Network{{Prefix: netip.PrefixFrom(pod, 32), Name: "default/a"}}, Owner: "default/a"},
					{Drop: []nat.Key{hostPort(8080, pod, "").Key()}, DropNetworks: []netip.Prefix{netip.PrefixFrom(pod, 32)}, Owner: "default/a"},
				} {
					c := client(b, ns, shared)
					_, err := c.Update(within(b), change)
					require.NoError(b, err)
				}
				took = append(took, time.Since(start)/2)
			}
			medians[n] = median(took)
			b.ReportMetric(float64(medians[n])/1e3, "p50-us")
			if n > 0 && medians[0] > 0 {
				b.ReportMetric(float64(medians[n])/float64(medians[0]), fmt.Sprintf("%dk/0", n/1000))
			}
		})
	}
}

func median(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/2]
}
