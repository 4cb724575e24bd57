package vmtest

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dieWithParent makes QEMU end with the host's command, however that ends.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// runInit is process 1: it sets the guest up, runs the jobs and powers off.
func runInit() {
	err := setUp()
	line, open := openSerial("/dev/ttyS1")
	if open != nil {
		fmt.Println("init:", open, err) // on the console
		powerOff()
	}
	out := &frameWriter{w: line}
	if err == nil {
		err = runJobs(out)
	}
	if err != nil {
		_ = out.send(frameFault, []byte(err.Error()))
	}
	_ = out.send(frameDone, nil)
	_ = unix.IoctlSetInt(int(line.Fd()), unix.TCSBRK, 1) // wait until the line has sent everything
	powerOff()
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

func setUp() error {
	for _, m := range []struct{ source, target, fstype, data string }{
		{"proc", "/proc", "proc", ""},
		{"sys", "/sys", "sysfs", ""},
		{"dev", "/dev", "devtmpfs", ""},
		{"devpts", "/dev/pts", "devpts", ""},
		{"shm", "/dev/shm", "tmpfs", ""},
		{"run", "/run", "tmpfs", "mode=755"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.fstype, 0, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for link, target := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	if err := os.Chmod("/tmp", 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/kernel/modprobe", []byte(guestProbe), 0); err != nil {
		return err
	}
	if err := loadAtBoot(); err != nil {
		return err
	}
	return loopbackUp()
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}

// openSerial opens a serial line for binary data.
func openSerial(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func runJobs(out *frameWriter) error {
	data, err := os.ReadFile(guestJobs)
	if err != nil {
		return err
	}
	var jobs []guestJob
	if err := json.Unmarshal(data, &jobs); err != nil {
		return err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	if err := out.send(frameReady, []byte(unix.ByteSliceToString(name.Release[:]))); err != nil {
		return err
	}
	for _, j := range jobs {
		if err := out.send(frameStart, nil); err != nil {
			return err
		}
		status := runJob(j, out)
		if err := sendFiles(j, out); err != nil {
			return err
		}
		payload, err := json.Marshal(status)
		if err != nil {
			return err
		}
		if err := out.send(frameExit, payload); err != nil {
			return err
		}
	}
	return nil
}

// runJob starts the job and reaps every orphan until it ends; then it kills what the job left behind.
func runJob(j guestJob, out *frameWriter) exitStatus {
	start := time.Now()
	fault := func(err error) exitStatus {
		return exitStatus{Code: 127, Fault: err.Error(), Nanos: int64(time.Since(start))}
	}
	if err := os.MkdirAll(guestReport, 0o755); err != nil {
		return fault(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fault(err)
	}
	defer null.Close()
	var copying sync.WaitGroup
	files := []*os.File{null}
	for _, kind := range []byte{frameStdout, frameStderr} {
		read, write, err := os.Pipe()
		if err != nil {
			return fault(err)
		}
		files = append(files, write)
		copying.Go(func() {
			_, _ = io.Copy(out.stream(kind), read)
			read.Close()
		})
	}
	closePipes := func() { files[1].Close(); files[2].Close() }
	process, err := os.StartProcess(j.Args[0], j.Args, &os.ProcAttr{Dir: j.Dir, Env: j.Env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true}})
	closePipes()
	if err != nil {
		copying.Wait()
		return fault(err)
	}
	status := waitJob(process.Pid, j.Timeout)
	_ = unix.Kill(-1, unix.SIGKILL)
	copying.Wait()
	for { // until nobody is left
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && err != unix.EINTR {
			break
		}
	}
	status.Nanos = int64(time.Since(start))
	return status
}

// waitJob reaps children until pid has ended.
func waitJob(pid int, timeout time.Duration) exitStatus {
	var timedOut bool
	var mu sync.Mutex
	if timeout > 0 {
		quit := time.AfterFunc(timeout, func() {
			mu.Lock()
			defer mu.Unlock()
			timedOut = true
			_ = unix.Kill(pid, unix.SIGQUIT) // a Go program shows its goroutines
		})
		defer quit.Stop()
		kill := time.AfterFunc(timeout+5*time.Second, func() { _ = unix.Kill(-1, unix.SIGKILL) })
		defer kill.Stop()
	}
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return exitStatus{Code: 127, Fault: "wait: " + err.Error()}
		}
		if got != pid || (!ws.Exited() && !ws.Signaled()) {
			continue
		}
		mu.Lock()
		defer mu.Unlock()
		s := exitStatus{Code: ws.ExitStatus(), TimedOut: timedOut}
		if ws.Signaled() {
			s.Code, s.Signal = -1, ws.Signal().String()
		}
		return s
	}
}

// sendFiles sends the job's outputs and reports, and removes the reports so that the next job starts without.
func sendFiles(j guestJob, out *frameWriter) error {
	for _, root := range append([]string{guestReport}, j.Outputs...) {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // an output that was not written
			}
			f, err := os.Open(p)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := out.send(frameName, []byte(p)); err != nil {
				return err
			}
			_, err = io.Copy(out.stream(frameData), f)
			return err
		})
		if err != nil {
			return err
		}
	}
	return os.RemoveAll(guestReport)
}
