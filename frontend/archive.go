package frontend

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	maxArchive     = 512 << 20 // unpacked, in bytes
	maxInner       = 128 << 20 // of a zip in an archive, which is read whole
	maxArchiveDeep = 4         // archives and compressions in one another: a .gem holds a .tar.gz
	peekSize       = 512       // a block of tar
)

var errArchive = errors.New("it holds more than is looked at")

// archive looks for machine code in a file, and in what is packed in it: zip, tar, ar, gzip, zstd and bzip2, known by their first bytes.
type archive struct {
	found []code
	left  int64 // how much may still be unpacked
}

// file looks at a file that can be read at any place.
func (a *archive) file(r *io.SectionReader, name string, deep int) error {
	head := make([]byte, peekSize)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	head = head[:n]
	if kind(head) == "zip" {
		return a.zip(r, r.Size(), name, deep)
	}
	if kind(head) == "" {
		a.head(head, name)
		return nil
	}
	return a.stream(r, name, deep)
}

// head notes a file that is machine code.
func (a *archive) head(head []byte, name string) {
	if arch, ok := elfArch(head); ok {
		a.found = append(a.found, code{File: name, Arch: arch})
	}
}

// kind names what a file is, by its first bytes; empty if it is nothing that others are packed in.
func kind(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return "zip"
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	case bytes.HasPrefix(head, []byte("BZh")):
		return "bzip2"
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	case bytes.HasPrefix(head, []byte("!<arch>\n")):
		return "ar"
	case len(head) >= 262 && string(head[257:262]) == "ustar":
		return "tar"
	}
	return ""
}

// stream looks at a file that can be read once.
func (a *archive) stream(r io.Reader, name string, deep int) error {
	b := bufio.NewReaderSize(r, peekSize)
	head, err := b.Peek(peekSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	what := kind(head)
	if what == "" {
		a.head(head, name)
		return nil
	}
	if deep == 0 {
		return fmt.Errorf("%s: archives in archives are %d deep at most", name, maxArchiveDeep)
	}
	limited := &io.LimitedReader{R: b, N: a.left}
	switch what {
	case "gzip":
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil // something else that begins alike
		}
		return a.unpacked(z, name, deep)
	case "zstd":
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxInner))
		if err != nil {
			return err
		}
		defer z.Close()
		return a.unpacked(z, name, deep)
	case "bzip2":
		return a.unpacked(bzip2.NewReader(b), name, deep)
	case "tar":
		return a.tar(limited, name, deep-1)
	case "ar":
		return a.ar(b, name, deep-1)
	case "zip":
		dt, err := io.ReadAll(io.LimitReader(b, maxInner))
		if err != nil {
			return err
		}
		if len(dt) == maxInner {
			return fmt.Errorf("%s is larger than %d MiB", name, maxInner>>20)
		}
		return a.zip(bytes.NewReader(dt), int64(len(dt)), name, deep-1)
	}
	return fmt.Errorf("%s is compressed in a way that is not read (%s)", name, what)
}

// unpacked looks at what a compression holds. What turns out to be damaged is nobody's program.
func (a *archive) unpacked(r io.Reader, name string, deep int) error {
	limited := &io.LimitedReader{R: r, N: a.left}
	err := a.stream(limited, name, deep-1)
	a.left = limited.N
	if limited.N <= 0 {
		return errArchive
	}
	return err
}

func (a *archive) tar(r io.Reader, name string, deep int) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || h.Size < headSize || !mayBeCode(h.Name) {
			continue
		}
		if err := a.stream(tr, name+"!"+h.Name, deep); err != nil {
			return err
		}
	}
}

// ar reads the archives of Debian packages and of static libraries (ar(5)).
func (a *archive) ar(r *bufio.Reader, name string, deep int) error {
	const magic, header = 8, 60
	if _, err := r.Discard(magic); err != nil {
		return err
	}
	for {
		head := make([]byte, header)
		if _, err := io.ReadFull(r, head); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(head[48:58])), 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("%s is damaged", name)
		}
		member := &io.LimitedReader{R: r, N: size}
		if err := a.stream(member, name+"!"+strings.TrimRight(string(head[:16]), " /"), deep); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, r, member.N+size%2); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
}

func (a *archive) zip(r io.ReaderAt, size int64, name string, deep int) error {
	z, err := zip.NewReader(r, size)
	if errors.Is(err, zip.ErrFormat) {
		return nil // something else that begins alike
	}
	if err != nil {
		return err
	}
	for _, f := range z.File {
		if f.FileInfo().IsDir() || f.UncompressedSize64 < headSize || !mayBeCode(f.Name) {
			continue
		}
		if err := a.member(f, name+"!"+f.Name, deep); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

func (a *archive) member(f *zip.File, name string, deep int) (err error) {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return a.unpacked(r, name, deep)
}

// mayBeCode leaves out what is never machine code by its name, so that an archive of classes need not be unpacked whole.
func mayBeCode(name string) bool {
	return !slices.Contains([]string{".class", ".java", ".properties", ".xml", ".txt", ".md", ".html", ".js", ".css", ".json", ".py", ".MF", ".SF"}, path.Ext(name))
}
