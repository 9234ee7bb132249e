package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/internal/ocijson"
	"github.com/manifold-build/manifold/internal/registry"
	"github.com/manifold-build/manifold/platforms"
)

// Severity is how bad a problem is.
type Severity uint8

const (
	// Broken is what makes a pull fail, or gives a host the wrong image.
	Broken Severity = iota + 1
	// Doubtful is what works, and surprises somebody.
	Doubtful
)

// String is the severity as reports print it.
func (s Severity) String() string {
	switch s {
	case Broken:
		return "broken"
	case Doubtful:
		return "doubtful"
	}
	return "unknown"
}

// MarshalText formats s as [Severity.String] does.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads broken or doubtful.
func (s *Severity) UnmarshalText(text []byte) error { return named(s, text, Broken, Doubtful) }

// Problem is something wrong with an index.
type Problem struct {
	Severity Severity `json:"severity"`
	// Platform is the image's, zero if it is not about one; Digest what the problem is with.
	Platform platforms.Platform `json:"platform"`
	Digest   digest.Digest      `json:"digest"`
	// Problem says what is wrong, Advice what to do.
	Problem string `json:"problem"`
	Advice  string `json:"advice"`
}

// Diagnosis is what an examination found.
type Diagnosis struct {
	Descriptor ocispec.Descriptor `json:"descriptor"`
	// Manifests and Blobs count what was looked at.
	Manifests int `json:"manifests"`
	Blobs     int `json:"blobs"`
	// Problems in the order of the index; nil if it is sound.
	Problems []Problem `json:"problems"`
}

