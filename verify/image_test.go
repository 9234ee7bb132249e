package verify

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// item is one entry of a layer of the tests.
type item struct {
	name, link string
	data       []byte
	mode       int64 // 0 means 0755
	kind       byte  // 0 means a regular file, or a symlink if link is set
}

func archive(items ...item) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, it := range items {
		h := &tar.Header{Name: it.name, Linkname: it.link, Mode: it.mode, Typeflag: it.kind, Size: int64(len(it.data)), Format: tar.FormatPAX}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if it.link != "" {
				h.Typeflag = tar.TypeSymlink
			}
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write(it.data); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// store is a source of blobs in memory.
type store map[digest.Digest][]byte

func (s store) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	dt, ok := s[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("%s is not there", desc.Digest)
	}
	return io.NopCloser(bytes.NewReader(dt)), nil
}

func (s store) put(mediaType string, v any) ocispec.Descriptor {
	dt, ok := v.([]byte)
	if !ok {
		var err error
		if dt, err = json.Marshal(v); err != nil {
			panic(err)
		}
	}
	d := digest.FromBytes(dt)
	s[d] = dt
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(dt))}
}

func (s store) image(p platforms.Platform, config ocispec.ImageConfig, layers ...[]byte) ocispec.Descriptor {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	img := ocispec.Image{Platform: p.OCI(), Config: config}
	for _, l := range layers {
		m.Layers = append(m.Layers, s.put(ocispec.MediaTypeImageLayerGzip, l))
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, diffID(l))
	}
	m.Config = s.put(ocispec.MediaTypeImageConfig, img)
	return s.put(ocispec.MediaTypeImageManifest, m)
}

// diffID is the digest of a layer's plain stream; of what cannot be read, that of nothing.
func diffID(dt []byte) digest.Digest {
	plain, err := decompress(bytes.NewReader(dt))
	if err != nil {
		return digest.FromBytes(nil)
	}
	dt, _ = io.ReadAll(io.LimitReader(plain, 1<<24)) // one that is larger is not read to its end
	return digest.FromBytes(dt)
}

