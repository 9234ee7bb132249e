package sandbox

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
)

// User is somebody who is not root, with a range of users of his own as rootless containers need it.
type User struct {
	// Home is a folder that is his.
	Home string

	name     string
	uid, gid int
}

// NewUser makes one for the length of a test.
func (s *Sandbox) NewUser(tb testing.TB) *User {
	tb.Helper()
	ctx := tb.Context()
	if err := install(ctx, map[string]string{"rootlesskit": "rootlesskit", "newuidmap": "uidmap", "useradd": "passwd"}); err != nil {
		tb.Fatal(err)
	}
	home, err := os.MkdirTemp("", "mfuser")
	if err != nil {
		tb.Fatal(err)
	}
	u := &User{Home: home, name: filepath.Base(home)}
	if _, err := run(ctx, command{Args: []string{"useradd", "--no-create-home", "--home-dir", home, u.name}}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_, err := run(context.Background(), command{Args: []string{"userdel", "--force", u.name}})
		if err := errors.Join(err, removeMounted(home)); err != nil {
			tb.Error(err)
		}
	})
	known, err := user.Lookup(u.name)
	if err != nil {
		tb.Fatal(err)
	}
	u.uid, _ = strconv.Atoi(known.Uid)
	u.gid, _ = strconv.Atoi(known.Gid)
	if err := errors.Join(os.Chmod(home, 0o755), os.Chown(home, u.uid, u.gid), os.Mkdir(filepath.Join(home, "run"), 0o700), os.Chown(filepath.Join(home, "run"), u.uid, u.gid)); err != nil {
		tb.Fatal(err)
	}
	return u
}

// Install copies programs to where the user may run them, and returns that folder.
func (u *User) Install(tb testing.TB, programs ...string) string {
	tb.Helper()
	bin := filepath.Join(u.Home, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		tb.Fatal(err)
	}
	if _, err := run(tb.Context(), command{Args: append(append([]string{"cp", "-L"}, programs...), bin)}); err != nil {
		tb.Fatal(err)
	}
	return bin
}

// Run runs a command as the user, in his folder, with nothing of this process's environment. Words with a = before the program are variables.
func (u *User) Run(tb testing.TB, words ...string) Output {
	tb.Helper()
	args := []string{"setpriv", "--reuid", u.name, "--regid", u.name, "--init-groups", "env", "-i", "-C", u.Home, "HOME=" + u.Home, "XDG_RUNTIME_DIR=" + filepath.Join(u.Home, "run")}
	cmd := exec.CommandContext(tb.Context(), args[0], append(args[1:], words...)...)
	out, err := outputOf(cmd)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}
