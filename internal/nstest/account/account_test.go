package account_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest/account"
)

func test(pkg, name string) account.Test { return account.Test{Package: pkg, Name: name} }

func TestSettle(t *testing.T) {
	t.Parallel()
	var (
		host     = test("m/a", "TestHost")
		deferred = test("m/a", "TestDeferred")
		sub      = test("m/a", "TestParts/vlan")
		hidden   = test("m/b", "TestSkipsItself")
		gone     = test("m/b", "TestNeverStarted")
		failed   = test("m/b", "TestFails")
		lost     = test("m/c", "TestLostInGuest")
		tooNew   = test("m/c", "TestTooNew")
	)
	e := account.Evidence{
		Declared: []account.Test{host, deferred, hidden, gone, failed, lost, tooNew},
		Report: account.Report{
			host:     {"nftables": account.AnswerRun},
			deferred: {"nftables": account.AnswerRun, "ipvs": account.AnswerGuest},
			sub:      {"vlan filtering": account.AnswerGuest},
			lost:     {"ipvs": account.AnswerGuest},
			tooNew:   {"nftables": account.AnswerRun, "nft-owner": account.AnswerOld},
		},
		Host: account.Results{host: account.Pass, deferred: account.Skipped, sub: account.Skipped, hidden: account.Skipped, failed: account.Fail,
			tooNew: account.Skipped},
		Guest: account.Report{
			deferred: {"nftables": account.AnswerRun, "ipvs": account.AnswerRun},
			sub:      {"vlan filtering": account.AnswerRun},
			lost:     {"nftables": account.AnswerRun, "ipvs": account.AnswerSkip},
		},
	}
	v := account.Settle(e)
	require.Equal(t, account.Verdict{
		Host:    []account.Test{host, failed},
		Guest:   []account.Test{deferred, sub},
		TooNew:  []account.Test{tooNew},
		Nowhere: []account.Test{gone, hidden, lost},
	}, v)

	var out strings.Builder
	require.NoError(t, v.Print(&out, e))
	require.Equal(t, "too new for this kernel: m/c TestTooNew, needs nft-owner\n"+
		"ran nowhere: m/b TestNeverStarted (host: not started, guest: not started)\n"+
		"ran nowhere: m/b TestSkipsItself (host: skipped, guest: not started)\n"+
		"ran nowhere: m/c TestLostInGuest (host: not started, guest: lacks ipvs; needs ipvs)\n"+
		"kernel tests: 2 on the host, 2 in the guest, 3 nowhere, 1 too new\n", out.String())
}

func TestTooOld(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"a", "b"}, account.Asked{"a": account.AnswerOld, "b": account.AnswerOld, "c": account.AnswerRun}.TooOld())
	require.Empty(t, account.Asked{"a": account.AnswerOld, "b": account.AnswerSkip}.TooOld(), "something else was missing too")
	require.Empty(t, account.Asked{"a": account.AnswerRun}.TooOld())
}

func TestReadReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("1", "run\tm/a\tTestA\tnftables\nguest\tm/a\tTestA\tipvs\nrun\tm/a\tTestA\tipvs\n")
	write("2", "skip\tm/b\tTestB/v6\tvlan filtering\n")
	r, err := account.ReadReport(dir)
	require.NoError(t, err)
	require.Equal(t, account.Report{
		test("m/a", "TestA"):    {"nftables": account.AnswerRun, "ipvs": account.AnswerGuest},
		test("m/b", "TestB/v6"): {"vlan filtering": account.AnswerSkip},
	}, r)

	for _, bad := range []string{"run\tm/a\tTestA\n", "ran\tm/a\tTestA\tx\n", "run\tm/a\tTestA\tx\ty\n", "\n"} {
		write("3", "run\tm/a\tTestA\tx\n"+bad)
		_, err := account.ReadReport(dir)
		require.ErrorContains(t, err, "line 2: ", bad)
	}
	_, err = account.ReadReport(filepath.Join(dir, "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestResultsSurviveAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results")
	none, err := account.ReadResults(path)
	require.NoError(t, err)
	require.Empty(t, none)

	want := account.Results{test("m/a", "TestA/b"): account.Pass, test("m/a", "TestA"): account.Fail, test("m", "TestC"): account.Skipped}
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, want.Write(f))
	require.NoError(t, f.Close())
	got, err := account.ReadResults(path)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, []account.Test{test("m/a", "TestA/b")}, got.Tests(account.Pass))

	require.NoError(t, os.WriteFile(path, []byte("pass\tm/a\n"), 0o600))
	_, err = account.ReadResults(path)
	require.ErrorContains(t, err, "not a result")
}

func TestDeclared(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for path, text := range map[string]string{
		"go.mod":                    "module example.org/m\n\ngo 1.25\n",
		"kernel_test.go":            "package m\nfunc TestRoot(t *testing.T) {}\nfunc TestMain(m *testing.M) {}\n",
		"a/kernel_vlan_test.go":     "package a_test\nfunc TestVLAN(t *testing.T) {}\nfunc Testing() {}\nfunc help() {}\nfunc (x) TestMethod() {}\n",
		"a/a_test.go":               "package a_test\nfunc TestPure(t *testing.T) {}\n",
		"a/testdata/kernel_test.go": "package a\nfunc TestData(t *testing.T) {}\n",
		".hidden/kernel_test.go":    "package a\nfunc TestHidden(t *testing.T) {}\n",
		"nested/go.mod":             "// a comment\nmodule example.org/other\n",
		"nested/b/kernel_test.go":   "package b\nfunc TestNested(t *testing.T) {}\n",
	} {
		path = filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	got, err := account.Declared(root)
	require.NoError(t, err)
	require.Equal(t, []account.Test{
		test("example.org/m", "TestRoot"),
		test("example.org/m/a", "TestVLAN"),
		test("example.org/other/b", "TestNested"),
	}, got)

	require.NoError(t, os.WriteFile(filepath.Join(root, "a/kernel_broken_test.go"), []byte("package"), 0o600))
	_, err = account.Declared(root)
	require.ErrorContains(t, err, "kernel_broken_test.go")
	_, err = account.Declared(t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)
}
