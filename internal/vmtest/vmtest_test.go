package vmtest_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/vmtest"
)

// entry is one file of an archive as parseCPIO reads it.
type entry struct {
	mode uint64
	data string
}

func parseCPIO(t *testing.T, archive []byte) map[string]entry {
	t.Helper()
	out := map[string]entry{}
	for pos := 0; ; {
		require.Equal(t, "070701", string(archive[pos:pos+6]), "magic at %d", pos)
		field := func(i int) int {
			n, err := strconv.ParseUint(string(archive[pos+6+8*i:pos+14+8*i]), 16, 32)
			require.NoError(t, err)
			return int(n)
		}
		size, nameLen := field(6), field(11)
		name := string(archive[pos+110 : pos+110+nameLen-1])
		require.Zero(t, archive[pos+110+nameLen-1], "names end with a zero byte")
		mode := uint64(field(1))
		data := (pos + 110 + nameLen + 3) &^ 3
		if name == "TRAILER!!!" {
			require.LessOrEqual(t, len(archive)-data, 3)
			return out
		}
		_, twice := out[name]
		require.False(t, twice, "%s is in the archive twice", name)
		parent := filepath.Dir(name)
		require.True(t, parent == "." || out[parent].mode&0o170000 == 0o040000, "%s comes before its folder", name)
		out[name] = entry{mode, string(archive[data : data+size])}
		pos = (data + size + 3) &^ 3
	}
}

func TestCPIO(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	source := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(source, []byte("12345"), 0o755))
	c := vmtest.NewCPIO(&b)
	c.Bytes("/etc/deep/hosts", 0o644, []byte("x"))
	c.Bytes("/etc/deep/hosts", 0o644, []byte("again"))
	c.Symlink("/sbin/modprobe", "/init")
	c.Dir("/etc/deep", 0o700)
	c.Dir("/empty", 0o700)
	c.Bytes("/zero", 0o600, nil)
	require.NoError(t, c.File("/init", source))
	require.NoError(t, c.Finish())
	require.Equal(t, map[string]entry{
		"etc":            {0o040755, ""},
		"etc/deep":       {0o040755, ""},
		"etc/deep/hosts": {0o100644, "x"},
		"sbin":           {0o040755, ""},
		"sbin/modprobe":  {0o120777, "/init"},
		"empty":          {0o040700, ""},
		"zero":           {0o100600, ""},
		"init":           {0o100755, "12345"},
	}, parseCPIO(t, b.Bytes()))
	require.ErrorContains(t, vmtest.NewCPIO(&b).File("/x", t.TempDir()), "not a regular file")
	require.ErrorIs(t, vmtest.NewCPIO(&b).File("/x", source+"-no"), os.ErrNotExist)
}

func TestCPIOSizes(t *testing.T) {
	t.Parallel()
	for size := range 9 {
		var b bytes.Buffer
		c := vmtest.NewCPIO(&b)
		want := strings.Repeat("a", size)
		c.Bytes(strings.Repeat("n", size+1), 0o600, []byte(want))
		c.Bytes("last", 0o600, []byte("z"))
		require.NoError(t, c.Finish())
		got := parseCPIO(t, b.Bytes())
		require.Equal(t, want, got[strings.Repeat("n", size+1)].data)
		require.Equal(t, "z", got["last"].data)
	}
}

func TestModinfo(t *testing.T) {
	t.Parallel()
	m := vmtest.ParseModinfo("/m/kernel/ip-vs-rr.ko", []byte("license=GPL\x00alias=net-pf-10-proto-132\x00depends=ip_vs,nf-conntrack\x00"+
		"softdep=pre: crypto-crc32c post: later\x00alias=pci:v0000[0-9a]*\x00depends=\x00name=ip_vs_rr\x00"))
	name, depends, aliases := m.Fields()
	require.Equal(t, "ip_vs_rr", name)
	require.Equal(t, []string{"ip_vs", "nf_conntrack", "crypto_crc32c"}, depends)
	require.Equal(t, []string{"net_pf_10_proto_132", "pci:v0000[0-9a]*"}, aliases)
}

