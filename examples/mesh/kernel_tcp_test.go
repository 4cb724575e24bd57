package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// Debian's MariaDB, whose server speaks first, connects without a word about
// it in any manifest, and without waiting.
func TestMariaDB(t *testing.T) {
	kerneltest.RequireHost(t, "mariadbd", "mariadb-install-db", "mariadb")
	small := []string{"--innodb-use-native-aio=0", "--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M"}
	fresh := filepath.Join(t.TempDir(), "data")
	out, err := exec.Command("mariadb-install-db", append([]string{"--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db",
		"--user=root", "--datadir=" + fresh}, small...)...).CombinedOutput()
	require.NoError(t, err, string(out))
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b")
		virtual := b.service("db", "db", 9, "", 3306, 3306)
		data := filepath.Join(b.dir, "data")
		require.NoError(t, os.CopyFS(data, os.DirFS(fresh)))
		users := filepath.Join(b.dir, "users.sql")
		require.NoError(t, os.WriteFile(users, []byte("CREATE USER mesh@'%' IDENTIFIED BY 'topsecret';\n"), 0o644))
		server := exec.Command("mariadbd", append([]string{"--no-defaults", "--user=root", "--datadir=" + data, "--socket=" + filepath.Join(b.dir, "sql.sock"),
			"--pid-file=" + filepath.Join(b.dir, "sql.pid"), "--init-file=" + users, "--bind-address=*", "--port=3306", "--skip-name-resolve"}, small...)...)
		var log bytes.Buffer
		server.Stdout, server.Stderr = &log, &log
		require.NoError(t, b.net.Pod("db").NS.Start(server))
		t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
		kerneltest.Eventually(t, "the server listens", func() bool {
			c, err := b.dial("db", b.at("db", 0, 3306))
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
		b.enrol()
		wire := b.tap()
		for family, f := range families {
			var took []time.Duration
			for range 11 {
				began := time.Now()
				c, err := b.dial("web", virtual[f])
				require.NoError(t, err)
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				greeting := make([]byte, 20)
				_, err = io.ReadFull(c, greeting)
				require.NoError(t, err)
				took = append(took, time.Since(began))
				require.Contains(t, string(greeting), "\n5.5.5-", "the handshake of protocol 10")
				_ = c.Close()
			}
			slices.Sort(took)
			t.Logf("%s: greeted after %v (median of %d)", family, took[5], len(took))
			require.Less(t, took[5], 100*time.Millisecond)

			query := exec.Command("mariadb", "--no-defaults", "--skip-ssl", "-N", "-h", virtual[f].Addr().String(), "-P", "3306", "-u", "mesh", "-ptopsecret", "-e",
				"SELECT REPEAT('select me ', 3), USER()")
			var answer bytes.Buffer
			query.Stdout, query.Stderr = &answer, &answer
			require.NoError(t, b.net.Pod("web").NS.Start(query))
			require.NoError(t, query.Wait(), answer.String())
			require.Contains(t, answer.String(), "select me select me select me")
		}
		wire.Settle()
		require.NotEmpty(t, wire.Frames())
		require.Zero(t, wire.Saw("select me"))
	})
}

// Whoever of the two speaks first, each direction ends by itself.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b", "-legacy@b")
		for _, pod := range []string{"db", "legacy"} {
			serveDigest(t, b, pod)
		}
		b.enrol()
		b.listened("web", "db", 8080)
		payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
		for _, f := range families {
			for _, pod := range []string{"db", "legacy"} {
				c, err := b.dial("web", b.at(pod, f, 8080))
				require.NoError(t, err)
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				_, err = c.Write(payload)
				require.NoError(t, err)
				require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
				got, err := io.ReadAll(c)
				require.NoError(t, err, "the answer comes after the end of the question")
				require.Equal(t, fmt.Sprintf("%x", sha256.Sum256(payload)), string(got))
				_ = c.Close()

				// The server ends its side, and still listens.
				c, err = b.dial("web", b.at(pod, f, 8081))
				require.NoError(t, err)
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				got, err = io.ReadAll(c)
				require.NoError(t, err)
				require.Equal(t, "done", string(got))
				_, err = c.Write(payload)
				require.NoError(t, err)
				_ = c.Close()

				// A reset is one on the other side.
				c, err = b.dial("web", b.at(pod, f, 8082))
				if err == nil { // else it was that quick
					_ = c.SetDeadline(time.Now().Add(20 * time.Second))
					_, err = c.Read(make([]byte, 10))
					_ = c.Close()
				}
				require.ErrorContains(t, err, "reset")
			}
		}
	})
}

