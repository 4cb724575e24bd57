package nstest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podplumb/podplumb/netns"
)

// Bounds of the traffic helpers. The guest of internal/vmtest, whose processor is emulated,
// gets eight times as long to answer, and twice as long to be silent.
const (
	AnswerWithin = 2 * time.Second        // how long Ask waits for an answer
	SilenceFor   = 250 * time.Millisecond // how long TimesOut waits for none
)

func patience(d time.Duration) time.Duration {
	if InGuest() {
		d *= 8
	}
	return d
}

func silence() time.Duration {
	if InGuest() {
		return 2 * SilenceFor
	}
	return SilenceFor
}

// Answer is what a server of this package answers.
type Answer struct {
	Server string         // the label of the server
	Client netip.AddrPort // the client's address as the server sees it
	Local  netip.AddrPort // the server's own address as the server sees it
}

func (a Answer) line() string {
	return fmt.Sprintf("%s %s %s\n", a.Server, a.Client, a.Local)
}

func parseAnswer(line string) (Answer, error) {
	f := strings.Fields(line)
	if len(f) != 3 {
		return Answer{}, fmt.Errorf("answer %q is none of a test server", line)
	}
	client, err1 := netip.ParseAddrPort(f[1])
	local, err2 := netip.ParseAddrPort(f[2])
	return Answer{Server: f[0], Client: client, Local: local}, errors.Join(err1, err2)
}

// ServeTCP starts a server inside ns that answers every line with an [Answer]. The
// address may have port 0, or be ":port" for both families; what it listens on is
// returned. The label must hold no space. The server ends with the test.
func ServeTCP(t testing.TB, ns *netns.NS, address, label string) netip.AddrPort {
	t.Helper()
	l, err := ns.Listen(context.Background(), "tcp", address)
	if err != nil {
		t.Fatalf("serve TCP in %s: %v", ns, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerTCP(ctx, c, label)
		}
	}()
	t.Cleanup(func() {
		stop()
		_ = l.Close()
		<-done
	})
	return addrPort(l.Addr())
}

func answerTCP(ctx context.Context, c net.Conn, label string) {
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	answer := Answer{label, addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())}.line()
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if _, err := c.Write([]byte(answer)); err != nil {
			return
		}
	}
}

// ServeUDP is [ServeTCP] for UDP: every datagram is answered, from the address that it was
// sent to.
func ServeUDP(t testing.TB, ns *netns.NS, address, label string) netip.AddrPort {
	t.Helper()
	p, err := ns.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		t.Fatalf("serve UDP in %s: %v", ns, err)
	}
	c := p.(*net.UDPConn)
	if err := wantDestination(c); err != nil {
		t.Fatalf("serve UDP in %s: %v", ns, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		answerUDP(c, label)
	}()
	t.Cleanup(func() {
		_ = c.Close()
		<-done
	})
	return addrPort(c.LocalAddr())
}

func answerUDP(c *net.UDPConn, label string) {
	port := addrPort(c.LocalAddr()).Port()
	buf, oob := make([]byte, 64<<10), make([]byte, 256)
	for {
		_, n, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		local, reply := destination(oob[:n])
		client := netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		line := Answer{label, client, netip.AddrPortFrom(local, port)}.line()
		_, _, _ = c.WriteMsgUDPAddrPort([]byte(line), reply, from)
	}
}

// Flow is a client's open TCP connection or connected UDP socket.
type Flow struct{ net.Conn }

// Dial opens a flow from inside ns, within [AnswerWithin]. network is tcp or udp. The
// caller closes it; the end of the test does as well.
func Dial(t testing.TB, ns *netns.NS, network string, to netip.AddrPort) (*Flow, error) {
	t.Helper()
	f, err := dial(ns, network, to, patience(AnswerWithin))
	if err == nil {
		t.Cleanup(func() { _ = f.Close() })
	}
	return f, err
}

func dial(ns *netns.NS, network string, to netip.AddrPort, within time.Duration) (*Flow, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	c, err := ns.DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	return &Flow{c}, nil
}

