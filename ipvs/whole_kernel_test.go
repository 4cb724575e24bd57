//go:build linux

package ipvs_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
)

// TestFlush removes everything, others' too, for the one who owns everything only.
func TestFlush(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	all := newClient(t, ns, ipvs.Everything())
	for _, owns := range []ipvs.Owns{
		{Prefixes: ipvs.Everything().Prefixes}, {Prefixes: ipvs.Everything().Prefixes[:1], Marks: ipvs.Everything().Marks},
		{Prefixes: ipvs.Everything().Prefixes, Marks: []ipvs.MarkRange{{First: 2, Last: 1<<32 - 1}}},
	} {
		require.ErrorIs(t, newClient(t, ns, owns).Flush(t.Context()), ipvs.ErrNotOwned)
	}
	state := ipvs.State{Services: []ipvs.Service{simple("10.96.0.1:80", "10.1.0.1:80"), simple("[fd96::1]:80"),
		{Key: ipvs.Key{Mark: 10, Family: ipvs.IPv4}, Scheduler: ipvs.RoundRobin}}}
	_, err := all.Sync(t.Context(), state)
	require.NoError(t, err)
	require.NoError(t, all.Zero(t.Context()))
	require.NoError(t, all.Flush(t.Context()))
	requireIPVSADM(t, ns, ipvs.State{})
	_, err = all.Update(t.Context(), ipvs.Change{Set: state.Services[:1]})
	require.NoError(t, err, "it remembers nothing of what was flushed")
	requireIPVSADM(t, ns, ipvs.State{Services: state.Services[:1]})
}

// TestCancelled cuts a Sync short: what was sent is done, and the next Sync does the rest. Meanwhile another call does not wait longer than it may.
func TestCancelled(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	c := newClient(t, ns, ipvs.Everything())
	want := many(3000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := c.Sync(ctx, want)
		done <- err
	}()
	look := newClient(t, ns, ipvs.Everything())
	require.Eventually(t, func() bool {
		keys, err := look.Stats(t.Context(), want.Services[300].Key)
		return err == nil && len(keys) == 1
	}, 30*time.Second, time.Millisecond)
	hasty, over := context.WithTimeout(t.Context(), time.Millisecond)
	defer over()
	_, err := c.Daemons(hasty)
	require.ErrorIs(t, err, context.DeadlineExceeded, "it is not its turn")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	have, err := c.Read(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, have.Services)
	require.Less(t, len(have.Services), len(want.Services))

	p, err := c.Sync(t.Context(), want)
	require.NoError(t, err)
	require.False(t, p.Empty())
	require.Less(t, len(p.Keys()), len(want.Services), "what was done stays")
	have, err = look.Read(t.Context())
	require.NoError(t, err)
	require.True(t, ipvs.Diff(want, have).Empty())
	p, err = c.Sync(t.Context(), want)
	require.NoError(t, err)
	require.True(t, p.Empty())
}

func TestClosedNamespace(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns, err := netns.New()
	require.NoError(t, err)
	c := newClient(t, ns, ipvs.Everything())
	require.NoError(t, ns.Close())
	_, err = c.Sync(t.Context(), ipvs.State{Services: []ipvs.Service{simple("10.96.0.1:80")}})
	require.NoError(t, err, "the client has a handle of its own")
	_, err = ipvs.New(ipvs.Config{NetNS: ns, Owns: ipvs.Everything()})
	require.ErrorIs(t, err, os.ErrClosed)
}

// innerEnv is set where a test runs another.
const innerEnv = "PODPLUMB_IPVS_INNER"

// TestNotPermitted runs TestInnerNotPermitted without capabilities.
func TestNotPermitted(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Require(t, nstest.Tool("setpriv"))
	cmd := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs",
		os.Args[0], "-test.run=^TestInnerNotPermitted$", "-test.v")
	cmd.Env = append(os.Environ(), innerEnv+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestInnerNotPermitted")
}

func TestInnerNotPermitted(t *testing.T) {
	c, err := ipvs.New(ipvs.Config{Owns: ipvs.Everything()})
	require.NoError(t, err, "to look for the family is allowed")
	defer func() { require.NoError(t, c.Close()) }()
	_, read := c.Read(t.Context())
	_, update := c.Update(t.Context(), ipvs.Change{Set: []ipvs.Service{simple("10.96.0.1:80")}})
	_, info := c.Info(t.Context())
	for _, err := range []error{read, update, info, c.SetTimeouts(t.Context(), ipvs.Timeouts{TCP: time.Hour}), c.Flush(t.Context())} {
		require.ErrorIs(t, err, fs.ErrPermission)
		require.ErrorContains(t, err, "needs CAP_NET_ADMIN in the initial user namespace")
		var op *ipvs.OpError
		require.True(t, errors.As(err, &op))
	}
}