// serveDigest serves three ports: one digests what it reads to the end, one
// says done and reads, one resets.
func serveDigest(t *testing.T, b *bed, pod string) {
	for i, serve := range []func(c net.Conn){
		func(c net.Conn) {
			h := sha256.New()
			if _, err := io.Copy(h, c); err == nil {
				fmt.Fprintf(c, "%x", h.Sum(nil))
			}
		},
		func(c net.Conn) {
			_, _ = io.WriteString(c, "done")
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		},
		func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) },
	} {
		l, err := b.net.Pod(pod).NS.Listen(t.Context(), "tcp", fmt.Sprintf(":%d", 8080+i))
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); serve(c) }()
			}
		}()
	}
}

// UDP passes by, as it is, and is counted.
func TestUDP(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b", "-legacy@b")
		for _, pod := range []string{"db", "legacy"} {
			c, err := b.net.Pod(pod).NS.ListenPacket(t.Context(), "udp", ":5353")
			require.NoError(t, err)
			defer c.Close()
			go func() {
				buf := make([]byte, 100)
				for {
					_, from, err := c.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(from.String()), from)
				}
			}()
		}
		b.enrol()
		registry := prometheus.NewRegistry()
		registry.MustRegister(b.agents[0])
		in, out := countIn(t, registry, "mesh_udp_datagrams_total", "shop/web", "inbound"), countIn(t, registry, "mesh_udp_datagrams_total", "shop/web", "outbound")
		ask := func(from string, to netip.AddrPort) {
			c, err := b.net.Pod(from).NS.DialContext(t.Context(), "udp", to.String())
			require.NoError(t, err)
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, err = io.WriteString(c, "x")
			require.NoError(t, err)
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			require.NoError(t, err)
			require.Equal(t, c.LocalAddr().String(), string(buf[:n]))
		}
		for _, f := range families {
			ask("web", b.at("db", f, 5353))
			ask("web", b.at("legacy", f, 5353))
			ask("legacy", b.at("db", f, 5353))
		}
		require.Equal(t, in+4, countIn(t, registry, "mesh_udp_datagrams_total", "shop/web", "inbound"))
		require.Equal(t, out+4, countIn(t, registry, "mesh_udp_datagrams_total", "shop/web", "outbound"))
	})
}

// Questions to any name server are answered by the one that the mesh asks, by
// UDP and by TCP, unless they are the pod's to itself.
func TestDNS(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "-names@b")
		b.names = b.at("names", 1, 53)
		serve := func(pod, address, says string) {
			ns := b.net.Pod(pod).NS
			u, err := ns.ListenPacket(t.Context(), "udp", address)
			require.NoError(t, err)
			l, err := ns.Listen(t.Context(), "tcp", address)
			require.NoError(t, err)
			t.Cleanup(func() { _ = u.Close(); _ = l.Close() })
			go func() {
				buf := make([]byte, 100)
				for {
					n, from, err := u.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = u.WriteTo(append([]byte(says), buf[:n]...), from)
				}
			}()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						_, _ = io.WriteString(c, says)
						_, _ = io.Copy(c, c)
					}()
				}
			}()
		}
		serve("names", ":53", "names: ")
		serve("web", "127.0.0.1:53", "own: ")
		serve("web", "[::1]:53", "own: ")
		b.enrol()
		ask := func(network string, to netip.AddrPort) string {
			c, err := b.net.Pod("web").NS.DialContext(t.Context(), network, to.String())
			require.NoError(t, err)
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, err = io.WriteString(c, "who")
			require.NoError(t, err)
			var got []byte
			buf := make([]byte, 100)
			for !bytes.HasSuffix(got, []byte("who")) {
				n, err := c.Read(buf)
				require.NoError(t, err)
				got = append(got, buf[:n]...)
			}
			return string(got)
		}
		nobody := [2]netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}
		for _, f := range families {
			for _, network := range []string{"udp", "tcp"} {
				require.Equal(t, "names: who", ask(network, netip.AddrPortFrom(nobody[f], 53)))
				require.Equal(t, "names: who", ask(network, b.at("names", f, 53)))
				require.Equal(t, "own: who", ask(network, netip.AddrPortFrom(loopback[f], 53)))
			}
		}
	})
}

// Many connections at a time, each with its own bytes.
func TestMany(t *testing.T) {
	t.Parallel()
	b := newBed(t, nodeMode, "web@a", "db@b")
	b.echo("db", ":8080")
	b.enrol()
	var all sync.WaitGroup
	failed := make(chan error, 200)
	for i := range 200 {
		all.Go(func() {
			c, err := b.dial("web", b.at("db", i%2, 8080))
			if err == nil {
				defer c.Close()
				_, err = says(c, fmt.Sprintf("%s %d", secret, i))
			}
			failed <- err
		})
	}
	all.Wait()
	for range 200 {
		require.NoError(t, <-failed)
	}
}
