package vmtest

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Paths of the guest.
const (
	guestJobs    = "/etc/podplumb-jobs.json"
	guestModules = "/lib/modules"
	guestIndex   = "/lib/modules/podplumb.index"
	guestProbe   = "/sbin/modprobe"
)

// guestJob is a Job as init sees it.
type guestJob struct {
	Args    []string      `json:"args"`
	Dir     string        `json:"dir"`
	Env     []string      `json:"env"`
	Outputs []string      `json:"outputs"`
	Timeout time.Duration `json:"timeout"`
}

// moduleRoots are the folders below kernel/ whose modules go into the image, with all that they depend on.
var moduleRoots = []string{"net", "lib", "crypto", "arch/x86/crypto", "drivers/net"}

// Modules of hardware, and of network protocols that are large and have nothing to do with containers.
var moduleSkips = []string{"drivers/net/ethernet", "drivers/net/hyperv", "drivers/net/vmxnet3", "drivers/net/wwan",
	"drivers/net/xen-netback", "drivers/net/xen-netfront.ko", "drivers/net/mhi_net.ko", "net/sunrpc", "net/ceph", "net/tipc",
	"net/smc", "net/rds", "net/dccp", "net/vmw_vsock", "crypto/tcrypt.ko"}

// Small files of the host that its tools read.
var hostFiles = []string{"/etc/passwd", "/etc/group", "/etc/protocols", "/etc/services", "/etc/nsswitch.conf", "/etc/ethertypes"}

// writeImage writes the guest's first root file system.
func writeImage(w io.Writer, c Config, kernel Image, jobs []Job) error {
	cpio := newCPIO(w)
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run", "/root", "/etc", "/sbin", "/var/run", "/usr/lib", "/lib64"} {
		cpio.dir(dir, 0o755)
	}
	cpio.dir("/tmp", 0o777)
	cpio.device("/dev/console", 0o600, 5, 1) // the kernel opens it for init before devtmpfs is mounted
	ld := newLinker()
	if err := addProgram(cpio, ld, "/init", c.Init); err != nil {
		return err
	}
	cpio.symlink(guestProbe, "/init")
	cpio.bytes("/etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	cpio.bytes("/etc/resolv.conf", 0o644, nil) // of a pod another one lies over it
	for _, name := range hostFiles {
		if _, err := os.Stat(name); err == nil {
			if err := cpio.file(name, name); err != nil {
				return err
			}
		}
	}
	if err := addTree(cpio, "/etc/iproute2"); err != nil {
		return err
	}
	for _, tool := range c.Tools {
		if p, err := exec.LookPath(tool); err == nil {
			if err := addProgram(cpio, ld, p, p); err != nil {
				return err
			}
		}
	}
	for _, job := range jobs {
		if err := addJob(cpio, ld, job); err != nil {
			return err
		}
	}
	if err := addModules(cpio, kernel); err != nil {
		return err
	}
	list, err := json.Marshal(jobList(jobs, ld.libraryPath()))
	if err != nil {
		return err
	}
	cpio.bytes(guestJobs, 0o644, list)
	return cpio.close()
}

func jobList(jobs []Job, libraryPath string) []guestJob {
	out := make([]guestJob, len(jobs))
	for i, j := range jobs {
		env := append(JobEnv(), j.Env...)
		if libraryPath != "" {
			env = append(env, "LD_LIBRARY_PATH="+libraryPath)
		}
		if j.Report != "" {
			env = append(env, "PODPLUMB_KERNEL_REPORT="+guestReport)
		}
		out[i] = guestJob{Args: j.Args, Dir: j.Dir, Env: env, Outputs: j.Outputs, Timeout: j.Timeout}
	}
	return out
}

func addProgram(cpio *cpioWriter, ld *linker, name, source string) error {
	files, err := ld.files(source)
	if err != nil {
		return err
	}
	for i, f := range files {
		target := f
		if i == 0 {
			target = name
		}
		if err := cpio.file(target, f); err != nil {
			return err
		}
	}
	return nil
}

func addJob(cpio *cpioWriter, ld *linker, job Job) error {
	if err := addProgram(cpio, ld, job.Args[0], job.Args[0]); err != nil {
		return err
	}
	cpio.dir(job.Dir, 0o755)
	for _, o := range job.Outputs {
		if info, err := os.Stat(o); err == nil && info.IsDir() {
			cpio.dir(o, 0o755)
		}
		cpio.dir(filepath.Dir(o), 0o755)
	}
	for _, f := range append([]string{filepath.Join(job.Dir, "testdata")}, job.Files...) {
		if err := addTree(cpio, f); err != nil {
			return err
		}
	}
	return nil
}

// addTree copies a file or folder of the host to the same path. It need not exist.
func addTree(cpio *cpioWriter, root string) error {
	if _, err := os.Stat(root); os.IsNotExist(err) {
		return nil
	}
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			cpio.dir(p, 0o755)
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			cpio.symlink(p, target)
			return err
		case d.Type().IsRegular():
			return cpio.file(p, p)
		}
		return nil
	})
}

func addModules(cpio *cpioWriter, kernel Image) error {
	all, err := readModules(filepath.Join(kernel.Modules, "kernel"))
	if err != nil {
		return fmt.Errorf("vmtest: modules of %s: %w", kernel.Release, err)
	}
	chosen := moduleTree{}
	for name, m := range all {
		rel, err := filepath.Rel(filepath.Join(kernel.Modules, "kernel"), m.path)
		if err != nil {
			return err
		}
		if underAny(rel, moduleRoots) && !underAny(rel, moduleSkips) {
			chosen[name] = m
		}
	}
	chosen = all.close(chosen)
	for _, name := range chosen.names() {
		m := chosen[name]
		source := m.path
		rel, err := filepath.Rel(kernel.Modules, source)
		if err != nil {
			return err
		}
		m.path = filepath.Join(guestModules, kernel.Release, rel)
		chosen[name] = m
		content, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		cpio.bytes(m.path, 0o644, unsigned(content))
	}
	cpio.bytes(guestIndex, 0o644, chosen.index())
	return cpio.err
}

func underAny(p string, roots []string) bool {
	for _, r := range roots {
		if p == r || strings.HasPrefix(p, r+"/") {
			return true
		}
	}
	return false
}
