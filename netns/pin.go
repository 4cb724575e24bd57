package netns

import (
	"fmt"
	"io/fs"
	"path/filepath"
)

// Pin keeps the namespace alive, without any process in it, by a bind mount on path,
// which must be absolute. The file is made (mode 0) and must not exist; its directory
// must. Undo it with [Unpin]. [Open] opens a pin. A failed Pin leaves nothing behind; a
// path that exists gives an error that Is [fs.ErrExist]. To pin under [RunDir] makes a
// name that `ip netns` sees, with the care that [Create] takes.
func (ns *NS) Pin(path string) error {
	if err := ns.alive(); err != nil {
		return opError(opPin, path, err)
	}
	if err := checkPinPath(path); err != nil {
		return opError(opPin, path, err)
	}
	if err := ns.pin(filepath.Clean(path)); err != nil {
		return opError(opPin, path, err)
	}
	return nil
}

// Unpin takes the pin on path away, mount and file. The namespace lives on while
// something else holds it. A path without pin gives an error that Is
// [fs.ErrNotExist], a file that is no namespace one that Is [ErrNotNamespace]; it is left
// alone.
func Unpin(path string) error {
	if err := checkPinPath(path); err != nil {
		return opError(opUnpin, path, err)
	}
	if err := unpin(filepath.Clean(path)); err != nil {
		return opError(opUnpin, path, err)
	}
	return nil
}

func checkPinPath(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("the path is not absolute: %w", fs.ErrInvalid)
	}
	return nil
}
