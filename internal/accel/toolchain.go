package accel

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Programs is the file of a tool chain image that lists its programs, one in a line: the SHA-256 of the target's own program, its size in bytes, the SHA-256 of
// the twin, and the twin's path in the image.
const Programs = "programs"

// twinned is a line of that file.
type twinned struct {
	own, twin, path string
	size            int64
}

func readPrograms(dir string) ([]twinned, error) {
	dt, err := os.ReadFile(filepath.Join(dir, Programs))
	if err != nil {
		return nil, err
	}
	var out []twinned
	for line := range strings.Lines(string(dt)) {
		f := strings.Fields(line)
		const fields = 4
		if len(f) != fields {
			return nil, fmt.Errorf("%s: a line of %d words", Programs, len(f))
		}
		size, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || !filepath.IsLocal(f[3]) {
			return nil, fmt.Errorf("%s: %q", Programs, strings.TrimSpace(line))
		}
		out = append(out, twinned{own: f[0], size: size, twin: f[2], path: f[3]})
	}
	return out, nil
}

// toolTwin is the twin of a program of the target's, if the tool chain has one of that very build.
func (m machine) toolTwin(own string) (string, bool) {
	list, err := readPrograms(m.Toolchain)
	if err != nil {
		return "", false
	}
	at, err := m.remember("twin\n"+identity(own), func() (string, error) { return m.findTwin(list, own) })
	return at, err == nil
}

func (m machine) findTwin(list []twinned, own string) (string, error) {
	info, err := os.Stat(own)
	if err != nil {
		return "", err
	}
	digest := ""
	for _, p := range list {
		if p.size != info.Size() {
			continue
		}
		if digest == "" {
			if digest, err = digestOf(own); err != nil {
				return "", err
			}
		}
		if p.own != digest {
			continue
		}
		at := filepath.Join(m.Toolchain, p.path)
		if is, err := digestOf(at); err != nil || is != p.twin || !isOurs(at) || !isOurs(m.loader()) {
			return "", errors.Join(errNoTwin, err)
		}
		return at, nil
	}
	return "", errNoTwin
}

// isOurs reports whether a file is a program or a library of this program's machine.
func isOurs(name string) bool {
	f, err := elf.Open(name)
	if err != nil {
		return false
	}
	ok := f.Machine == ownMachine
	return f.Close() == nil && ok
}

func digestOf(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}
