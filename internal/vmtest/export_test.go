package vmtest

import "io"

// The external tests see these.
var (
	ParseModinfo = parseModinfo
	ReadIndex    = readIndex
	LinkerConf   = linkerConf

	DefaultPackageFor = defaultPackage
	ExpandModules     = expandModules
)

type (
	Module     = module
	ModuleTree = moduleTree
	CPIO       = cpioWriter
)

const (
	FrameStdout = frameStdout
	FrameMax    = frameMax
)

func NewModule(name string, depends, aliases []string) Module {
	return module{name: name, path: "/lib/" + name + ".ko", depends: depends, aliases: aliases}
}

func (m module) Fields() (string, []string, []string) { return m.name, m.depends, m.aliases }

func (t moduleTree) Close(roots ...string) []string {
	chosen := moduleTree{}
	for _, r := range roots {
		chosen[r] = t[r]
	}
	return t.close(chosen).names()
}

func (t moduleTree) Resolve(request string) []string {
	var names []string
	for _, m := range t.resolve(request) {
		names = append(names, m.name)
	}
	return names
}

func (t moduleTree) Index() []byte { return t.index() }

func NewCPIO(w io.Writer) *cpioWriter { return newCPIO(w) }

func (c *cpioWriter) Dir(name string, perm uint32)             { c.dir(name, perm) }
func (c *cpioWriter) Symlink(name, target string)              { c.symlink(name, target) }
func (c *cpioWriter) Bytes(name string, perm uint32, b []byte) { c.bytes(name, perm, b) }
func (c *cpioWriter) File(name, source string) error           { return c.file(name, source) }
func (c *cpioWriter) Finish() error                            { return c.close() }

func SendFrame(w io.Writer, kind byte, payload []byte) error {
	return (&frameWriter{w: w}).send(kind, payload)
}

func ReadFrame(r io.Reader) (byte, []byte, error) { return readFrame(r) }

// Libraries lists what a program needs in the guest.
func Libraries(program string) ([]string, error) { return newLinker().files(program) }

// Dependencies returns the image and the modules package that apt-cache show tells of.
func Dependencies(show string) (image, modules string) {
	return dependency([]byte(show), imageDependency), dependency([]byte(show), modulesDependency)
}

var Unsigned = unsigned
