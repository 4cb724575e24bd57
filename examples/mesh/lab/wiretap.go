package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// Wiretap reads every frame that passes an interface (packet(7)).
type Wiretap struct {
	file *os.File
	done chan struct{}

	mu     sync.Mutex
	frames [][]byte
}

// Tap opens a Wiretap on an interface of a namespace. It reads until Close.
func Tap(ns *netns.NS, link string) (*Wiretap, error) {
	var fd int
	err := ns.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		const all = 0x0300 // ETH_P_ALL in network order
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all); err != nil {
			return err
		}
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) != nil { // root's alone
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<20)
		}
		if err = errors.Join(err, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})); err != nil {
			_ = unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("tap %s: %w", link, err)
	}
	t := &Wiretap{file: os.NewFile(uintptr(fd), "packet"), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		buf := make([]byte, 1<<16)
		for {
			n, err := t.file.Read(buf)
			if errors.Is(err, unix.ENETDOWN) { // told once when the link goes down; it may come up again
				continue
			}
			if err != nil {
				return
			}
			t.mu.Lock()
			t.frames = append(t.frames, bytes.Clone(buf[:n]))
			t.mu.Unlock()
		}
	}()
	return t, nil
}

// Frames returns what was read so far.
func (t *Wiretap) Frames() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.frames[:len(t.frames):len(t.frames)]
}

// Saw says how many frames hold the text.
func (t *Wiretap) Saw(text string) (n int) {
	for _, f := range t.Frames() {
		if bytes.Contains(f, []byte(text)) {
			n++
		}
	}
	return n
}

// Wait waits until a frame holds the text, which is to pass any moment. It
// returns whether one came within five seconds.
func (t *Wiretap) Wait(text string) bool {
	for end := time.Now().Add(5 * time.Second); t.Saw(text) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// Settle waits until a short while passed without a frame.
func (t *Wiretap) Settle() {
	for before := -1; ; {
		now := len(t.Frames())
		if now == before {
			return
		}
		before = now
		time.Sleep(50 * time.Millisecond)
	}
}

// Close ends the reading.
func (t *Wiretap) Close() error {
	err := t.file.Close()
	<-t.done
	return err
}
