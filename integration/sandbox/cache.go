package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// cacheDir returns the folder that holds what is kept between runs, created.
func cacheDir() (string, error) {
	dir := os.Getenv("MANIFOLD_SANDBOX")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(base, "manifold", "sandbox")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// kept returns the folder kind/key of the cache. Where it does not exist yet, fill makes it: in a temporary folder
// beside it that is renamed when fill returns nil, under a lock that other processes wait for.
func kept(kind, key string, fill func(dir string) error) (_ string, err error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	parent := filepath.Join(cache, kind)
	final := filepath.Join(parent, key)
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(parent + ".lock")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, err := os.Stat(final); err == nil {
		return final, nil // another process made it while this one waited
	}
	if err := removeAbandoned(parent); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(parent, temporary)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	if err := fill(tmp); err != nil {
		return "", fmt.Errorf("preparing %s: %w", kind, err)
	}
	return final, os.Rename(tmp, final)
}

// temporary begins the names of folders that are not whole.
const temporary = ".tmp-"

// removeAbandoned removes what a run that was killed left half-made. The caller holds the lock, so nobody is at it.
func removeAbandoned(parent string) error {
	left, err := filepath.Glob(filepath.Join(parent, temporary+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// lock takes an exclusive advisory lock on the file, waiting for it, and returns its release.
func lock(file string) (func() error, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// keyOf hashes files' contents and further words to a short cache key.
func keyOf(files []string, words ...string) (string, error) {
	h := sha256.New()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%d %s", len(b), b)
	}
	for _, w := range words {
		fmt.Fprintf(h, "%d %s", len(w), w)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}
