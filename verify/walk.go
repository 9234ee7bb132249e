package verify

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
)

// parallelFiles is how many directories and files are read at once: each read of a file system may be a round trip.
const parallelFiles = 8

// walk is the reading of a root filesystem by several goroutines. The newest task comes first, so that what waits stays little.
type walk struct {
	root   fs.FS
	likely bool

	mu   sync.Mutex
	more sync.Cond
	// waiting are directories and files to be read; busy is how many are being read.
	waiting        []task
	busy           int
	entries, names int
	tree           tree
	err            error
}

// mounted are directories that a container engine mounts something over: what an image has there is never seen.
var mounted = map[string]bool{"dev": true, "proc": true, "sys": true}

// fillLister is a file system that tells which subdirectories of a directory hold anything, in less time than it takes to list them.
type fillLister interface {
	Filled(name string) (map[string]bool, error)
}

// manyDirs is how many subdirectories it takes for that to pay.
const manyDirs = 4

// task is a directory to list, or a file to look at.
type task struct {
	name string
	file fs.DirEntry // nil for a directory
}

// scanFS reads a root filesystem from one directory on. Links are read if the file system has them (io/fs.ReadLinkFS).
func scanFS(root fs.FS, likely bool, from string) (tree, error) {
	w := &walk{root: root, likely: likely, waiting: []task{{name: from}}, tree: tree{}}
	w.more.L = &w.mu
	var wg sync.WaitGroup
	for range parallelFiles {
		wg.Go(w.work)
	}
	wg.Wait()
	return w.tree, w.err
}

// work does tasks until there are none, or one failed.
func (w *walk) work() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.waiting) == 0 && w.busy > 0 && w.err == nil {
			w.more.Wait()
		}
		if len(w.waiting) == 0 || w.err != nil {
			w.more.Broadcast()
			return
		}
		last := len(w.waiting) - 1
		t := w.waiting[last]
		w.waiting = w.waiting[:last]
		w.busy++
		w.mu.Unlock()
		done, err := w.do(t)
		w.mu.Lock()
		w.busy--
		if err == nil {
			err = w.add(done)
		}
		if err != nil && w.err == nil {
			w.err = err
		}
		w.more.Broadcast()
	}
}

// outcome is what a task found.
type outcome struct {
	listed int
	found  []task
	keep   []entry
}

func (w *walk) do(t task) (outcome, error) {
	if t.file != nil {
		e, keep, err := lookAt(w.root, t.name, t.file)
		if err != nil || !keep {
			return outcome{}, prefixed(t.name, err)
		}
		return outcome{keep: []entry{e}}, nil
	}
	list, err := fs.ReadDir(w.root, t.name)
	out := outcome{listed: len(list)}
	filled, dirs := map[string]bool(nil), 0
	for _, d := range list {
		if d.IsDir() {
			dirs++
		}
	}
	if lister, ok := w.root.(fillLister); ok && dirs >= manyDirs && err == nil {
		filled, err = lister.Filled(t.name)
	}
	for _, d := range list {
		next := task{path.Join(t.name, d.Name()), d}
		switch {
		case d.IsDir() && (mounted[next.name] || filled != nil && !filled[d.Name()]):
		case d.IsDir():
			out.found = append(out.found, task{name: next.name})
		case d.Type()&fs.ModeSymlink != 0:
			e, _, err := lookAt(w.root, next.name, d)
			if err != nil {
				return out, prefixed(next.name, err)
			}
			out.keep = append(out.keep, e)
		case d.Type().IsRegular() && (!w.likely || isLikely(d) || isConfig(next.name)):
			out.found = append(out.found, next)
		}
	}
	return out, err
}

func prefixed(name string, err error) error {
	if err != nil {
		err = fmt.Errorf("/%s: %w", name, err)
	}
	return err
}

// add takes over what a task found.
func (w *walk) add(o outcome) error {
	if w.entries += o.listed; w.entries > maxEntries {
		return &LimitError{"entries", maxEntries}
	}
	w.waiting = append(w.waiting, o.found...)
	for _, e := range o.keep {
		w.names += len(e.path) + len(e.link) + len(e.script) + len(e.text)
		w.tree[e.path] = e
	}
	switch {
	case len(w.tree) > maxKept:
		return &LimitError{"links and programs", maxKept}
	case w.names > maxNames:
		return &LimitError{"bytes of names", maxNames}
	}
	return nil
}

// isLikely reports whether a file may be started or loaded.
func isLikely(d fs.DirEntry) bool {
	base := d.Name()
	if strings.HasSuffix(base, ".node") || strings.HasSuffix(base, ".so") || strings.Contains(base, ".so.") {
		return true
	}
	info, err := d.Info()
	return err != nil || info.Mode()&0o111 != 0
}
