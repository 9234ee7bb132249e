package accel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// macroSymbols are the names by which rustc finds the macros of a library.
func macroSymbols(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF && strings.HasPrefix(s.Name, "__rustc_proc_macro_decls_") {
			out = append(out, s.Name)
		}
	}
	return out, nil
}

// metadataSection holds what rustc reads of a library.
const metadataSection = ".rustc"

// withHashOf is a library of this machine's with the hash of the target's. It is an error if the two do not hold the same macros.
func withHashOf(r rust, own, here string) (dt, hash []byte, _ error) {
	a, err := macroSymbols(own)
	b, err2 := macroSymbols(here)
	if err := errors.Join(err, err2); err != nil {
		return nil, nil, err
	}
	if len(a) == 0 || !slices.Equal(a, b) {
		return nil, nil, fmt.Errorf("%s has the macros %q, and %q for the build platform", filepath.Base(own), a, b)
	}
	ownBytes, at, err := crateHash(own, r.target)
	if err != nil {
		return nil, nil, err
	}
	hash = ownBytes[at : at+hashSize]
	if dt, at, err = crateHash(here, r.host); err != nil {
		return nil, nil, err
	}
	copy(dt[at:], hash)
	return dt, hash, nil
}

// hashSize is the length of a crate's hash, in bytes.
const hashSize = 16

// crateHash reads a library, and finds the hash of the crate in it: rustc writes it behind the name of the target, which is the string behind a zero that
// begins with its length and ends in 0xC1 (rustc_metadata, CrateHeader; rustc_serialize, opaque).
func crateHash(file, target string) (dt []byte, at int, _ error) {
	dt, err := os.ReadFile(file)
	if err != nil {
		return nil, 0, err
	}
	f, err := elf.NewFile(bytes.NewReader(dt))
	if err != nil {
		return nil, 0, err
	}
	section := f.Section(metadataSection)
	if section == nil || section.Offset+section.Size > uint64(len(dt)) || section.Offset+section.Size < section.Offset {
		return nil, 0, fmt.Errorf("%s has no metadata", file)
	}
	const terminator = 0xC1
	name := slices.Concat([]byte{0, byte(len(target))}, []byte(target), []byte{terminator})
	metadata := dt[section.Offset : section.Offset+section.Size]
	i := bytes.Index(metadata, name)
	if i < 0 || i != bytes.LastIndex(metadata, name) || i+len(name)+hashSize > len(metadata) {
		return nil, 0, fmt.Errorf("%s has metadata of another form", file)
	}
	return dt, int(section.Offset) + i + len(name), nil
}

// holds is an error if a crate that uses a library of macros does not note this hash of it.
func (m machine) holds(r rust, u unit, library string, hash []byte) error {
	dir := filepath.Dir(library)
	run := m.running(r.twin)
	cmd := exec.Command(run[0], slices.Concat(run[1:], []string{ //nolint:noctx // as cargo would have
		"--target", r.target, "--sysroot", r.sysroot, "--edition=2021", "--crate-name", "probe", "--crate-type", "lib",
		"--emit", "metadata=" + filepath.Join(dir, "probe"), "--extern", u.crate + "=" + library, "-",
	})...)
	cmd.Stdin = strings.NewReader("extern crate " + u.crate + " as _;\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s is not loaded: %w: %s", filepath.Base(library), err, firstError(out))
	}
	dt, err := os.ReadFile(filepath.Join(dir, "probe"))
	if err != nil {
		return err
	}
	if !bytes.Contains(dt, hash) {
		return fmt.Errorf("%s has a hash in another place", filepath.Base(library))
	}
	return os.Remove(filepath.Join(dir, "probe"))
}
