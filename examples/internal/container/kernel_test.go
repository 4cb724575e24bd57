package container_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, nil)) }

// pod makes a namespace, and a configuration for containers in it.
func pod(t *testing.T) container.Config {
	t.Helper()
	kerneltest.Require(t)
	ns, err := netns.New()
	require.NoError(t, err)
	t.Cleanup(func() { ns.Close() })
	require.NoError(t, ns.LoopbackUp())
	return container.Config{NetNS: ns, Run: "test", Pod: "shop/web"}
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestServe(t *testing.T) {
	config := pod(t)
	ctx := timeout(t)
	process, err := container.Serve(ctx, config, "c", "tcp/80", "udp/53", "tcp/0")
	require.NoError(t, err)
	defer process.Kill()
	require.Equal(t, []uint16{80, 53}, process.Ports[:2])
	require.NotZero(t, process.Ports[2])
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		addr := netip.MustParseAddr(loopback)
		for _, port := range []uint16{process.Ports[0], process.Ports[2]} {
			asked, err := container.Ask(ctx, config.NetNS.DialContext, netip.AddrPortFrom(addr, port))
			require.NoError(t, err)
			require.Equal(t, container.Answer{Pod: "shop/web", Container: "c", Client: asked.From, Server: netip.AddrPortFrom(addr, port)}, asked.Answer)
			require.Equal(t, addr, asked.From.Addr())
		}
		asked, err := container.AskUDP(ctx, config.NetNS.DialContext, netip.AddrPortFrom(addr, 53))
		require.NoError(t, err)
		require.Equal(t, "c", asked.Container)
		require.Equal(t, asked.From, asked.Client)
	}
}

func TestServeOnTakenPort(t *testing.T) {
	config := pod(t)
	ctx := timeout(t)
	first, err := container.Serve(ctx, config, "first", "tcp/80")
	require.NoError(t, err)
	defer first.Kill()
	_, err = container.Serve(ctx, config, "second", "tcp/81", "tcp/80")
	require.EqualError(t, err, "container second of pod shop/web: listen tcp :80: bind: address already in use")
	third, err := container.Serve(ctx, config, "third", "tcp/81")
	require.NoError(t, err, "the second must have left its first port")
	third.Kill()
	_, err = container.Serve(ctx, config, "fourth", "sctp/80")
	require.EqualError(t, err, "container fourth of pod shop/web: cannot listen on sctp/80")
}