// Ask sends one question over the flow and waits for the answer, up to
// [AnswerWithin].
func (f *Flow) Ask() (Answer, error) { return f.ask(patience(AnswerWithin)) }

// AskBriefly is [Flow.Ask] for a flow that is not expected to be answered: it waits as long as [TimesOut].
func (f *Flow) AskBriefly() (Answer, error) { return f.ask(silence()) }

func (f *Flow) ask(within time.Duration) (Answer, error) {
	if err := f.SetDeadline(time.Now().Add(within)); err != nil {
		return Answer{}, err
	}
	if _, err := f.Write([]byte("who\n")); err != nil {
		return Answer{}, err
	}
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return Answer{}, err
	}
	return parseAnswer(line)
}

// Ask opens a flow, asks once and closes it. UDP is asked again until something
// answers, as a first datagram may be lost; every wait is bounded.
func Ask(ns *netns.NS, network string, to netip.AddrPort) (Answer, error) {
	return ask(ns, network, to, patience(AnswerWithin))
}

func ask(ns *netns.NS, network string, to netip.AddrPort, within time.Duration) (Answer, error) {
	f, err := dial(ns, network, to, within)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = f.Close() }()
	if !strings.HasPrefix(network, "udp") {
		return f.ask(within)
	}
	for end := time.Now().Add(within); ; {
		answer, err := f.ask(min(within, 300*time.Millisecond))
		if err == nil || !isTimeout(err) || time.Now().After(end) {
			return answer, err
		}
	}
}

// Reaches fails the test unless a server answers, and returns the answer.
func Reaches(t testing.TB, ns *netns.NS, network string, to netip.AddrPort) Answer {
	t.Helper()
	a, err := Ask(ns, network, to)
	if err != nil {
		t.Fatalf("%s does not reach %s %s: %v", ns, network, to, err)
	}
	return a
}

// Refused fails the test unless the flow is refused at once: by a reset or an ICMP error
// (unreachable, prohibited). An answer or silence fails it.
func Refused(t testing.TB, ns *netns.NS, network string, to netip.AddrPort) {
	t.Helper()
	a, err := Ask(ns, network, to)
	switch {
	case err == nil:
		t.Fatalf("%s reaches %s %s, want refusal; the answer was %+v", ns, network, to, a)
	case !isRefusal(err):
		t.Fatalf("%s to %s %s: want refusal, not: %v", ns, network, to, err)
	}
}

// Unanswered fails the test when there is an answer within [SilenceFor]; refusal and silence are both fine.
func Unanswered(t testing.TB, ns *netns.NS, network string, to netip.AddrPort) {
	t.Helper()
	if a, err := ask(ns, network, to, silence()); err == nil {
		t.Fatalf("%s reaches %s %s, want no answer; the answer was %+v", ns, network, to, a)
	}
}

// TimesOut fails the test unless there is neither answer nor refusal for [SilenceFor].
func TimesOut(t testing.TB, ns *netns.NS, network string, to netip.AddrPort) {
	t.Helper()
	if err := Silent(ns, network, to); err != nil {
		t.Fatal(err)
	}
}

// Silent returns nil when there is neither answer nor refusal for [SilenceFor]. Unlike [TimesOut] it may be called from several goroutines, so that
// one silence is waited for while another is.
func Silent(ns *netns.NS, network string, to netip.AddrPort) error {
	a, err := ask(ns, network, to, silence())
	switch {
	case err == nil:
		return fmt.Errorf("%s reaches %s %s, want silence; the answer was %+v", ns, network, to, a)
	case !isTimeout(err):
		return fmt.Errorf("%s to %s %s: want silence, not: %w", ns, network, to, err)
	}
	return nil
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

func isRefusal(err error) bool {
	for _, e := range []error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EACCES, syscall.EPERM,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// addrPort returns the netip form of a TCP or UDP address.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Answers reports whether anything answers within the time, be it refusal or silence that it meets.
func Answers(ns *netns.NS, network string, to netip.AddrPort, within time.Duration) bool {
	_, err := ask(ns, network, to, patience(within))
	return err == nil
}