func gz(dt []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(dt); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

const muslLoader = "/lib/ld-musl-aarch64.so.1"

var (
	arm64Static  = program{machine: 183, wide: true}.bytes()
	amd64Static  = program{machine: 62, wide: true}.bytes()
	arm64Musl    = program{machine: 183, wide: true, interp: muslLoader}.bytes()
	arm64Glibc   = program{machine: 183, wide: true, interp: "/lib/ld-linux-aarch64.so.1"}.bytes()
	arm64Library = program{machine: 183, wide: true, kind: elfShared}.bytes()
	amd64Library = program{machine: 62, wide: true, kind: elfShared}.bytes()
	softLibrary  = program{machine: 40, kind: elfShared, flags: 0x05000200}.bytes()
	hardLibrary  = program{machine: 40, kind: elfShared, flags: 0x05000400}.bytes()
)

// alpine is a base image's only layer: a shell, its loader, and links as a merged /usr has them.
var alpine = archive(
	item{name: "bin", link: "usr/bin"}, item{name: "lib/", kind: tar.TypeDir},
	item{name: "lib/ld-musl-aarch64.so.1", data: arm64Library},
	item{name: "usr/bin/busybox", data: arm64Musl}, item{name: "usr/bin/sh", link: "/bin/busybox"}, item{name: "usr/bin/env", link: "busybox"},
)

// TestVerdicts judges whole images.
func TestVerdicts(t *testing.T) {
	arm64 := parsed(t, "linux/arm64")
	for _, tc := range []struct {
		name   string
		config ocispec.ImageConfig
		layers [][]byte
		want   Want
		is     platforms.Platform // zero means arm64
		// verdict, and what the report says: "refused: …", "excepted: …", "warning: …".
		verdict Verdict
		says    []string
	}{
		{name: "nothing in it", verdict: NothingToVerify},
		{name: "text alone", layers: [][]byte{archive(item{name: "etc/motd", data: []byte("hello"), mode: 0o644})}, verdict: NothingToVerify},
		{name: "a static program", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: [][]byte{archive(item{name: "app", data: arm64Static})}, verdict: Verified},
		{name: "a base image", config: ocispec.ImageConfig{Cmd: []string{"/bin/sh"}}, layers: [][]byte{alpine}, verdict: Verified},
		{
			name: "an entrypoint for another machine", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: [][]byte{archive(item{name: "app", data: amd64Static})},
			verdict: Refused, says: []string{"refused: /app (entrypoint) is for amd64"},
		},
		{
			name: "through PATH", config: ocispec.ImageConfig{Entrypoint: []string{"app"}, Env: []string{"PATH=/opt/app/tools:/bin"}},
			layers: [][]byte{alpine, archive(item{name: "opt/app/tools/app", data: amd64Static})}, verdict: Refused, says: []string{"refused: /opt/app/tools/app (entrypoint) is for amd64"},
		},
		{
			name: "relative to the working directory", config: ocispec.ImageConfig{Entrypoint: []string{"./app"}, WorkingDir: "/srv"},
			layers: [][]byte{archive(item{name: "srv/app", data: amd64Static})}, verdict: Refused, says: []string{"refused: /srv/app (entrypoint) is for amd64"},
		},
		{
			name: "a command behind an entrypoint", config: ocispec.ImageConfig{Entrypoint: []string{"/entry.sh"}, Cmd: []string{"/opt/x/server"}},
			layers:  [][]byte{alpine, archive(item{name: "entry.sh", data: []byte("#!/bin/sh\nexec \"$@\"\n")}, item{name: "opt/x/server", data: amd64Static})},
			verdict: Refused, says: []string{"refused: /opt/x/server (command) is for amd64"},
		},
		{
			name: "the shell form", config: ocispec.ImageConfig{Cmd: []string{"/bin/sh", "-c", "exec /opt/x/server --port 80"}},
			layers: [][]byte{alpine, archive(item{name: "opt/x/server", data: amd64Static})}, verdict: Refused, says: []string{"refused: /opt/x/server (command) is for amd64"},
		},
		{
			name: "a script without its interpreter", config: ocispec.ImageConfig{Entrypoint: []string{"/entry.sh"}},
			layers: [][]byte{alpine, archive(item{name: "entry.sh", data: []byte("#!/bin/bash\n")})}, verdict: Refused,
			says: []string{"refused: /entry.sh (entrypoint) is a script for /bin/bash, which is not in the image"},
		},
		{
			name: "an entrypoint that is not there", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: [][]byte{alpine},
			verdict: Refused, says: []string{`refused: its entrypoint "/app" is not in the image, or is not executable`},
		},
		{
			name: "a glibc program on musl", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: [][]byte{alpine, archive(item{name: "app", data: arm64Glibc})},
			verdict: Refused, says: []string{"refused: /app (entrypoint) needs the interpreter /lib/ld-linux-aarch64.so.1, which is not in the image; use a base image that has it"},
		},
		{
			name:   "an interpreter for another machine",
			layers: [][]byte{archive(item{name: "usr/bin/app", data: arm64Musl}, item{name: "lib/ld-musl-aarch64.so.1", data: amd64Library})}, verdict: Refused,
			says: []string{
				"refused: /usr/bin/app needs the interpreter /lib/ld-musl-aarch64.so.1, which is for amd64",
				"warning: /lib/ld-musl-aarch64.so.1 is for amd64",
			},
		},
		{
			name: "a library for another machine", layers: [][]byte{alpine, archive(item{name: "usr/lib/libx.so.1", data: amd64Library, mode: 0o644})},
			verdict: Refused, says: []string{"refused: /usr/lib/libx.so.1 is for amd64"},
		},
		{
			name: "test data for another machine", layers: [][]byte{alpine, archive(item{name: "srv/data/fixture.so", data: amd64Library, mode: 0o644})},
			verdict: Verified, says: []string{"warning: /srv/data/fixture.so is for amd64"},
		},
		{
			name: "an exception", layers: [][]byte{alpine, archive(item{name: "usr/lib/firmware/a/b.elf", data: amd64Static}, item{name: "usr/bin/foreign", data: amd64Static})},
			want: Want{Except: []string{"/usr/lib/firmware/**", "/usr/bin/foreign"}}, verdict: Excepted,
			says: []string{"excepted: /usr/bin/foreign is for amd64", "excepted: /usr/lib/firmware/a/b.elf is for amd64"},
		},
		{
			name: "hidden by a whiteout", layers: [][]byte{archive(item{name: "usr/bin/app", data: amd64Static}), archive(item{name: "usr/bin/.wh.app"})}, verdict: NothingToVerify,
		},
		{
			name:   "hidden by the whiteout of a folder",
			layers: [][]byte{archive(item{name: "usr/bin/app", data: amd64Static}), archive(item{name: ".wh.usr"})}, verdict: NothingToVerify,
		},
		{
			name:   "hidden by an opaque folder",
			layers: [][]byte{archive(item{name: "usr/bin/app", data: amd64Static}), archive(item{name: "usr/bin/.wh..wh..opq"}, item{name: "usr/bin/new", data: arm64Static})}, verdict: Verified,
		},
		{
			name:   "a whiteout does not hide its own layer's file",
			layers: [][]byte{archive(item{name: "usr/bin/.wh..wh..opq"}, item{name: "usr/bin/app", data: amd64Static})}, verdict: Refused, says: []string{"refused: /usr/bin/app is for amd64"},
		},
		{
			name:   "overwritten by the right one",
			layers: [][]byte{archive(item{name: "usr/bin/app", data: amd64Static}), archive(item{name: "usr/bin/app", data: arm64Static})}, verdict: Verified,
		},
		{
			name:   "overwritten by text",
			layers: [][]byte{archive(item{name: "usr/bin/app", data: amd64Static}), archive(item{name: "usr/bin/app", data: []byte("x"), mode: 0o644})}, verdict: NothingToVerify,
		},
		{
			name:   "a file where a folder was",
			layers: [][]byte{archive(item{name: "usr/bin/app", data: amd64Static}), archive(item{name: "usr", data: []byte("x"), mode: 0o644})}, verdict: NothingToVerify,
		},
		{
			name:   "a folder where a link was",
			layers: [][]byte{archive(item{name: "usr/bin/app", link: "/srv/x"}, item{name: "srv/x", data: arm64Static}), archive(item{name: "usr/bin/app/", kind: tar.TypeDir})}, verdict: Verified,
		},
		{
			name:   "brought back by a hard link",
			layers: [][]byte{archive(item{name: "srv/store/1", data: amd64Static}), archive(item{name: "usr/bin/app", link: "srv/store/1", kind: tar.TypeLink})}, verdict: Refused,
			says: []string{"refused: /usr/bin/app is for amd64", "warning: /srv/store/1 is for amd64"},
		},
		{
			name:   "brought in through a link to a folder",
			layers: [][]byte{alpine, archive(item{name: "bin/app", data: amd64Static})}, verdict: Refused, says: []string{"refused: /usr/bin/app is for amd64"},
		},
		{
			name: "links in a circle", config: ocispec.ImageConfig{Entrypoint: []string{"/a"}}, layers: [][]byte{archive(item{name: "a", link: "b"}, item{name: "b", link: "/a"})},
			verdict: NothingToVerify, says: []string{`warning: its entrypoint "/a" is not in the image, or is not executable`},
		},
		{
			name: "a link out of the root", config: ocispec.ImageConfig{Entrypoint: []string{"/a"}}, layers: [][]byte{archive(item{name: "a", link: "../../../app"}, item{name: "app", data: amd64Static})},
			verdict: Refused, says: []string{"refused: /app (entrypoint) is for amd64"},
		},
		{
			name: "names that lead out of the root", layers: [][]byte{archive(item{name: "../../usr/bin/app", data: amd64Static}, item{name: "/etc/../bin/two", data: amd64Static})},
			verdict: Refused, says: []string{"refused: /bin/two is for amd64", "refused: /usr/bin/app is for amd64"},
		},
		{
			name: "a config for another platform", is: parsed(t, "linux/amd64"), layers: [][]byte{archive(item{name: "usr/bin/app", data: arm64Static})},
			verdict: Refused, says: []string{"refused: its config says linux/amd64, and linux/arm64 was asked for"},
		},
		{
			name: "an index that says something else", want: Want{Descriptor: parsed(t, "linux/arm/v7")}, layers: [][]byte{alpine},
			verdict: Refused, says: []string{"refused: the index says linux/arm/v7, and linux/arm64 was asked for"},
		},
		{
			name: "an entrypoint with damaged headers", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: [][]byte{archive(item{name: "app", data: arm64Glibc[:80]})},
			verdict: Refused, says: []string{"refused: /app (entrypoint) is no ELF file that can run: its program headers lie outside of it"},
		},
		{name: "gzip", layers: [][]byte{gz(alpine)}, verdict: Verified},
		{name: "zstd", layers: [][]byte{zst(alpine)}, verdict: Verified},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := store{}
			is := tc.is
			if is.IsZero() {
				is = arm64
			}
			tc.want.Platform = arm64
			report, err := NewReader(s).Image(t.Context(), s.image(is, tc.config, tc.layers...), tc.want)
			if err != nil {
				t.Fatal(err)
			}
			if report.Verdict != tc.verdict {
				t.Errorf("verdict %q, want %q", report.Verdict, tc.verdict)
			}
			if diff := cmp.Diff(tc.says, said(report)); diff != "" {
				t.Errorf("it says (-want +got)\n%s", diff)
			}
		})
	}
}

