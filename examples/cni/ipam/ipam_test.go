package ipam_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podplumb/podplumb/examples/cni/ipam"
)

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *ipam.Store {
	t.Helper()
	s, err := ipam.Open(t.Context(), dir)
	fatal(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func set(t testing.TB, ranges ...ipam.Range) ipam.Set {
	t.Helper()
	var out ipam.Set
	for _, r := range ranges {
		r, err := r.Canonical()
		fatal(t, err)
		out = append(out, r)
	}
	return out
}

func subnet(s string) ipam.Range { return ipam.Range{Subnet: netip.MustParsePrefix(s)} }

func owner(i int) ipam.Owner {
	return ipam.Owner{ContainerID: fmt.Sprintf("container-%d", i), IfName: "eth0"}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"10.1.2.0/24": "10.1.2.1-10.1.2.254 gw 10.1.2.1 253", "10.1.2.0/30": "10.1.2.1-10.1.2.2 gw 10.1.2.1 1",
		"fd00::/64": "fd00::1-fd00::ffff:ffff:ffff:ffff gw fd00::1 2147483648", "fd00::/126": "fd00::1-fd00::3 gw fd00::1 2",
	} {
		r, err := subnet(in).Canonical()
		fatal(t, err)
		if got := fmt.Sprintf("%s gw %s %d", r, r.Gateway, r.Size()); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	a := netip.MustParseAddr
	_, err := ipam.Range{Subnet: netip.MustParsePrefix("10.1.2.3/24"), Start: a("10.1.3.9"), End: a("fd00::1"), Gateway: a("10.9.9.9")}.Canonical()
	for _, fault := range []string{"did you mean 10.1.2.0/24", "rangeStart: 10.1.3.9", "rangeEnd: fd00::1 is not in", "gateway: 10.9.9.9"} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("want %q in %v", fault, err)
		}
	}
	if _, err := subnet("10.0.0.0/31").Canonical(); err == nil {
		t.Error("a /31 holds no gateway and pod")
	}
}

func TestInTurnUntilFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := subnet("10.1.2.0/29") // .2 to .6, .4 is reserved
	r.Reserved = []netip.Addr{netip.MustParseAddr("10.1.2.4")}
	sets := []ipam.Set{set(t, r, subnet("10.9.0.0/30")), set(t, subnet("fd00::/64"))}
	var got []string
	for i := range 5 {
		s := open(t, dir) // a process each
		leases, err := s.Allocate(owner(i), sets)
		fatal(t, err)
		got = append(got, leases[0].Prefix().String()+" "+leases[1].Prefix().String())
		fatal(t, s.Close())
	}
	want := "10.1.2.2/29 fd00::2/64, 10.1.2.3/29 fd00::3/64, 10.1.2.5/29 fd00::4/64, 10.1.2.6/29 fd00::5/64, 10.9.0.2/30 fd00::6/64"
	if strings.Join(got, ", ") != want {
		t.Fatalf("got  %v\nwant %s", got, want)
	}
	s := open(t, dir)
	_, err := s.Allocate(owner(9), sets)
	if !errors.Is(err, ipam.ErrFull) || !strings.Contains(err.Error(), "ranges[0]") {
		t.Fatalf("full: %v", err)
	}
	// The other family's address was not kept.
	left, err := s.Leases(owner(9))
	fatal(t, err)
	if len(left) != 0 {
		t.Fatalf("kept %v", left)
	}
	free, err := s.Free(sets[0])
	fatal(t, err)
	if free != 0 {
		t.Fatalf("%d free", free)
	}
	// The one released last is the only one there is.
	fatal(t, s.Release(owner(1), netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.1.2.5"))) // .5 is owner 2's and stays
	leases, err := s.Allocate(owner(10), sets)
	fatal(t, err)
	if leases[0].Addr.String() != "10.1.2.3" {
		t.Fatalf("got %v", leases[0])
	}
}

func TestReleasedAddressRests(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	sets := []ipam.Set{set(t, subnet("10.1.2.0/29"))} // 5 addresses
	seen := map[string]int{}
	for i := range 25 {
		leases, err := s.Allocate(owner(i), sets)
		fatal(t, err)
		seen[leases[0].Addr.String()]++
		fatal(t, s.Release(owner(i), leases[0].Addr))
	}
	for a, n := range seen {
		if n != 5 {
			t.Errorf("%s was used %d times of 25", a, n)
		}
	}
}

func TestRequested(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	sets := []ipam.Set{set(t, subnet("10.1.2.0/24")), set(t, subnet("fd00::/64"))}
	six, four := netip.MustParseAddr("fd00::77"), netip.MustParseAddr("10.1.2.77")
	leases, err := s.Allocate(owner(1), sets, six, four)
	fatal(t, err)
	if leases[0].Addr != four || leases[1].Addr != six {
		t.Fatalf("got %v", leases)
	}
	if _, err := s.Allocate(owner(2), sets, four); !errors.Is(err, ipam.ErrTaken) {
		t.Fatalf("taken: %v", err)
	}
	for _, bad := range []string{"10.1.3.1", "10.1.2.1", "10.1.2.255"} {
		if _, err := s.Allocate(owner(3), sets, netip.MustParseAddr(bad)); err == nil || !strings.Contains(err.Error(), bad) {
			t.Fatalf("%s: %v", bad, err)
		}
	}
	for o := 2; o <= 3; o++ {
		if left, _ := s.Leases(owner(o)); len(left) != 0 {
			t.Fatalf("owner %d kept %v", o, left)
		}
	}
}

func TestRetain(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	sets := []ipam.Set{set(t, subnet("10.1.0.0/16")), set(t, subnet("fd00::/64"))}
	keep := map[uint64]bool{}
	for i := range 100 {
		_, err := s.Allocate(owner(i), sets)
		fatal(t, err)
		if i%10 == 0 {
			keep[owner(i).ID()] = true
		}
	}
	gone, err := s.Retain(func(id uint64) bool { return keep[id] })
	fatal(t, err)
	if len(gone) != 180 {
		t.Fatalf("released %d of 180", len(gone))
	}
	free, err := s.Free(sets[0])
	fatal(t, err)
	if want := 65533 - 10; free != want {
		t.Fatalf("%d free, want %d", free, want)
	}
}

func TestImportHostLocal(t *testing.T) {
	t.Parallel()
	old := t.TempDir()
	for name, text := range map[string]string{
		"10.1.2.2": "container-1\r\neth0", "10.1.2.3": "container-2", "fd00::2": "container-1\r\neth0", "last_reserved_ip.0": "10.1.2.3", "lock": "",
	} {
		fatal(t, os.WriteFile(filepath.Join(old, name), []byte(text), 0o600))
	}
	s := open(t, t.TempDir())
	n, err := s.Import(old)
	fatal(t, err)
	if n != 3 {
		t.Fatalf("took over %d", n)
	}
	leases, err := s.Allocate(owner(7), []ipam.Set{set(t, subnet("10.1.2.0/24")), set(t, subnet("fd00::/64"))})
	fatal(t, err)
	if leases[0].Addr.String() != "10.1.2.4" || leases[1].Addr.String() != "fd00::3" {
		t.Fatalf("got %v", leases)
	}
	have, err := s.Leases(owner(1))
	fatal(t, err)
	if len(have) != 2 {
		t.Fatalf("owner 1 has %v", have)
	}
	fatal(t, s.Release(owner(1), have...))
	fatal(t, ipam.ReleaseHostLocal(old, owner(1), have...))
	if _, err := os.Stat(filepath.Join(old, "10.1.2.2")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("file of a released lease: %v", err)
	}
	if n, err := s.Import(old); n != 0 || err != nil {
		t.Fatalf("second import: %d, %v", n, err)
	}
}

func TestLockWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := ipam.Open(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("locked: %v", err)
	}
	fatal(t, s.Close())
	again, err := ipam.Open(t.Context(), dir)
	fatal(t, err)
	fatal(t, again.Close())
}

func TestDamagedFileIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "10.1.0.0.block")
	fatal(t, os.WriteFile(path, []byte("short"), 0o600))
	_, err := open(t, dir).Allocate(owner(1), []ipam.Set{set(t, subnet("10.1.2.0/24"))})
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("damaged: %v", err)
	}
}

const envChild = "PODPLUMB_IPAM_CHILD"

// TestMain makes this program the other process of the tests below: it allocates until it is killed or has its share.
func TestMain(m *testing.M) {
	args := strings.Fields(os.Getenv(envChild))
	if len(args) == 0 {
		os.Exit(m.Run())
	}
	if err := allocate(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func allocate(args []string) error {
	var first, n int
	if _, err := fmt.Sscan(args[1]+" "+args[2], &first, &n); err != nil {
		return err
	}
	var sets []ipam.Set
	for _, p := range []string{"10.1.0.0/16", "fd00::/64"} {
		r, err := subnet(p).Canonical()
		if err != nil {
			return err
		}
		sets = append(sets, ipam.Set{r})
	}
	for i := range n {
		s, err := ipam.Open(context.Background(), args[0])
		if err != nil {
			return err
		}
		leases, err := s.Allocate(owner(first+i), sets)
		if err := errors.Join(err, s.Close()); err != nil {
			return err
		}
		fmt.Printf("lease %d %s %s\n", first+i, leases[0].Addr, leases[1].Addr)
	}
	return nil
}

func child(t *testing.T, dir string, first, n int) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d", envChild, dir, first, n))
	return cmd
}

func TestParallelProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const processes, each = 8, 50
	var mu sync.Mutex
	seen := map[string]string{}
	var wg sync.WaitGroup
	for p := range processes {
		wg.Go(func() {
			out, err := child(t, dir, p*each, each).CombinedOutput()
			if err != nil {
				t.Errorf("child: %v\n%s", err, out)
			}
			mu.Lock()
			defer mu.Unlock()
			for line := range strings.Lines(string(out)) {
				if f := strings.Fields(line); len(f) == 4 && f[0] == "lease" {
					for _, a := range f[2:] {
						if other, ok := seen[a]; ok {
							t.Errorf("%s went to %s and %s", a, other, f[1])
						}
						seen[a] = f[1]
					}
				}
			}
		})
	}
	wg.Wait()
	if len(seen) != 2*processes*each {
		t.Fatalf("%d addresses, want %d", len(seen), 2*processes*each)
	}
}

// A process that is killed anywhere leaves no lease without its owner and no owner with a lease of another.
func TestKilledProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const kills = 20
	for k := range kills {
		cmd := child(t, dir, k*100000, 100000)
		fatal(t, cmd.Start())
		time.Sleep(time.Duration(20+k) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	s := open(t, dir)
	holders := map[uint64][]netip.Addr{}
	for k := range kills {
		for i := range 3000 {
			holders[owner(k*100000+i).ID()] = nil
		}
	}
	_, err := s.Retain(func(id uint64) bool {
		if _, ok := holders[id]; !ok {
			t.Errorf("a lease has the unknown owner %x", id)
		}
		return true
	})
	fatal(t, err)
	if _, err := s.Allocate(owner(-1), []ipam.Set{set(t, subnet("10.1.0.0/16")), set(t, subnet("fd00::/64"))}); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkAllocate(b *testing.B) {
	for _, held := range []int{0, 20000} {
		b.Run(fmt.Sprint(held), func(b *testing.B) {
			dir := b.TempDir()
			sets := []ipam.Set{set(b, subnet("10.1.0.0/16")), set(b, subnet("fd00::/64"))}
			s := open(b, dir)
			for i := range held {
				_, err := s.Allocate(owner(i), sets)
				fatal(b, err)
			}
			fatal(b, s.Close())
			for i := 0; b.Loop(); i++ {
				s, err := ipam.Open(b.Context(), dir)
				fatal(b, err)
				leases, err := s.Allocate(owner(-1-i), sets)
				fatal(b, err)
				fatal(b, s.Release(owner(-1-i), leases[0].Addr, leases[1].Addr))
				fatal(b, s.Close())
			}
		})
	}
}
