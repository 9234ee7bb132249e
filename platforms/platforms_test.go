package platforms_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/platforms"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct{ in, want, err string }{
		{in: "linux/amd64", want: "linux/amd64"},
		{in: "linux/x86_64", want: "linux/amd64"},
		{in: "x86-64", want: "linux/amd64"},
		{in: "linux/amd64/v1", want: "linux/amd64"},
		{in: "linux/amd64/v3", want: "linux/amd64/v3"},
		{in: "amd64v2", want: "linux/amd64/v2"},
		{in: "aarch64", want: "linux/arm64"},
		{in: "arm64v8", want: "linux/arm64"},
		{in: "linux/arm64/v8", want: "linux/arm64"},
		{in: "linux/arm64/v8.2", want: "linux/arm64/v8.2"},
		{in: "LINUX/ARM64", want: "linux/arm64"},
		{in: "arm", want: "linux/arm/v7"},
		{in: "linux/arm", want: "linux/arm/v7"},
		{in: "linux/arm/6", want: "linux/arm/v6"},
		{in: "armhf", want: "linux/arm/v7"},
		{in: "linux/armhf", want: "linux/arm/v7"},
		{in: "linux/armel", want: "linux/arm/v6"},
		{in: "arm32v5", want: "linux/arm/v5"},
		{in: "armv7l", want: "linux/arm/v7"},
		{in: "linux/armv7/v7", want: "linux/arm/v7"},
		{in: "i386", want: "linux/386"},
		{in: "linux/i686", want: "linux/386"},
		{in: "ppc64el", want: "linux/ppc64le"},
		{in: "linux/s390x", want: "linux/s390x"},
		{in: "mips64el", want: "linux/mips64le"},
		{in: "macos/arm64", want: "darwin/arm64"},
		{in: "wasi/wasm", want: "wasi/wasm"},
		{in: "windows(10.0.20348.0)/amd64", want: "windows(10.0.20348.0)/amd64"},
		{in: "windows(10.0.20348.0+win32k)/amd64", want: "windows(10.0.20348.0+win32k)/amd64"},
		{in: "windows(1.2.3)/own", want: "windows(1.2.3)/own"},
		{in: " linux/amd64 ", want: "linux/amd64"},

		{in: "", err: `invalid platform "": it is empty`},
		{in: "linux", err: `invalid platform "linux": it names an operating system and no architecture; did you mean "linux/amd64"?`},
		{in: "linux/amr64", err: `invalid platform "linux/amr64": unknown architecture "amr64"; did you mean "linux/arm64"?`},
		{in: "linux/amd46", err: `invalid platform "linux/amd46": unknown architecture "amd46"; did you mean "linux/amd64"?`},
		{in: "linus/amd64", err: `invalid platform "linus/amd64": unknown operating system "linus"; did you mean "linux/amd64"?`},
		{in: "toaster", err: `invalid platform "toaster": unknown architecture "toaster"`},
		{in: "linux/arm/v9", err: `invalid platform "linux/arm/v9": unknown variant "v9" of arm`},
		{in: "linux/armv7/v6", err: `invalid platform "linux/armv7/v6": "armv7" already means variant v7, it cannot be v6 too`},
		{in: "linux/arm/v7/x", err: `invalid platform "linux/arm/v7/x": it has more than the three parts os/architecture/variant`},
		{in: "linux/", err: `invalid platform "linux/": "" is not a name`},
		{in: "linux/a b", err: `invalid platform "linux/a b": "a b" is not a name`},
		{in: "linux/arm*", err: `invalid platform "linux/arm*": "arm*" is not a name`},
	} {
		t.Run(tc.in, func(t *testing.T) {
			p, err := platforms.Parse(tc.in)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := p.String(); got != tc.want {
				t.Errorf("Parse(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestParseListKeepsWrittenOrderOnce(t *testing.T) {
	list := "linux/s390x, linux/amd64,arm64v8,linux/arm64/v8,x86_64"
	got, err := platforms.ParseList(list)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("linux/s390x,linux/amd64,linux/arm64", platforms.Format(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"linux/arm64/v8", "x86_64"}, platforms.Repeats(list)); diff != "" {
		t.Errorf("repeats (-want +got)\n%s", diff)
	}
	if _, err := platforms.ParseList("linux/amd64,"); err == nil {
		t.Error("an empty element has to be refused")
	}
	if _, err := platforms.ParseList(strings.Repeat("linux/amd64,", 64) + "linux/amd64"); err == nil {
		t.Error("65 platforms have to be refused")
	}
}

func TestPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		matches string
		not     string
	}{
		{"linux/arm64", "linux/arm64,linux/arm64/v9", "linux/arm/v7,windows/arm64"},
		{"linux/arm*", "linux/arm64,linux/arm/v7,linux/arm/v6", "linux/amd64"},
		{"linux/arm", "linux/arm/v5,linux/arm/v7", "linux/arm64"},
		{"linux/arm/v7", "linux/arm/v7", "linux/arm/v6"},
		{"linux/arm64/v8", "linux/arm64", "linux/arm64/v9"},
		{"*/386", "linux/386,windows/386", "linux/amd64"},
		{"aarch64", "linux/arm64,windows/arm64", "linux/amd64"},
		{"armhf", "linux/arm/v7", "linux/arm/v6"},
		{"linux", "linux/amd64,linux/s390x", "windows/amd64"},
		{"*", "linux/amd64,windows/amd64", ""},
		{"linux/ppc64?e", "linux/ppc64le", "linux/ppc64"},
	} {
		t.Run(tc.pattern, func(t *testing.T) {
			p, err := platforms.ParsePattern(tc.pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []struct {
				list  string
				match bool
			}{{tc.matches, true}, {tc.not, false}} {
				list, err := platforms.ParseList(want.list)
				if err != nil {
					t.Fatal(err)
				}
				for _, platform := range list {
					if got := p.Match(platform); got != want.match {
						t.Errorf("%s matches %s: %v, want %v", p, platform, got, want.match)
					}
				}
			}
		})
	}
	for _, bad := range []string{"", "linux/amr64", "lunix/amd64", "linux/xyz*", "a/b/c/d", "linux/"} {
		if _, err := platforms.ParsePattern(bad); err == nil {
			t.Errorf("pattern %q has to be refused", bad)
		}
	}
}

func TestPatternOrder(t *testing.T) {
	ordered := []string{"*", "linux", "linux/a*", "linux/arm*", "linux/arm", "linux/arm/v*", "linux/arm/v7"}
	for i := 1; i < len(ordered); i++ {
		p, err1 := platforms.ParsePattern(ordered[i-1])
		q, err2 := platforms.ParsePattern(ordered[i])
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if p.Compare(q) >= 0 {
			t.Errorf("%s has to be less specific than %s", p, q)
		}
		if same := p; q.Compare(p) <= 0 || p.Compare(same) != 0 {
			t.Errorf("Compare is no order for %s and %s", p, q)
		}
	}
}

func TestHost(t *testing.T) {
	reported := parseList(t, "linux/amd64,linux/amd64/v2,linux/amd64/v3,linux/arm64,linux/riscv64,linux/386,linux/arm/v7,linux/arm/v6")
	h, err := platforms.HostOf(reported)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := platforms.Format(h.NativePlatforms()), "linux/amd64,linux/amd64/v2,linux/amd64/v3,linux/386"; got != want {
		t.Errorf("native %s, want %s", got, want)
	}
	if got, want := platforms.Format(h.Emulated), "linux/arm64,linux/riscv64,linux/arm/v7,linux/arm/v6"; got != want {
		t.Errorf("emulated %s, want %s", got, want)
	}
	for spec, want := range map[string]bool{
		"linux/amd64": true, "linux/amd64/v4": true, "linux/386": true, "linux/arm64": true, "linux/arm64/v9": true,
		"linux/arm/v5": true, "linux/arm/v8": false, "linux/s390x": false, "windows/amd64": false,
	} {
		if got := h.Runs(parse(t, spec)); got != want {
			t.Errorf("runs %s: %v, want %v", spec, got, want)
		}
	}
	for spec, want := range map[string]bool{"linux/s390x": true, "linux/arm64": false, "linux/mips64le": false, "windows/amd64": true} {
		if got := h.CannotRun(parse(t, spec)); got != want {
			t.Errorf("cannot run %s: %v, want %v", spec, got, want)
		}
	}
	if _, err := platforms.HostOf(nil); err == nil {
		t.Error("a node without platforms has to be refused")
	}
}

func TestNames(t *testing.T) {
	for _, tc := range []struct{ platform, want string }{
		{"linux/amd64", "amd64 v1 x86_64-linux-gnu amd64 x86_64 x86_64"},
		{"linux/amd64/v3", "amd64 v3 x86_64-linux-gnu amd64 x86_64 x86_64"},
		{"linux/arm64", "arm64  aarch64-linux-gnu arm64 aarch64 aarch64"},
		{"linux/arm/v7", "arm 7 arm-linux-gnueabihf armhf armv7 armv7l"},
		{"linux/arm/v8", "arm 7 arm-linux-gnueabihf armhf armv7 armv8l"},
		{"linux/arm/v6", "arm 6 arm-linux-gnueabi armel armhf armv6l"},
		{"linux/ppc64le", "ppc64le power8 powerpc64le-linux-gnu ppc64el ppc64le ppc64le"},
		{"linux/riscv64", "riscv64 rva20u64 riscv64-linux-gnu riscv64 riscv64 riscv64"},
		{"linux/386", "386 sse2 i686-linux-gnu i386 x86 i686"},
		{"linux/mips64le", "mips64le hardfloat mips64el-linux-gnuabi64 mips64el  mips64"},
		{"plan9/amd64", "amd64 v1    "},
	} {
		n := parse(t, tc.platform).Names()
		g := n.Go
		level := g.GOARM + g.GOAMD64 + g.GO386 + g.GOMIPS + g.GOMIPS64 + g.GOPPC64 + g.GORISCV64
		got := strings.Join([]string{g.GOARCH, level, n.GNU, n.Debian, n.Alpine, n.Uname}, " ")
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.platform, got, tc.want)
		}
	}
}

func TestStrategyText(t *testing.T) {
	for _, s := range []platforms.Strategy{platforms.Auto, platforms.Native, platforms.Cross, platforms.Shared, platforms.Emulate} {
		text, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back platforms.Strategy
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%s came back as %s, %v", s, back, err)
		}
	}
	_, err := platforms.ParseStrategy("emulated")
	if want := `invalid strategy "emulated": it is one of auto, native, emulate, cross, accelerate; did you mean "emulate"?`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if _, err := platforms.ParseStrategy("shared"); err == nil {
		t.Error("shared is not for users to ask for")
	}
}

