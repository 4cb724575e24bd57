package vmtest

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// The guest talks to the host in frames on its second serial line: a type byte, the length of what follows as four bytes in
// big-endian order, and that many bytes.
const (
	frameReady  = 'R' // the guest has booted; its kernel release
	frameStart  = 'S' // the next job starts
	frameStdout = 'O'
	frameStderr = 'E'
	frameName   = 'N' // the path of a file of the job; frameData follow
	frameData   = 'F'
	frameExit   = 'X' // the job ended; an exitStatus as JSON
	frameFault  = 'L' // init could not do something; a sentence
	frameDone   = 'D' // all jobs ended
)

const frameMax = 1 << 20

// exitStatus is how a job ended.
type exitStatus struct {
	Code     int    `json:"code"`
	Signal   string `json:"signal,omitempty"`
	TimedOut bool   `json:"timedOut,omitempty"`
	Fault    string `json:"fault,omitempty"` // it could not be started
	Nanos    int64  `json:"nanos"`
}

// frameWriter is safe for concurrent use.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) send(kind byte, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for first := true; first || len(payload) > 0; first = false {
		n := min(len(payload), frameMax)
		head := make([]byte, 5, 5+n)
		head[0] = kind
		binary.BigEndian.PutUint32(head[1:], uint32(n))
		if _, err := f.w.Write(append(head, payload[:n]...)); err != nil {
			return err
		}
		payload = payload[n:]
	}
	return nil
}

// stream returns a writer whose every Write is a frame of the kind.
func (f *frameWriter) stream(kind byte) io.Writer { return frameStream{f, kind} }

type frameStream struct {
	f    *frameWriter
	kind byte
}

func (s frameStream) Write(p []byte) (int, error) {
	if err := s.f.send(s.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// readFrame returns io.EOF at the end of the stream, between frames only.
func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > frameMax {
		return 0, nil, fmt.Errorf("frame %q of %d bytes: the guest's serial line is garbled", head[0], n)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return head[0], payload, nil
}