func TestModuleTree(t *testing.T) {
	t.Parallel()
	tree := vmtest.ModuleTree{
		"a":    vmtest.NewModule("a", []string{"b", "c"}, []string{"net_pf_2_*"}),
		"b":    vmtest.NewModule("b", []string{"c"}, nil),
		"c":    vmtest.NewModule("c", []string{"builtin"}, nil),
		"loop": vmtest.NewModule("loop", []string{"pool"}, nil),
		"pool": vmtest.NewModule("pool", []string{"loop"}, []string{"net_pf_2_proto_9"}),
	}
	require.Equal(t, []string{"c", "b", "a"}, tree.Resolve("a"))
	require.Equal(t, []string{"c", "b", "a"}, tree.Resolve("net-pf-2-proto-132"))
	require.Equal(t, []string{"c", "b", "a", "loop", "pool"}, tree.Resolve("net-pf-2-proto-9"), "all that have the alias, cycles end")
	require.Empty(t, tree.Resolve("net-pf-3"))
	require.Equal(t, []string{"a", "b", "c"}, tree.Close("a"))
	require.Equal(t, []string{"loop", "pool"}, tree.Close("loop"))

	again, err := vmtest.ReadIndex(bytes.NewReader(tree.Index()))
	require.NoError(t, err)
	require.Equal(t, tree.Index(), again.Index())
	_, err = vmtest.ReadIndex(strings.NewReader("a\tb\n"))
	require.ErrorContains(t, err, "bad line")
}

func TestFrames(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	long := bytes.Repeat([]byte("0123456789"), vmtest.FrameMax/10+1)
	require.NoError(t, vmtest.SendFrame(&b, vmtest.FrameStdout, nil))
	require.NoError(t, vmtest.SendFrame(&b, 'q', long))
	kind, payload, err := vmtest.ReadFrame(&b)
	require.NoError(t, err)
	require.Equal(t, byte(vmtest.FrameStdout), kind)
	require.Empty(t, payload)
	var got []byte
	for range 2 {
		kind, payload, err = vmtest.ReadFrame(&b)
		require.NoError(t, err)
		require.Equal(t, byte('q'), kind)
		got = append(got, payload...)
	}
	require.Equal(t, long, got)
	_, _, err = vmtest.ReadFrame(&b)
	require.ErrorIs(t, err, io.EOF)
	_, _, err = vmtest.ReadFrame(strings.NewReader("O\x00\x00\x00\x05abc"))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, _, err = vmtest.ReadFrame(strings.NewReader("O\xff\xff\xff\xff"))
	require.ErrorContains(t, err, "garbled")
}

func TestLibraries(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("no cat on this host")
	}
	files, err := vmtest.Libraries(program)
	require.NoError(t, err)
	require.Equal(t, program, files[0])
	listed, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Skip("no ldd on this host: apt-get install libc-bin")
	}
	for line := range strings.Lines(string(listed)) {
		name := strings.Fields(line)[0]
		if strings.HasPrefix(name, "linux-vdso") {
			continue
		}
		require.Contains(t, strings.Join(files, " "), filepath.Base(name))
	}
	script := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755))
	files, err = vmtest.Libraries(script)
	require.NoError(t, err)
	require.Equal(t, []string{script}, files)
}

func TestLinkerConf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf := filepath.Join(dir, "ld.so.conf")
	require.NoError(t, os.WriteFile(conf, []byte("# none\n/opt/one # here\ninclude "+dir+"/*.d\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.d"), []byte("/opt/two\ninclude "+conf+"\n"), 0o644))
	require.Subset(t, vmtest.LinkerConf(conf, 0), []string{"/opt/one", "/opt/two"})
}

func TestReadReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("run\tm/veth\tTestPair\tveth\nguest\tm/veth\tTestVLAN\tvlan filtering\n"+
		"guest\tm/veth\tTestVLAN\tbridge\nguest\tm/ipvs\tTestRR/v4 (1)\tIPVS\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b"), []byte("guest\tm/veth\tTestTrunk\tbridge\nskip\tm/x\tTestY\tz\n"), 0o644))
	got, err := vmtest.ReadReport(dir)
	require.NoError(t, err)
	require.Equal(t, []vmtest.Deferred{
		{ImportPath: "m/ipvs", Tests: []string{"TestRR/v4 (1)"}, Features: []string{"IPVS"}},
		{ImportPath: "m/veth", Tests: []string{"TestTrunk", "TestVLAN"}, Features: []string{"bridge", "vlan filtering"}},
	}, got)
	require.Equal(t, `^TestRR$/^v4 \(1\)$`, got[0].Pattern())
	require.Equal(t, `^TestTrunk$|^TestVLAN$`, got[1].Pattern())

	require.NoError(t, os.WriteFile(filepath.Join(dir, "c"), []byte("guest m/veth TestVLAN\n"), 0o644))
	_, err = vmtest.ReadReport(dir)
	require.ErrorContains(t, err, "line 1: 1 fields, want 4")
	_, err = vmtest.ReadReport(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestUnsigned(t *testing.T) {
	t.Parallel()
	signed := "module" + "sig" + string(make([]byte, 8)) + "\x00\x00\x00\x03" + "~Module signature appended~\n"
	for in, want := range map[string]string{
		signed:                          "module",
		"module":                        "module",
		signed[:len(signed)-1]:          signed[:len(signed)-1],
		"~Module signature appended~\n": "~Module signature appended~\n",
		"x" + signed[len("module"):]:    "x",
		string(make([]byte, 8)) + "\xff\xff\xff\xff~Module signature appended~\n": string(make([]byte, 8)) + "\xff\xff\xff\xff~Module signature appended~\n",
	} {
		require.Equal(t, want, string(vmtest.Unsigned([]byte(in))))
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	d := vmtest.Deferred{ImportPath: "m/a", Tests: []string{"TestA", "TestB", "TestC/v4", "TestD", "TestE", "TestF"}}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1"), []byte("skip\tm/a\tTestB\tipvs\nold\tm/a\tTestE\tnft-owner\nold\tm/a\tTestF\tnft-owner\n"), 0o600))
	missed, tooNew, err := d.Judge([]byte("=== RUN   TestA\n--- PASS: TestA (0.00s)\n--- SKIP: TestB (0.10s)\n--- PASS: TestC (0.00s)\n"+
		"    --- PASS: TestC/v4 (0.00s)\n    --- SKIP: TestC/v6 (0.00s)\n--- SKIP: TestE (0.00s)\n--- FAIL: TestF (0.00s)\n"), dir)
	require.NoError(t, err)
	require.Equal(t, []string{"TestB: SKIP", "TestC/v6: SKIP", "TestD: did not run", "TestF: FAIL"}, missed)
	require.Equal(t, []string{"TestE: needs nft-owner"}, tooNew)
}

func TestKernelTests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kernel_test.go"), []byte("package m\nfunc TestB(t *testing.T) {}\nfunc TestA(t *testing.T) {}\n"), 0o600))
	got, err := vmtest.KernelTests(dir, []string{"m"})
	require.NoError(t, err)
	require.Equal(t, []vmtest.Deferred{{ImportPath: "m", Tests: []string{"TestA", "TestB"}}}, got)
	_, err = vmtest.KernelTests(dir, []string{"m/none"})
	require.ErrorContains(t, err, "m/none declares no kernel test")
}

func TestTestJob(t *testing.T) {
	t.Setenv("PODPLUMB_KERNEL_REPORT", "/r")
	dir := t.TempDir()
	job, err := vmtest.TestJob(dir, "/x/a.test", "-test.timeout=2m", "-test.coverprofile=c.out", "--test.cpuprofile", "/abs/cpu",
		"-test.v", "-test.outputdir=/o")
	require.NoError(t, err)
	require.Equal(t, 2*time.Minute+10*time.Second, job.Timeout)
	require.Equal(t, []string{"/o/c.out", "/abs/cpu"}, job.Outputs)
	require.Equal(t, dir, job.Dir)
	require.Equal(t, "/r", job.Report)
	require.Equal(t, "/x/a.test", job.Args[0])
}

func TestMissingPackages(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := vmtest.Run(t.Context(), vmtest.Config{}, nil)
	var missing *vmtest.MissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "vmtest: qemu-system-x86_64 not found: apt-get install --no-install-recommends qemu-system-x86", err.Error())
	_, err = vmtest.Fetch(t.Context(), vmtest.Kernel{Cache: t.TempDir()})
	require.ErrorAs(t, err, &missing)
	require.Equal(t, []string{"apt-get", "apt-cache", "dpkg-deb"}, missing.Programs)
	require.Equal(t, []string{"apt", "dpkg"}, missing.Packages)
}

func TestFetchErrors(t *testing.T) {
	t.Parallel()
	_, err := vmtest.Fetch(t.Context(), vmtest.Kernel{Dir: t.TempDir()})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "boot/vmlinuz-*")
	if _, err := exec.LookPath("apt-cache"); err != nil {
		t.Skip("no apt on this host")
	}
	cache := t.TempDir()
	_, err = vmtest.Fetch(t.Context(), vmtest.Kernel{Package: "linux-image-of-nobody", Version: "1", Cache: cache})
	require.ErrorContains(t, err, "vmtest: kernel linux-image-of-nobody=1: apt does not know the package linux-image-of-nobody=1")
	left, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Empty(t, left)
}

func ExampleDeferred_Pattern() {
	d := vmtest.Deferred{ImportPath: "example.com/m/veth", Tests: []string{"TestTrunk", "TestVLAN/v6"}}
	fmt.Println(d.Pattern())
	// Output: ^TestTrunk$|^TestVLAN$/^v6$
}
