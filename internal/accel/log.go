package accel

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// stepLog is where the instruction's first process writes what the step's log shows: what cargo's compilers say goes where a script may read it.
const stepLog = "/proc/1/fd/2"

// noteLog notes which file the step's log is when the instruction begins: a shell may have another there for as long as a command runs.
func (m machine) noteLog() {
	if dir, ok := m.ownFolder(); ok {
		_ = os.WriteFile(filepath.Join(dir, "log"), []byte(fileOf("/proc/self/fd/2")), 0o600)
	}
}

// sayOnce says something once in an instruction, if its log can be written to.
func (m machine) sayOnce(what string) {
	dir, ok := m.ownFolder()
	if !ok {
		return
	}
	noted, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil || string(noted) == "" || string(noted) != fileOf(m.Log) {
		return
	}
	sum := sha256.Sum256([]byte(what))
	f, err := os.OpenFile(filepath.Join(dir, "said-"+hex.EncodeToString(sum[:8])), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_ = f.Close()
	if out, err := os.OpenFile(m.Log, os.O_WRONLY|os.O_APPEND, 0); err == nil {
		fmt.Fprintf(out, "manifold: %s\n", what)
		_ = out.Close()
	}
}
