package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// TestWrongPassword: a registry that refuses the password is found out before anything is built, and the password is in
// no output. With the right one the same command publishes.
func TestWrongPassword(t *testing.T) {
	sb := sandbox.Start(t)
	reg := sb.NewRegistry(t, "founder", "correct horse")
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nRUN sleep 3; touch /built\n")
	push := func(password string) sandbox.Output {
		home := t.TempDir()
		if err := os.Mkdir(filepath.Join(home, ".docker"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(home, ".docker"), "config.json",
			fmt.Sprintf(`{"auths": {%q: {"username": "founder", "password": %q}}}`, reg.Addr, password))
		out, err := sb.Exec(t.Context(), dir, "env", "HOME="+home, "manifold", "build", "--progress=plain", "-t", reg.Addr+"/team/app:1", "-t", sb.Ref("app:1"), "--push", ".")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := push("battery staple")
	want := fmt.Sprintf("error: registry %[1]s does not accept the credentials for pushing to team/app: run docker login %[1]s, or check the password it stored\n", reg.Addr)
	if out.Code != 6 || !strings.HasSuffix(out.Stderr, want) {
		t.Errorf("exit code %d, not ending in %q:\n%s", out.Code, want, out.Stderr)
	}
	// The plan may be under way while the registry is asked; no step of the build may.
	if strings.Contains(out.Stderr, "RUN sleep") {
		t.Errorf("a step has begun:\n%s", out.Stderr)
	}
	if out := mustFail(t, sb, "crane", "digest", sb.Ref("app:1")); !strings.Contains(out.Stderr, "UNKNOWN") {
		t.Errorf("the other registry cannot be asked for the tag: %s", out.Stderr)
	}
	out = push("correct horse")
	if out.Code != 0 {
		t.Fatalf("with the right password: exit code %d\n%s", out.Code, out.Stderr)
	}
	for _, line := range []string{"published " + reg.Addr + "/team/app:1", "published " + sb.Ref("app:1")} {
		if !strings.Contains(out.Stderr, line) {
			t.Errorf("no %q in\n%s", line, out.Stderr)
		}
	}
	if strings.Contains(out.Stderr+out.Stdout, "correct horse") {
		t.Error("the password is in the output")
	}
}

// TestArchive builds into an OCI archive and tells what is in it.
func TestArchive(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nLABEL from=archive\n")
	out, err := sb.Exec(t.Context(), dir, "manifold", "build", "--progress=plain", "--platform", "linux/amd64,linux/s390x", "-o", "type=oci,dest=app.tar", "--iidfile", "iid", ".")
	if err != nil || out.Code != 0 {
		t.Fatalf("exit code %d, %v\n%s", out.Code, err, out.Stderr)
	}
	digest, err := os.ReadFile(filepath.Join(dir, "iid"))
	if err != nil {
		t.Fatal(err)
	}
	if out.Stdout != string(digest)+"\n" || !strings.HasPrefix(out.Stdout, "sha256:") {
		t.Errorf("standard output %q, iidfile %q", out.Stdout, digest)
	}
	if !strings.Contains(out.Stderr, "linux/s390x   -          sha256:") {
		t.Errorf("no row for linux/s390x in\n%s", out.Stderr)
	}
	mustExec(t, sb, "skopeo", "copy", "--all", "--quiet", "--dest-tls-verify=false", "oci-archive:"+filepath.Join(dir, "app.tar"), "docker://"+sb.Ref("app:1"))
	if got := contents(t, sb.Ref("app:1")); got[0] != string(digest) {
		t.Errorf("the archive holds %v", got)
	}
}

func mustFail(t *testing.T, sb *sandbox.Sandbox, args ...string) sandbox.Output {
	t.Helper()
	out, err := sb.Exec(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	if out.Code == 0 {
		t.Fatalf("%s succeeded\n%s", strings.Join(args, " "), out.Stdout)
	}
	return out
}
