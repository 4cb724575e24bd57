package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Run boots the machine, runs the jobs in it one after the other, and returns their results. A failed job does not keep the later
// ones from running and is not an error of Run; ErrBoot, ErrTimeout and ErrPanic are, and then the results are those of the jobs
// that ended.
func Run(ctx context.Context, c Config, jobs []Job) ([]Result, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	kernel, err := Fetch(ctx, c.Kernel)
	if err != nil {
		return nil, err
	}
	if c, jobs, err = c.complete(jobs); err != nil {
		return nil, err
	}
	image, err := os.CreateTemp("", "podplumb-vm-*.cpio")
	if err != nil {
		return nil, fmt.Errorf("vmtest: %w", err)
	}
	defer os.Remove(image.Name())
	defer image.Close()
	if err := writeImage(image, c, kernel, jobs); err != nil {
		return nil, fmt.Errorf("vmtest: image: %w", err)
	}
	return boot(ctx, c, kernel, image.Name(), jobs)
}

// Check returns a MissingError when the machine cannot be started because a package is not installed on the host.
func Check() error {
	return requirePrograms(map[string]string{"qemu-system-x86_64": "qemu-system-x86"})
}

// complete puts the defaults into c and the jobs.
func (c Config) complete(jobs []Job) (Config, []Job, error) {
	if c.Init == "" {
		c.Init = "/proc/self/exe" // also when its file was replaced or removed since it started
	}
	if c.Tools == nil {
		c.Tools = DefaultTools()
	}
	if c.Memory == 0 {
		c.Memory = 1024
	}
	if c.CPUs == 0 {
		c.CPUs = 1
	}
	if c.Boot == 0 {
		c.Boot = time.Minute
	}
	total := c.Boot + 30*time.Second
	out := make([]Job, len(jobs))
	for i, j := range jobs {
		if len(j.Args) == 0 {
			return c, nil, fmt.Errorf("vmtest: jobs[%d]: no program", i)
		}
		program, err := filepath.Abs(j.Args[0])
		if err != nil {
			return c, nil, fmt.Errorf("vmtest: jobs[%d]: %w", i, err)
		}
		j.Args = append([]string{program}, j.Args[1:]...)
		if j.Dir, err = filepath.Abs(j.Dir); err != nil {
			return c, nil, fmt.Errorf("vmtest: jobs[%d]: %w", i, err)
		}
		if j.Stdout == nil {
			j.Stdout = io.Discard
		}
		if j.Stderr == nil {
			j.Stderr = io.Discard
		}
		out[i] = j
		if j.Timeout == 0 {
			total += 10 * time.Minute
		}
		total += j.Timeout
	}
	if c.Total == 0 {
		c.Total = total
	}
	return c, out, nil
}

// boot starts QEMU and follows it to its end.
func boot(ctx context.Context, c Config, kernel Image, image string, jobs []Job) ([]Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("vmtest: %w", err)
	}
	defer read.Close()
	clock := []string{}
	if c.Counted {
		clock = []string{"-icount", "shift=0,sleep=off"}
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(clock, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-M", "pc", "-accel", "tcg", "-cpu", "qemu64,+rdrand", "-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.Memory),
		"-kernel", kernel.Vmlinuz, "-initrd", image,
		"-append", strings.TrimSpace("console=ttyS0 quiet panic=-1 oops=panic reboot=t mitigations=off nokaslr cryptomgr.notests random.trust_cpu=on "+c.Append),
		"-serial", "stdio", "-chardev", "file,id=results,path=/dev/fd/3", "-serial", "chardev:results")...)
	cmd.ExtraFiles = []*os.File{write}
	console := &tail{also: c.Console}
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = dieWithParent()
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Start()
	write.Close()
	if err != nil {
		return nil, fmt.Errorf("vmtest: %w", err)
	}
	late := time.AfterFunc(c.Boot, func() { cancel(ErrBoot) })
	defer late.Stop()
	tooLong := time.AfterFunc(c.Total, func() { cancel(ErrTimeout) })
	defer tooLong.Stop()
	host := &receiver{jobs: jobs, ready: func() { late.Stop() }}
	followErr := host.follow(read)
	waitErr := cmd.Wait()
	return host.results, verdict(ctx, host, console, followErr, waitErr, c)
}

