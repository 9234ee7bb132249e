package frontend

import "testing"

// TestCodename reads the release's name from os-release files as distributions write them.
func TestCodename(t *testing.T) {
	for text, want := range map[string]string{
		"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_CODENAME=trixie\nID=debian\n": "trixie",
		"VERSION_CODENAME=\"noble\"\nID=ubuntu\n":                                            "noble",
		"ID=alpine\nVERSION_ID=3.20.0\n":                                                     "",
		"VERSION_CODENAME=\n":                                                                "",
		"VERSION_CODENAME=../../etc\n":                                                       "",
		"VERSION_CODENAME=a:b@c\n":                                                           "",
	} {
		if got := codename([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestPinned finds the digests that a release was linked with.
func TestPinned(t *testing.T) {
	const dgst = "sha256:7313339780b3ffdfdf7f95d99c8457cce352320a72511195cb30e5370fafb1ac"
	was := toolchainPins
	t.Cleanup(func() { toolchainPins = was })
	toolchainPins = "bullseye-arm64=sha256:1,trixie-arm64=" + dgst
	for tag, want := range map[string]string{"trixie-arm64": dgst, "bullseye-arm64": "", "trixie-arm": ""} {
		if got := pinned(tag); got != want {
			t.Errorf("%s: %q, want %q", tag, got, want)
		}
	}
}
