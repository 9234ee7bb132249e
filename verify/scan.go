package verify

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	maxScript      = 256 // of a #! line, in bytes, as Linux reads
)

// scanLayer reads a decompressed layer to its end.
func scanLayer(ctx context.Context, r io.Reader) (*layer, error) {
	l := newLayer()
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return l, nil
		}
		if err != nil {
			return nil, err
		}
		if err := l.tick(); err != nil {
			return nil, err
		}
		name, ok := cleanName(h.Name)
		if !ok {
			continue
		}
		if err := l.scan(name, h, tr); err != nil {
			return nil, fmt.Errorf("/%s: %w", name, err)
		}
	}
}

// scan takes note of one entry.
func (l *layer) scan(name string, h *tar.Header, r io.Reader) error {
	dir, base := path.Split(name)
	switch {
	case base == whiteoutOpaque:
		return l.add(entry{path: strings.TrimSuffix(dir, "/"), kind: opaque})
	case strings.HasPrefix(base, whiteoutPrefix):
		if base = base[len(whiteoutPrefix):]; base == "" || base == "." || base == ".." || strings.HasPrefix(base, whiteoutPrefix) {
			return nil
		}
		return l.add(entry{path: dir + base, kind: whiteout})
	}
	switch h.Typeflag {
	case tar.TypeReg:
		e, keep, err := readFile(r, name, h.Size, h.Mode&0o111 != 0)
		if err != nil {
			return err
		}
		if keep {
			e.path = name
			return l.add(e)
		}
		l.others[l.hash(name)] = struct{}{}
	case tar.TypeSymlink:
		return l.add(entry{path: name, kind: symlink, link: h.Linkname})
	case tar.TypeLink:
		to, ok := cleanName(h.Linkname)
		if ok {
			return l.add(entry{path: name, kind: hardlink, link: to})
		}
	case tar.TypeDir:
		l.dirs[l.hash(name)] = struct{}{}
	default: // devices and pipes hold nothing
		l.others[l.hash(name)] = struct{}{}
	}
	return nil
}

// maxText is how much is kept of a script that a shell runs, and of a loader's configuration, in bytes.
const maxText = 16 << 10

// isConfig reports whether a file tells a loader where libraries lie, or which to load.
func isConfig(name string) bool {
	return name == "etc/ld.so.conf" || name == "etc/ld.so.preload" || strings.HasPrefix(name, "etc/ld.so.conf.d/") || strings.HasPrefix(name, "etc/ld-musl-")
}

// readFile looks at a file's beginning. It is kept if it can be run, holds machine code or is a loader's configuration.
func readFile(r io.Reader, name string, size int64, executable bool) (entry, bool, error) {
	e := entry{kind: file, executable: executable}
	var buf [headSize]byte
	n, err := io.ReadFull(r, buf[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return e, false, err
	}
	if int64(n) < min(size, headSize) {
		return e, false, io.ErrUnexpectedEOF
	}
	head := buf[:n]
	format := recognise(head)
	script := bytes.HasPrefix(head, []byte("#!"))
	config := isConfig(name)
	if format == 0 && (!script || !executable) && !config {
		e.empty = size == 0
		return e, executable, nil
	}
	w := newWindow(head, r)
	defer w.close()
	switch format {
	case ELF:
		c := readELF(w, size)
		e.code = &c
	case PE:
		if c, ok := readPE(w); ok {
			e.code = &c
		}
	case MachO:
		c := readMachO(w)
		e.code = &c
	case 0:
		if script {
			e.script = scriptLine(w.most(maxScript))
		}
		if size <= maxText && (config || runByShell(e.script)) {
			e.text = string(w.most(int(size)))
		}
	}
	return e, executable || e.code != nil || config, nil
}

// scriptLine is the #! line as Linux reads it: to the end of the line, and no further than maxScript bytes.
func scriptLine(head []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimPrefix(head, []byte("#!")), []byte("\n"))
	return strings.Trim(string(line), " \t\x00")
}

// interpreter splits a #! line into the interpreter and the one argument that it may get.
func interpreter(line string) (name, arg string) {
	if i := strings.IndexAny(line, " \t\x00"); i >= 0 {
		return line[:i], strings.Trim(line[i:], " \t\x00")
	}
	return line, ""
}

// runByShell reports whether a #! line names a shell whose language is read.
func runByShell(line string) bool {
	name, arg := interpreter(line)
	if path.Base(name) == "env" {
		name, _ = interpreter(arg)
	}
	return isShell(name)
}

// linkEntry is a directory entry that knows where the link it stands for leads.
type linkEntry interface{ ReadLink() (string, error) }

func lookAt(root fs.FS, name string, d fs.DirEntry) (_ entry, keep bool, err error) {
	if d.Type()&fs.ModeSymlink != 0 {
		var to string
		var err error
		if known, ok := d.(linkEntry); ok {
			to, err = known.ReadLink()
		} else {
			to, err = fs.ReadLink(root, name)
		}
		return entry{path: name, kind: symlink, link: to}, true, err
	}
	if !d.Type().IsRegular() {
		return entry{}, false, nil
	}
	info, err := d.Info()
	if err != nil {
		return entry{}, false, err
	}
	f, err := root.Open(name)
	if err != nil {
		return entry{}, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	e, keep, err := readFile(f, name, info.Size(), info.Mode()&0o111 != 0)
	e.path = name
	return e, keep, err
}