func TestServeCancelled(t *testing.T) {
	config := pod(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := container.Serve(ctx, config, "c", "tcp/80")
	require.ErrorIs(t, err, context.Canceled)
	process, err := container.Serve(timeout(t), config, "c", "tcp/80")
	require.NoError(t, err, "nobody may hold the port")
	process.Kill()
}

func TestAskThrough(t *testing.T) {
	config := pod(t)
	ctx := timeout(t)
	process, err := container.Serve(ctx, config, "c", "tcp/80", "tcp/81")
	require.NoError(t, err)
	defer process.Kill()
	via := netip.MustParseAddrPort("127.0.0.1:80")
	answer, err := container.AskThrough(ctx, config.NetNS.DialContext, via, "[::1]:81")
	require.NoError(t, err)
	require.Equal(t, "[::1]:81", answer.Server.String())
	_, err = container.AskThrough(ctx, config.NetNS.DialContext, via, "127.0.0.1:9")
	require.ErrorContains(t, err, "502 Bad Gateway: dial tcp 127.0.0.1:9: connect: connection refused")
	_, err = container.AskThrough(ctx, config.NetNS.DialContext, via, "not a host")
	require.ErrorContains(t, err, "400 Bad Request")
}

func TestAskSomethingElse(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer server.Close()
	_, err := container.Ask(timeout(t), server.Client().Transport.(*http.Transport).DialContext, netip.MustParseAddrPort(server.Listener.Addr().String()))
	require.ErrorContains(t, err, "not the answer of a container")
}

func TestLifeline(t *testing.T) {
	config := pod(t)
	process, err := container.Serve(timeout(t), config, "c", "tcp/80")
	require.NoError(t, err)
	process.Release() // as when this process is gone
	select {
	case <-process.Done():
	case <-time.After(10 * time.Second):
		process.Kill()
		t.Fatal("the container goes on")
	}

	config.Detach = true
	process, err = container.Serve(timeout(t), config, "c", "tcp/80")
	require.NoError(t, err)
	process.Release()
	select {
	case <-process.Done():
		t.Fatal("the detached container has ended")
	case <-time.After(200 * time.Millisecond):
	}
	process.Kill()
}

func TestCommand(t *testing.T) {
	config := pod(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer log.Close()
	config.Log = log
	config.Env = []string{"GREETING=hello"}
	command, err := container.Command(config, "read line; echo $GREETING $"+container.Marker+"; exit 7")
	require.NoError(t, err)
	link, err := os.Readlink("/proc/" + strconv.Itoa(command.PID()) + "/ns/net")
	require.NoError(t, err)
	require.True(t, command.Running())
	command.Release() // ends its input
	<-command.Done()
	require.EqualError(t, command.Err(), "exit status 7")
	id, err := config.NetNS.ID()
	require.NoError(t, err)
	said, err := os.ReadFile(log.Name())
	require.NoError(t, err)
	require.Equal(t, "hello test\n", string(said))
	require.Equal(t, id.String(), link)
	require.False(t, command.Running())
}

func TestAskCommand(t *testing.T) {
	config := pod(t)
	process, err := container.Serve(timeout(t), config, "c", "tcp/80")
	require.NoError(t, err)
	defer process.Kill()
	config.Tools = t.TempDir()
	said := func(command string) string {
		log, err := os.Create(filepath.Join(t.TempDir(), "log"))
		require.NoError(t, err)
		defer log.Close()
		config.Log = log
		process, err := container.Command(config, command)
		require.NoError(t, err)
		<-process.Done()
		text, err := os.ReadFile(log.Name())
		require.NoError(t, err)
		return string(text)
	}
	require.Contains(t, said("ask localhost:80"), `{"pod":"shop/web","container":"c",`)
	require.Contains(t, said("ask [::1]:80"), `"server":"[::1]:80"`)
	require.Contains(t, said("ask localhost:81 || echo no"), "connection refused\nno\n")
	require.Contains(t, said("ask 'localhost:80' extra || echo no"), "usage: ask HOST:PORT\nno\n")
}

// A command is ended with its children, in its own way when that is quick.
func TestStop(t *testing.T) {
	config := pod(t)
	dir := t.TempDir()
	config.Env = []string{"DIR=" + dir}
	command, err := container.Command(config, `trap 'echo bye >$DIR/bye; exit' TERM; exec 3<&0; (read line <&3) & echo $! >$DIR/child; wait`)
	require.NoError(t, err)
	child := readPID(t, filepath.Join(dir, "child"))
	command.Stop(10 * time.Second)
	_, err = os.Stat(filepath.Join(dir, "bye"))
	require.NoError(t, err)
	kerneltest.Eventually(t, "the child ends", func() bool { return !alive(child) })

	deaf, err := container.Command(config, `trap '' TERM; echo $$ >$DIR/self; while :; do read line; done`)
	require.NoError(t, err)
	self := readPID(t, filepath.Join(dir, "self"))
	deaf.Stop(50 * time.Millisecond)
	require.False(t, alive(self))
	deaf.Stop(time.Hour) // again: it is gone, and so is the wait
}

func readPID(t *testing.T, file string) int {
	t.Helper()
	var pid int
	kerneltest.Eventually(t, "the command writes "+file, func() bool {
		text, err := os.ReadFile(file)
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		return err == nil
	})
	return pid
}

// alive tells whether a process runs; one that waits to be collected does not.
func alive(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && syscall.Kill(pid, 0) == nil && !strings.Contains(string(status), ") Z ")
}
