package frontend

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"

	"github.com/manifold-build/manifold/verify"
)

func TestCopiesOf(t *testing.T) {
	base := llb.Image("busybox:1.35@sha256:4bce6e8e6f9d0b1dd1b5f4e0dc0f5e0ba1c0c9c0e8d1ddf0d1ea9f4a0a2b7c11")
	from := llb.Local("context")
	follow := &llb.CopyInfo{FollowSymlinks: true}
	tests := []struct {
		name  string
		state llb.State
		// paths are nil where the image is something else.
		paths []string
		base  bool
	}{
		{"a copy", base.File(llb.Copy(from, "app", "/bin/app", follow)), []string{"/bin/app"}, true},
		{"two steps", base.File(llb.Copy(from, "a", "/a", follow)).File(llb.Copy(from, "b", "/b/", follow)), []string{"/a", "/b/"}, true},
		{"two copies in a step", base.File(llb.Copy(from, "a", "/a", follow).Copy(from, "b", "/b", follow)), []string{"/a", "/b"}, true},
		{"a directory is made", base.File(llb.Mkdir("/work", 0o755, llb.WithParents(true))).File(llb.Copy(from, "a", "/work/a", follow)), []string{"/work/a"}, true},
		{"from scratch", llb.Scratch().File(llb.Copy(from, "app", "/app", follow)), []string{"/app"}, false},
		{"a whole root", base.File(llb.Copy(llb.Git("https://example.com/x.git", "main"), "/", "/src")), []string{"/src"}, true},
		{"nothing", base, []string{}, true},
		{"to the root", base.File(llb.Copy(from, "rootfs", "/x/..", follow)), nil, false},
		{"a tag that may move", llb.Image("busybox:1.35").File(llb.Copy(from, "a", "/a", follow)), nil, false},
		{"a command", base.Run(llb.Shlex("true")).File(llb.Copy(from, "a", "/a", follow)), nil, false},
		{"a link may be copied", base.File(llb.Copy(from, "a", "/a")), nil, false},
		{"an archive", base.File(llb.Copy(from, "a.tar", "/a", follow, &llb.CopyInfo{FollowSymlinks: true, AttemptUnpack: true})), nil, false},
		{"a removal", base.File(llb.Rm("/bin")), nil, false},
		{"a file made", base.File(llb.Mkfile("/a", 0o644, nil)), nil, false},
		{"layers side by side", llb.Merge([]llb.State{base, llb.Scratch().File(llb.Copy(from, "a", "/a", follow))}), nil, false},
		{"a context as it is", from, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			def, err := tt.state.Marshal(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, paths, ok := copiesOf(def.ToPB())
			if ok != (tt.paths != nil) {
				t.Fatalf("told: %t", ok)
			}
			if !ok {
				return
			}
			if diff := cmp.Diff(tt.paths, append([]string{}, paths...)); diff != "" || (got != nil) != tt.base {
				t.Errorf("a base: %t, (-want +got)\n%s", got != nil, diff)
			}
		})
	}
}

// TestBases remembers more than is kept, and reads what is broken.
func TestBases(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "as needed")
	memory := bases(dir)
	key := func(i int) digest.Digest { return digest.FromString(strconv.Itoa(i)) }
	file := func(i int) string {
		name, ok := memory.file(key(i))
		if !ok {
			t.Fatal("this program is not known")
		}
		return name
	}
	var files verify.Files
	if err := json.Unmarshal([]byte(`[{"p":"bin/sh","l":"busybox"}]`), &files); err != nil {
		t.Fatal(err)
	}
	for i := range maxBases + 3 {
		memory.put(key(i), files)
		old := time.Now().Add(time.Duration(i-1000) * time.Second)
		if err := os.Chtimes(file(i), old, old); err != nil {
			t.Fatal(err)
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != maxBases {
		t.Errorf("%d are remembered, %v", len(list), err)
	}
	var got verify.Files
	if memory.get(key(0), &got) {
		t.Error("the oldest is remembered")
	}
	if !memory.get(key(maxBases), &got) {
		t.Error("a new one is forgotten")
	}
	was, err := json.Marshal(got)
	if err != nil || string(was) != `[{"p":"bin/sh","l":"busybox"}]` {
		t.Errorf("it is %s, %v", was, err)
	}
	name := file(maxBases)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for what, dt := range map[string]string{
		"half a file": string(whole[:len(whole)/2]), "nothing": "", "another link": strings.Replace(string(whole), "busybox", "toybox", 1), "no digest": string(was),
	} {
		if err := os.WriteFile(name, []byte(dt), 0o600); err != nil {
			t.Fatal(err)
		}
		if memory.get(key(maxBases), &got) {
			t.Errorf("%s is read", what)
		}
	}
}