// verdict says why the machine stopped, if not because all jobs were done.
func verdict(ctx context.Context, host *receiver, console *tail, followErr, waitErr error, c Config) error {
	if host.done && host.fault == "" && host.err == nil {
		return nil
	}
	words := console.String()
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrBoot):
		return &guestError{ErrBoot, c.Boot.String(), words}
	case errors.Is(cause, ErrTimeout):
		return &guestError{ErrTimeout, c.Total.String(), words}
	case cause != nil:
		return fmt.Errorf("vmtest: %w", cause)
	case host.err != nil:
		return fmt.Errorf("vmtest: %w", host.err)
	case host.fault != "":
		return &guestError{errInit, host.fault, words}
	case followErr != nil && !errors.Is(followErr, io.EOF) && !errors.Is(followErr, io.ErrUnexpectedEOF):
		return &guestError{followErr, "", words}
	case waitErr != nil:
		return &guestError{fmt.Errorf("qemu-system-x86_64: %w", waitErr), "", words}
	}
	return &guestError{ErrPanic, "", words}
}

// receiver takes the frames of the guest.
type receiver struct {
	jobs    []Job
	ready   func()
	results []Result
	name    string
	fault   string
	done    bool
	err     error // of the host's side: a file that could not be written
	files   int
}

func (h *receiver) follow(r io.Reader) error {
	for {
		kind, payload, err := readFrame(r)
		if err != nil {
			return err
		}
		if err := h.frame(kind, payload); err != nil && h.err == nil {
			h.err = err
		}
	}
}

func (h *receiver) frame(kind byte, payload []byte) error {
	switch kind {
	case frameReady:
		h.ready()
		return nil
	case frameFault:
		h.fault = string(payload)
		return nil
	case frameDone:
		h.done = len(h.results) == len(h.jobs)
		return nil
	case frameStart:
		return nil
	}
	if len(h.results) >= len(h.jobs) {
		return fmt.Errorf("the guest sent %q after its last job", kind)
	}
	job := &h.jobs[len(h.results)]
	switch kind {
	case frameStdout:
		_, err := job.Stdout.Write(payload)
		return err
	case frameStderr:
		_, err := job.Stderr.Write(payload)
		return err
	case frameName:
		return h.open(job, string(payload))
	case frameData:
		return h.write(payload)
	case frameExit:
		var s exitStatus
		if err := json.Unmarshal(payload, &s); err != nil {
			return err
		}
		if s.Fault != "" {
			fmt.Fprintf(job.Stderr, "vmtest: %s\n", s.Fault)
		}
		h.results = append(h.results, Result{Exit: s.Code, Signal: s.Signal, TimedOut: s.TimedOut, Elapsed: time.Duration(s.Nanos)})
		return nil
	}
	return fmt.Errorf("the guest sent a frame %q", kind)
}

// open chooses the host's name for a file of the guest: only the job's outputs and its reports have one.
func (h *receiver) open(job *Job, guest string) error {
	h.name = ""
	if path, ok := strings.CutPrefix(guest, guestReport+"/"); ok && job.Report != "" {
		h.files++
		h.name = filepath.Join(job.Report, fmt.Sprintf("guest-%d-%d-%s", os.Getpid(), h.files, strings.ReplaceAll(path, "/", "-")))
		if err := os.MkdirAll(job.Report, 0o755); err != nil {
			return err
		}
	}
	for _, o := range job.Outputs {
		if guest == o || strings.HasPrefix(guest, o+"/") {
			h.name = filepath.Clean(guest)
		}
	}
	if h.name == "" || strings.Contains(guest, "/../") {
		return fmt.Errorf("the guest sent the file %q, which is no output of its job", guest)
	}
	return os.WriteFile(h.name, nil, 0o644)
}

func (h *receiver) write(data []byte) error {
	if h.name == "" {
		return nil
	}
	f, err := os.OpenFile(h.name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	also io.Writer
	buf  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.also != nil {
		if _, err := t.also.Write(p); err != nil {
			return 0, err
		}
	}
	t.buf = append(t.buf, p...)
	if len(t.buf) > 16<<10 {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-8<<10:]...)
	}
	return len(p), nil
}

// String returns the last 100 lines: more than a panic prints below its first line, which says why.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(bytes.ReplaceAll(t.buf, []byte("\r"), nil)), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-100):], []byte("\n")))
}