func zst(dt []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(dt, nil)
}

// said lists what a report holds.
func said(r Report) []string {
	var out []string
	for _, f := range r.Refused {
		out = append(out, "refused: "+f.String())
	}
	for _, f := range r.Excepted {
		out = append(out, "excepted: "+f.String())
	}
	for _, f := range r.Warnings {
		out = append(out, "warning: "+f.String())
	}
	return out
}

// TestBaseFiles excuses what came with a base image, unless it is started.
func TestBaseFiles(t *testing.T) {
	t.Parallel()
	arm64 := parsed(t, "linux/arm64")
	layers := [][]byte{alpine, archive(item{name: "usr/bin/odd", data: amd64Static}), archive(item{name: "usr/bin/new", data: amd64Static})}
	for _, tc := range []struct {
		name    string
		config  ocispec.ImageConfig
		base    []string
		verdict Verdict
		says    []string
	}{
		{name: "nothing is known", verdict: Refused, says: []string{"refused: /usr/bin/new is for amd64", "refused: /usr/bin/odd is for amd64"}},
		{
			name: "one is the base's", base: []string{"/usr/bin/odd"}, verdict: Refused,
			says: []string{"refused: /usr/bin/new is for amd64", "warning: /usr/bin/odd is for amd64; it came with the base image"},
		},
		{
			name: "all are", base: []string{"/usr/bin/odd", "/usr/bin/new"}, verdict: Verified,
			says: []string{"warning: /usr/bin/new is for amd64; it came with the base image", "warning: /usr/bin/odd is for amd64; it came with the base image"},
		},
		{
			name: "it is started", config: ocispec.ImageConfig{Entrypoint: []string{"odd"}}, base: []string{"/usr/bin/odd", "/usr/bin/new"}, verdict: Refused,
			says: []string{
				"refused: /usr/bin/odd (entrypoint) is for amd64; it came with the base image",
				"warning: /usr/bin/new is for amd64; it came with the base image",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := store{}
			report, err := NewReader(s).Image(t.Context(), s.image(arm64, tc.config, layers...), Want{Platform: arm64})
			if err != nil {
				t.Fatal(err)
			}
			report.Excuse(func(path string) bool { return slices.Contains(tc.base, path) })
			if report.Verdict != tc.verdict {
				t.Errorf("verdict %q, want %q", report.Verdict, tc.verdict)
			}
			if diff := cmp.Diff(tc.says, said(report)); diff != "" {
				t.Errorf("it says (-want +got)\n%s", diff)
			}
		})
	}
}