// Doctor examines what a name stands for: every manifest and blob is there with its size and digest, media types agree, platforms agree with configs,
// attestations attest something, no two entries are for one platform and each can be pulled by some host. Layers' bytes are not read: their
// presence and size are asked for. What is wrong is in the diagnosis; the error says that the examination itself failed.
func (c *Client) Doctor(ctx context.Context, ref string) (_ Diagnosis, err error) {
	s, desc, docker, err := c.openTop(ctx, ref)
	if err != nil {
		return Diagnosis{}, err
	}
	if docker != nil {
		return Diagnosis{}, errors.Join(fmt.Errorf("%s: an archive of docker save holds no index to examine; manifold verify checks its images", ref), s.Close())
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	e := &examination{source: s, ref: ref, asked: map[digest.Digest]*answer{}}
	raw, err := s.manifest(ctx, desc)
	if err != nil {
		return Diagnosis{}, readError(ref, err)
	}
	e.out = Diagnosis{Descriptor: desc, Manifests: 1}
	list := []ocispec.Descriptor{desc}
	if images.IsIndexType(desc.MediaType) {
		x, err := parseIndex(raw, desc.MediaType)
		if err != nil {
			return Diagnosis{}, fmt.Errorf("%s: %w", ref, err)
		}
		list = x.Manifests
		e.out.Manifests += len(list)
		e.entries(x)
	}
	found := make([][]Problem, len(list))
	eg, egCtx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	for i, d := range list {
		eg.Go(func() (err error) {
			found[i], err = e.manifest(egCtx, d, i > 0 || images.IsIndexType(desc.MediaType))
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return Diagnosis{}, readError(ref, err)
	}
	e.out.Problems = append(e.out.Problems, slices.Concat(found...)...)
	return e.out, nil
}

// examination is a diagnosis that is being made.
type examination struct {
	source *Source
	ref    string
	out    Diagnosis

	mu    sync.Mutex
	asked map[digest.Digest]*answer
}

// answer is what was heard of a blob.
type answer struct {
	once    sync.Once
	problem string
	err     error
}

func (e *examination) find(s Severity, d ocispec.Descriptor, problem, advice string) {
	e.out.Problems = append(e.out.Problems, problemOf(s, d, problem, advice))
}

func problemOf(s Severity, d ocispec.Descriptor, problem, advice string) Problem {
	p := Problem{Severity: s, Digest: d.Digest, Problem: problem, Advice: advice}
	if d.Platform != nil {
		p.Platform = platforms.FromOCI(*d.Platform)
	}
	return p
}

// entries examines what the index says by itself.
func (e *examination) entries(x ocispec.Index) {
	type place struct {
		platform platforms.Platform
		twin     bool
	}
	seen := map[place]digest.Digest{}
	var list []Image
	for _, d := range orphansOf(x) {
		e.find(Doubtful, d, fmt.Sprintf("it attests %s, which is not in the index", attested(d)),
			fmt.Sprintf("manifold create -t %s --remove %s takes it out", e.ref, d.Digest))
	}
	for _, d := range x.Manifests {
		if attested(d) != "" {
			continue
		}
		if d.Platform == nil {
			e.find(Doubtful, d, "its entry names no platform: containerd looks into the image's config, other tools take it for any host",
				fmt.Sprintf("manifold create -t %s %s writes it anew, with the platform of the image's config", e.ref, e.ref))
			continue
		}
		p := platforms.FromOCI(*d.Platform)
		at := place{p, (Image{Descriptor: d}).IsTwin()}
		if other, ok := seen[at]; ok {
			e.find(Broken, d, fmt.Sprintf("%s is for %s too: which of the two a host gets depends on the tool", other, p),
				fmt.Sprintf("manifold create -t %s --remove DIGEST takes one of them out", e.ref))
			continue
		}
		seen[at] = d.Digest
		list = append(list, Image{Platform: p, Descriptor: d})
	}
	for _, image := range list {
		if image.IsTwin() && seen[place{image.Platform, false}] != "" {
			continue // it is for others than those that are asked here
		}
		got, _, err := (Index{Descriptor: e.out.Descriptor, Images: list}).Resolve(image.Platform)
		if err != nil || got.Descriptor.Digest != image.Descriptor.Digest {
			e.find(Doubtful, image.Descriptor, fmt.Sprintf("no host gets it: one of %s is given another entry", image.Platform),
				fmt.Sprintf("manifold resolve %s --for %s shows the order", e.ref, image.Platform))
		}
	}
}

// manifest examines one entry and what it needs.
func (e *examination) manifest(ctx context.Context, d ocispec.Descriptor, listed bool) ([]Problem, error) {
	again := "build that image again, or leave it out with manifold create --remove " + d.Digest.String()
	raw, err := e.source.manifest(ctx, d)
	switch {
	case errdefs.IsNotFound(err):
		return []Problem{problemOf(Broken, d, "it is listed and not there", again)}, nil
	case err != nil && ctx.Err() == nil && isWrong(err):
		return []Problem{problemOf(Broken, d, err.Error(), again)}, nil
	case err != nil:
		return nil, err
	}
	if images.IsIndexType(d.MediaType) && listed {
		return []Problem{problemOf(Doubtful, d, "it is an index within the index, which some tools cannot read", "manifold create makes an index of that index's images, if its digest is named as a source of its own")}, nil
	}
	var out []Problem
	var m ocispec.Manifest
	if err := ocijson.Manifest(raw, d.MediaType, &m); err != nil {
		return []Problem{problemOf(Broken, d, err.Error(), again)}, nil
	}
	if docker := d.MediaType == images.MediaTypeDockerSchema2Manifest; images.IsDockerType(m.Config.MediaType) != docker && images.IsConfigType(m.Config.MediaType) {
		out = append(out, problemOf(Doubtful, d, fmt.Sprintf("a manifest of type %s with a config of type %s", d.MediaType, m.Config.MediaType), again))
	}
	more, err := e.config(ctx, d, m)
	if err != nil {
		return nil, err
	}
	out = append(out, more...)
	for _, b := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		problem, err := e.blob(ctx, b)
		if err != nil {
			return nil, err
		}
		if problem != "" {
			out = append(out, problemOf(Broken, d, fmt.Sprintf("blob %s, %s, %s", b.Digest, b.MediaType, problem), again))
		}
	}
	return out, nil
}

// isWrong reports whether an error is about bytes that came, and not about reaching them.
func isWrong(err error) bool { return is[*registry.ContentError](err) }

// config compares an image's config with its entry.
func (e *examination) config(ctx context.Context, d ocispec.Descriptor, m ocispec.Manifest) ([]Problem, error) {
	if attested(d) != "" || !isConfig(m.Config.MediaType) {
		return nil, nil
	}
	raw, err := e.source.manifest(ctx, m.Config)
	switch {
	case errdefs.IsNotFound(err):
		return nil, nil // it is reported as a blob
	case err != nil && isWrong(err):
		return []Problem{problemOf(Broken, d, fmt.Sprintf("its config: %v", err), "build the image again")}, nil
	case err != nil:
		return nil, err
	}
	var config ocispec.Image
	if err := ocijson.Unmarshal(raw, &config); err != nil {
		return []Problem{problemOf(Broken, d, fmt.Sprintf("its config %s: %v", m.Config.Digest, err), "build the image again")}, nil
	}
	var out []Problem
	if p := disagreement(d, config.Platform); p != nil {
		out = append(out, *p)
	}
	if n := len(config.RootFS.DiffIDs); n != len(m.Layers) {
		out = append(out, problemOf(Broken, d, fmt.Sprintf("its config counts %d layers, its manifest %d", n, len(m.Layers)), "build the image again"))
	}
	return out, nil
}

// disagreement compares what an entry and a config say of the platform.
func disagreement(d ocispec.Descriptor, config ocispec.Platform) *Problem {
	problem := func(s Severity, problem, advice string) *Problem {
		p := problemOf(s, d, problem, advice)
		return &p
	}
	says := platforms.FromOCI(config)
	switch {
	case says.IsZero():
		return problem(Doubtful, "its config says no platform", "manifold create --annotate SOURCE=OS/ARCH --fix-config writes it there")
	case d.Platform == nil:
		return nil
	}
	entry := platforms.FromOCI(*d.Platform)
	vague := says
	vague.Variant, vague.OSVersion, vague.OSFeatures = entry.Variant, entry.OSVersion, entry.OSFeatures
	switch {
	case vague != entry, config.Variant != "" && says.Variant != entry.Variant,
		entry.OSVersion != "" && says.OSVersion != entry.OSVersion, entry.OSFeatures != "" && says.OSFeatures != entry.OSFeatures:
		return problem(Broken, fmt.Sprintf("its entry says %s, its config %s", entry, says),
			"manifold verify says which of them the machine code agrees with; then manifold create --annotate, with --fix-config if the config is wrong")
	case says.Variant != entry.Variant:
		return problem(Doubtful, fmt.Sprintf("its entry says %s, its config names no variant", entry), "manifold create --annotate, with --fix-config, writes it there")
	case says.OSVersion != entry.OSVersion || says.OSFeatures != entry.OSFeatures:
		return problem(Doubtful, fmt.Sprintf("its entry says %s, its config %s: a host cannot choose by what the entry lacks", entry, says),
			"manifold create with the image as a source of its own takes it from the config")
	}
	return nil
}

// blob asks for a blob, each once, and says what is wrong with it.
func (e *examination) blob(ctx context.Context, d ocispec.Descriptor) (string, error) {
	if err := d.Digest.Validate(); err != nil {
		return "has an invalid digest", nil //nolint:nilerr // it is what the examination is for
	}
	e.mu.Lock()
	a := e.asked[d.Digest]
	if a == nil {
		a = &answer{}
		e.asked[d.Digest] = a
		e.out.Blobs++
	}
	e.mu.Unlock()
	a.once.Do(func() {
		if isForeign(d.MediaType) {
			return
		}
		size, err := e.source.statBlob(ctx, d)
		switch {
		case errdefs.IsNotFound(err):
			a.problem = "is not there"
		case err != nil:
			a.err = err
		case size >= 0 && size != d.Size:
			a.problem = fmt.Sprintf("has %d bytes and not %d", size, d.Size)
		}
	})
	return a.problem, a.err
}

// statBlob is a blob's size in bytes, -1 if it cannot be told.
func (s *Source) statBlob(ctx context.Context, d ocispec.Descriptor) (int64, error) {
	if s.repo != nil {
		return s.repo.StatBlob(ctx, d.Digest)
	}
	l, ok := s.blobs.(layout)
	if !ok {
		return -1, nil
	}
	rc, size, err := l.open(blobPath(d))
	if err != nil {
		return 0, notThere(err)
	}
	return size, rc.Close()
}
