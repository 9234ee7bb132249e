package index

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/ocijson"
	"github.com/manifold-build/manifold/platforms"
)

// document is a JSON object whose unknown fields stay what they are.
type document map[string]json.RawMessage

func (doc document) set(key string, value any) error {
	raw, err := json.Marshal(value)
	doc[key] = raw
	return err
}

// fixConfig writes a platform into an image's config.
func (d *Draft) fixConfig(p *piece, platform platforms.Platform) error {
	config := document{}
	if err := ocijson.Unmarshal(p.source.small[p.image.Config.Digest], &config); err != nil {
		return fmt.Errorf("config %s: %w", p.image.Config.Digest, err)
	}
	oci := platform.OCI()
	for key, value := range map[string]string{"os": oci.OS, "architecture": oci.Architecture, "variant": oci.Variant, "os.version": oci.OSVersion} {
		if value == "" {
			delete(config, key)
			continue
		}
		if err := config.set(key, value); err != nil {
			return err
		}
	}
	delete(config, "os.features")
	if len(oci.OSFeatures) > 0 {
		if err := config.set("os.features", oci.OSFeatures); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	desc := p.image.Config
	desc.Digest, desc.Size, desc.Data = digest.FromBytes(raw), int64(len(raw)), nil
	err = d.rewrite(p, "the platform "+platform.String()+" in its config", func(manifest document) error { return manifest.set("config", desc) })
	if err != nil {
		return err
	}
	p.made[desc.Digest] = raw
	p.image.Config, p.image.ConfigPlatform = desc, platform
	return nil
}

// annotate writes the annotations of level manifest into an image's manifest.
func (d *Draft) annotate(p *piece, list []Annotation, used map[int]bool) error {
	more := map[string]string{}
	for i, a := range list {
		if a.Level == LevelManifest && a.matches(p.image.Platform) {
			more[a.Key] = a.Value
			used[i] = true
		}
	}
	if len(more) == 0 {
		return nil
	}
	if p.image.Descriptor.MediaType == images.MediaTypeDockerSchema2Manifest {
		return fmt.Errorf("%s: its manifest is Docker's, which has no annotations: annotate its entry, with manifest-descriptor", p.source.Name)
	}
	return d.rewrite(p, "new annotations", func(manifest document) error {
		have := map[string]string{}
		if raw := manifest["annotations"]; raw != nil {
			if err := json.Unmarshal(raw, &have); err != nil {
				return err
			}
		}
		maps.Copy(have, more)
		return manifest.set("annotations", have)
	})
}

// rewrite changes an image's manifest, which makes it another image.
func (d *Draft) rewrite(p *piece, why string, change func(document) error) error {
	old := p.image.Descriptor
	raw, ok := p.made[old.Digest]
	if !ok {
		raw = p.source.small[old.Digest]
	}
	manifest := document{}
	if err := ocijson.Unmarshal(raw, &manifest); err != nil {
		return fmt.Errorf("manifest %s: %w", old.Digest, err)
	}
	if err := change(manifest); err != nil {
		return err
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	made := map[digest.Digest][]byte{digest.FromBytes(raw): raw}
	for d, b := range p.made {
		if d != old.Digest {
			made[d] = b
		}
	}
	p.made = made
	p.image.Descriptor = ocispec.Descriptor{
		MediaType: old.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw)), Platform: old.Platform, Annotations: old.Annotations, ArtifactType: old.ArtifactType,
	}
	d.notef("%s: the image for %s gets %s and is another image now: %s, not %s", p.source.Name, p.image.Platform, why, p.image.Descriptor.Digest, old.Digest)
	if len(p.image.Attestations) > 0 {
		d.notef("%s: what attests %s is left out, it says nothing of the new image", p.source.Name, old.Digest)
		p.image.Attestations = nil
	}
	return nil
}