// FuzzParse holds every accepted platform to: format and parse again is the same, and normalising changes nothing.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"linux/amd64", "linux/arm/v7", "windows(10.0.1+win32k)/amd64", "armhf", "linux/arm64/v8", "a/b/c", "(/)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := platforms.Parse(s)
		if err != nil {
			return
		}
		back, err := platforms.Parse(p.String())
		if err != nil || back != p {
			t.Fatalf("%q parsed as %#v, formatted as %q, parsed again as %#v, %v", s, p, p, back, err)
		}
		if n := p.Normalize(); n != p {
			t.Fatalf("%q parsed as %#v, which normalises to %#v", s, p, n)
		}
	})
}

// FuzzPattern holds every accepted pattern that is also a platform to matching that platform.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{"linux/amd64", "linux/arm*", "*/386", "arm64", "linux/[a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		pattern, err := platforms.ParsePattern(s)
		if err != nil {
			return
		}
		if p, err := platforms.Parse(s); err == nil && !pattern.Match(p) {
			t.Fatalf("pattern %q does not match the platform %s it spells", s, p)
		}
	})
}

func parse(t *testing.T, s string) platforms.Platform {
	t.Helper()
	p, err := platforms.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parseList(t *testing.T, s string) []platforms.Platform {
	t.Helper()
	list, err := platforms.ParseList(s)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
