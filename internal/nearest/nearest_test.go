package nearest_test

import (
	"testing"

	"github.com/manifold-build/manifold/internal/nearest"
)

func TestName(t *testing.T) {
	t.Parallel()
	names := []string{"amd64", "arm64", "arm", "s390x"}
	for s, want := range map[string]string{
		"amd64": "amd64", "adm64": "amd64", "arm46": "arm64", "s390": "s390x", "am": "arm", "sparc": "", "": "",
	} {
		if got := nearest.Name(s, names); got != want {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
}
