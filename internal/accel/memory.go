package accel

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// State is where a file system of the instruction's own is mounted that is part of no layer.
const State = root + "/state"

// ownFolder is this user's own folder for what lives as long as the instruction and is part of no layer; not ok if there is none.
func (m machine) ownFolder() (string, bool) {
	for _, parent := range []string{m.State, m.Memory} {
		dir := filepath.Join(parent, fmt.Sprintf(".manifold-%d", os.Getuid()))
		if err := os.Mkdir(dir, 0o700); parent == "" || err != nil && !errors.Is(err, os.ErrExist) {
			continue
		}
		if isOwn(dir) {
			return dir, true
		}
	}
	return "", false
}

// remember returns what was found out before in this instruction, else finds it out. What cannot be kept is found out each time.
func (m machine) remember(key string, find func() (string, error)) (string, error) {
	dir, ok := m.ownFolder()
	if !ok {
		return find()
	}
	sum := sha256.Sum256([]byte(key))
	name := filepath.Join(dir, hex.EncodeToString(sum[:16]))
	if dt, err := os.ReadFile(name); err == nil {
		return string(dt), nil
	}
	answer, err := find()
	if err != nil {
		return "", err
	}
	if f, err := os.CreateTemp(dir, "new-"); err == nil {
		_, err = f.WriteString(answer)
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), name)
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}
	return answer, nil
}