// TestAmbiguousDocuments says nothing of an image whose documents others may read in another way.
func TestAmbiguousDocuments(t *testing.T) {
	t.Parallel()
	arm64 := parsed(t, "linux/arm64")
	s := store{}
	good := s.image(arm64, ocispec.ImageConfig{}, alpine)
	manifest := string(s[good.Digest])
	var m ocispec.Manifest
	if err := json.Unmarshal(s[good.Digest], &m); err != nil {
		t.Fatal(err)
	}
	config := string(s[m.Config.Digest])
	for name, doc := range map[string]string{
		"an index too":             strings.Replace(manifest, `{`, `{"manifests":[],`, 1),
		"layers twice":             strings.Replace(manifest, `{`, `{"layers":[],`, 1),
		"layers in capitals":       strings.Replace(manifest, `{`, `{"Layers":[],`, 1),
		"a digest twice":           strings.Replace(manifest, `"digest"`, `"digest":"sha256:00","digest"`, 1),
		"another media type":       strings.Replace(manifest, "manifest.v1", "index.v1", 1),
		"deep":                     strings.Replace(manifest, `{`, `{"x":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`,`, 1),
		"architecture twice":       strings.Replace(config, `{`, `{"architecture":"amd64",`, 1),
		"architecture in capitals": strings.Replace(config, `{`, `{"Architecture":"amd64",`, 1),
		"a list":                   "[]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := maps.Clone(s)
			desc := s.put(ocispec.MediaTypeImageManifest, []byte(doc))
			if strings.Contains(doc, "rootfs") {
				bad := m
				bad.Config = s.put(ocispec.MediaTypeImageConfig, []byte(doc))
				desc = s.put(ocispec.MediaTypeImageManifest, bad)
			}
			report, err := NewReader(s).Image(t.Context(), desc, Want{Platform: arm64})
			if err == nil {
				t.Errorf("it is %s", report.Verdict)
			}
			if report.Verdict != 0 {
				t.Errorf("the verdict %s beside an error", report.Verdict)
			}
		})
	}
	if _, err := NewReader(s).Image(t.Context(), good, Want{Platform: arm64}); err != nil {
		t.Error(err)
	}
}

// TestUnpacked judges a root filesystem that is a folder.
func TestUnpacked(t *testing.T) {
	root := fstest.MapFS{
		"app":         {Data: amd64Static, Mode: 0o755},
		"usr/bin/two": {Data: arm64Static, Mode: 0o755},
	}
	arm64 := parsed(t, "linux/arm64")
	report, err := FS(root, ocispec.Image{Platform: arm64.OCI(), Config: ocispec.ImageConfig{Cmd: []string{"/app"}}}, Want{Platform: arm64})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"refused: /app (command) is for amd64"}, said(report)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]Machine{{"amd64", 1}, {"arm64", 1}}, report.Machines); diff != "" {
		t.Errorf("machines (-want +got)\n%s", diff)
	}
	if err := report.Err(); err == nil || err.Error() != "linux/arm64: /app (command) is for amd64" {
		t.Errorf("error %v", err)
	}
}

// TestWrongBytes: nothing is said of a blob whose bytes are not the ones asked for, whichever byte is wrong.
func TestWrongBytes(t *testing.T) {
	s := store{}
	arm64 := parsed(t, "linux/arm64")
	layer := gz(archive(item{name: "app", data: arm64Static}))
	m := s.image(arm64, ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layer)
	for d, dt := range s {
		for i := range dt {
			for bit := range 8 {
				wrong := bytes.Clone(dt)
				wrong[i] ^= 1 << bit
				s[d] = wrong
				if report, err := NewReader(s).Image(t.Context(), m, Want{Platform: arm64}); err == nil {
					t.Fatalf("byte %d of %s is wrong, and the verdict is %q", i, d, report.Verdict)
				}
			}
		}
		s[d] = append(bytes.Clone(dt), 0)
		if _, err := NewReader(s).Image(t.Context(), m, Want{Platform: arm64}); err == nil {
			t.Errorf("%s is longer than it should be", d)
		}
		s[d] = dt
	}
}

// endless yields one byte for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
