package verify

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	copier "github.com/tonistiigi/fsutil/copy"
)

// TestCopied copies at random, with the code that BuildKit copies with, and compares what is told of the result with all that is in it.
func TestCopied(t *testing.T) {
	const rounds = 600
	told, linked := 0, 0
	for seed := range uint64(rounds) {
		r := randomTrees{t: t, Rand: rand.New(rand.NewPCG(seed, 0))}
		base := r.dir(6)
		before, err := Scan(base.FS(), true)
		if err != nil {
			t.Fatal(err)
		}
		paths := make([]string, 1+r.IntN(3))
		failed := false // and left something half done
		for i := range paths {
			if paths[i] = r.path(3); r.IntN(2) == 0 {
				paths[i] += "/"
			}
			failed = failed || !r.copy(base.Name(), paths[i])
		}
		if failed {
			continue
		}
		after, err := Scan(base.FS(), true)
		if err != nil {
			t.Fatal(err)
		}
		got, ok, err := kept(t, before).Copied(base.FS(), true, paths)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			continue
		}
		told++
		for _, p := range paths {
			if at, err := before.tree.resolve(p); err == nil && at != strings.Trim(p, "/") {
				linked++
			}
		}
		if diff := cmp.Diff(after.tree, got.tree, cmp.AllowUnexported(entry{})); diff != "" {
			t.Errorf("seed %d, copies to %q: (-all +told)\n%s", seed, paths, diff)
		}
	}
	if told < rounds/6 || linked < rounds/100 {
		t.Errorf("of %d rounds only %d were told, %d through a link", rounds, told, linked)
	}
}

// TestCopiedElsewhere are copies of which the result does not tell where they went.
func TestCopiedElsewhere(t *testing.T) {
	base := Files{tree{
		"bin":     {path: "bin", kind: symlink, link: "usr/bin"},
		"opt/a":   {path: "opt/a", kind: symlink, link: "/srv"},
		"loop":    {path: "loop", kind: symlink, link: "loop"},
		"through": {path: "through", kind: symlink, link: "/proc/l/../usr/bin"},
	}}
	link, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"opt/x", "opt/sub", "usr/bin/x", "srv", "dev/null", "proc", "etc/x", "loop/x"} {
		if err := os.MkdirAll(filepath.Join(link.Name(), dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(link.Name(), "opt", "b")); err != nil {
		t.Fatal(err)
	}
	for _, paths := range [][]string{
		{"/"}, {"."}, {"/bin/.."},
		{"/dev/null"}, {"proc"},
		{"/loop/x"},
		{"/missing"},
		{"/bin/x", "/opt/x"},   // the first goes through a link
		{"/opt/a", "/opt/a"},   // and so do both, perhaps elsewhere
		{"/opt/a", "/opt"},     // the second may have replaced the link that the first went through
		{"/opt/sub", "/opt"},   // there may have been a link
		{"/opt", "/opt/b"},     // there is one
		{"/opt", "/opt/sub/x"}, // there may have been one that the second replaced
		{"/through/x"},         // nothing is known of links in /proc
	} {
		if _, ok, err := base.Copied(link.FS(), true, paths); ok || err != nil {
			t.Errorf("%q: told, %v", paths, err)
		}
	}
	if _, ok, err := base.Copied(link.FS(), true, []string{"/opt", "/opt/"}); !ok || err != nil {
		t.Errorf("the same place twice: not told, %v", err)
	}
	if err := os.WriteFile(filepath.Join(link.Name(), "app"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	program := Files{tree{"app": {path: "app", kind: file, executable: true}}}
	if got, ok, err := program.Copied(link.FS(), true, []string{"/app"}); !ok || err != nil || len(got.tree) > 0 {
		t.Errorf("text over a program: %v, %t, %v", got.tree, ok, err)
	}
}

// TestFilesJSON keeps all that counts, and refuses what JSON cannot hold.
func TestFilesJSON(t *testing.T) {
	code := Code{Format: ELF, Arch: "arm", Level: "v7", HardFloat: true, Interp: "/lib/ld-linux-armhf.so.3"}
	files := Files{tree{
		"bin/sh":  {path: "bin/sh", kind: symlink, link: "busybox"},
		"bin/app": {path: "bin/app", kind: file, executable: true, code: &code},
		"bin/run": {path: "bin/run", kind: file, executable: true, script: "/bin/sh"},
	}}
	if diff := cmp.Diff(files.tree, kept(t, files).tree, cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	code.Interp = "/lib/\xff"
	for name, e := range map[string]entry{
		"bin/\xff": {path: "bin/\xff", kind: file, executable: true},
		"link":     {path: "link", kind: symlink, link: "\xfe"},
		"script":   {path: "script", kind: file, script: "/\xfd"},
		"code":     {path: "code", kind: file, code: &code},
	} {
		if dt, err := json.Marshal(Files{tree{name: e}}); err == nil {
			t.Errorf("%q is kept as %s", name, dt)
		}
	}
}

// kept is what is left of files that were kept as JSON.
func kept(t *testing.T, f Files) (out Files) {
	t.Helper()
	dt, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(dt, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// randomTrees makes folders of few names, so that they meet.
type randomTrees struct {
	*rand.Rand

	t *testing.T
}

// path is a path of up to a number of parts.
func (r randomTrees) path(parts int) string {
	out := []string{""}
	for range 1 + r.IntN(parts) {
		out = append(out, []string{"a", "b", "c", "lib.so"}[r.IntN(4)])
	}
	return strings.Join(out, "/")
}

// dir makes a folder of files, programs and links.
func (r randomTrees) dir(entries int) *os.Root {
	r.t.Helper()
	root, err := os.OpenRoot(r.t.TempDir())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = root.Close() })
	for range entries {
		name := filepath.Join(root.Name(), r.path(3))
		_ = os.MkdirAll(filepath.Dir(name), 0o755) // a file or a link may be in the way
		switch r.IntN(5) {
		case 0:
			_ = os.MkdirAll(name, 0o755)
		case 1, 2:
			to := r.path(2)
			if r.IntN(6) == 0 {
				to = "/"
			}
			if r.IntN(3) == 0 {
				to = strings.Repeat("../", r.IntN(2)) + to[1:]
			}
			_ = os.Symlink(to, name)
		default:
			mode := fs.FileMode(0o644)
			if r.IntN(3) > 0 {
				mode = 0o755
			}
			if at, err := filepath.EvalSymlinks(filepath.Dir(name)); err == nil && strings.HasPrefix(at, root.Name()) {
				_ = os.WriteFile(name, fmt.Appendf(nil, "#!/%d\n", r.IntN(100)), mode)
			}
		}
	}
	return root
}

// copy copies a file, or the content of a folder, as COPY does. Some copies cannot be.
func (r randomTrees) copy(root, to string) bool {
	from := r.dir(4)
	what := "/"
	if r.IntN(2) == 0 {
		what = r.path(2)
	}
	return copier.Copy(r.t.Context(), from.Name(), what, root, to, func(ci *copier.CopyInfo) {
		ci.FollowLinks, ci.CopyDirContents = true, true
	}) == nil
}
