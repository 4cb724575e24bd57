package vmtest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	imageDependency   = regexp.MustCompile(`\b(linux-image-[0-9][0-9a-z.+-]*)(?: \(= ([^)]+)\))?`)
	modulesDependency = regexp.MustCompile(`\b(linux-modules-[0-9][0-9a-z.+-]*)(?: \(= ([^)]+)\))?`)
)

// imagePackages follows a meta package to the package that has the kernel in it, and that to the one that has its modules where it is
// another (Ubuntu).
func imagePackages(ctx context.Context, name string) ([]string, error) {
	show, err := aptShow(ctx, name)
	if err != nil {
		return nil, err
	}
	packages := []string{name}
	if image := dependency(show, imageDependency); image != "" {
		packages[0] = image
		if show, err = aptShow(ctx, image); err != nil {
			return nil, err
		}
	}
	if modules := dependency(show, modulesDependency); modules != "" {
		packages = append(packages, modules)
	}
	return packages, nil
}

func aptShow(ctx context.Context, name string) ([]byte, error) {
	show, err := output(ctx, "", "apt-cache", "show", "--no-all-versions", name)
	if err != nil || len(bytes.TrimSpace(show)) == 0 {
		return nil, errors.Join(errors.New("apt does not know the package "+name+": apt-get update, or choose another kernel package or version"), err)
	}
	return show, nil
}

// dependency finds the first match in what a package depends on, as NAME or NAME=VERSION.
func dependency(show []byte, wanted *regexp.Regexp) string {
	for line := range strings.Lines(string(show)) {
		depends, ok := strings.CutPrefix(line, "Depends:")
		if !ok {
			continue
		}
		if m := wanted.FindStringSubmatch(depends); m != nil {
			if m[2] != "" {
				return m[1] + "=" + m[2]
			}
			return m[1]
		}
	}
	return ""
}

// expanders are the programs that undo the compression of modules, with the packages that they are in. All replace the file.
var expanders = map[string]struct {
	pkg  string
	argv []string
}{
	".zst": {"zstd", []string{"zstd", "-d", "-q", "--rm"}},
	".xz":  {"xz-utils", []string{"xz", "-d", "-q"}},
	".gz":  {"gzip", []string{"gzip", "-d", "-q"}},
}

// expandModules uncompresses the modules below tree: the guest's modprobe reads plain ones.
func expandModules(ctx context.Context, tree string) error {
	found := map[string][]string{}
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err == nil && !d.IsDir() && filepath.Ext(strings.TrimSuffix(path, ext)) == ".ko" {
			found[ext] = append(found[ext], path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for ext, files := range found {
		e, known := expanders[ext]
		if !known {
			continue
		}
		if err := requirePrograms(map[string]string{e.argv[0]: e.pkg}); err != nil {
			return err
		}
		for batch := range slices.Chunk(files, 500) {
			if _, err := output(ctx, "", e.argv[0], slices.Concat(e.argv[1:], batch)...); err != nil {
				return err
			}
		}
	}
	return nil
}
