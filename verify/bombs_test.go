package verify

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestBombs: what is too large is an error in seconds.
func TestBombs(t *testing.T) {
	var header bytes.Buffer
	w := tar.NewWriter(&header)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Typeflag: tar.TypeReg, Size: 1 << 62, Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	var entries bytes.Buffer
	w = tar.NewWriter(&entries)
	for range 1000 {
		if err := w.WriteHeader(&tar.Header{Name: "x", Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		plain io.Reader
		want  string
	}{
		"zeros":   {io.MultiReader(&header, endless{}), "more than 200 times its stored size in a layer"},
		"entries": {&repeated{dt: entries.Bytes()}, "more than 1250000 entries in a layer"},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			r, out := io.Pipe()
			go func() {
				z, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest))
				if err == nil {
					_, err = io.Copy(z, tc.plain)
				}
				out.CloseWithError(err)
			}()
			desc := ocispec.Descriptor{Digest: digest.FromString("never read to its end")}
			_, err := readLayer(t.Context(), one{r}, desc)
			if _, ok := errors.AsType[*LimitError](err); !ok || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			t.Logf("%s", time.Since(begun))
		})
	}
}

type repeated struct {
	dt []byte
	at int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.dt[r.at:])
	r.at = (r.at + n) % len(r.dt)
	return n, nil
}

// one is a source of a single blob.
type one struct{ io.ReadCloser }

func (o one) Fetch(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return o.ReadCloser, nil
}

// FuzzLayer: reading a layer and putting it on another never panics, keeps every path inside the root, and is the same twice.
func FuzzLayer(f *testing.F) {
	f.Add(alpine)
	f.Add(archive(item{name: "usr/bin/.wh.app"}, item{name: ".wh..wh..opq"}, item{name: "../x/.wh...", link: "y"}))
	f.Add(archive(item{name: "a", link: "b"}, item{name: "b", link: "a/../.."}, item{name: "a/c", data: amd64Static}))
	arm64 := parsed(f, "linux/arm64")
	f.Fuzz(func(t *testing.T, dt []byte) {
		var first string
		for range 2 {
			base, err := scanLayer(t.Context(), bytes.NewReader(alpine))
			if err != nil {
				t.Fatal(err)
			}
			l, err := scanLayer(t.Context(), bytes.NewReader(dt))
			if err != nil {
				return
			}
			root := tree{}
			for _, l := range []*layer{base, l, base} {
				if err := root.apply(l); err != nil {
					t.Fatal(err)
				}
			}
			for name, e := range root {
				if name != e.path || strings.HasPrefix(name, "/") || strings.HasPrefix(name+"/", "../") || strings.Contains(name, "/../") {
					t.Fatalf("%q holds %q", name, e.path)
				}
			}
			report, err := root.inspect(config{platform: arm64, entrypoint: []string{"a"}, dir: "/"}, Want{Platform: arm64})
			if err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf("%+v", report)
			if first == "" {
				first = text
			} else if text != first {
				t.Fatalf("two readings differ:\n%s\n%s", first, text)
			}
		}
	})
}
