package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/ocijson"
)

const (
	// maxPages bounds the pages of a list, maxReferrers what is on them.
	maxPages     = 100
	maxReferrers = 1000
)

// Referrers lists the manifests that have a digest as their subject, from the referrers API or, where the registry has none, from the tag
// that stands in for it (distribution-spec, "Referrers Tag Schema").
func (r *Repository) Referrers(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	var out []ocispec.Descriptor
	at := "/referrers/" + d.String()
	for page := 0; at != ""; page++ {
		if page == maxPages {
			return nil, fmt.Errorf("the referrers of %s have more than %d pages", d, maxPages)
		}
		some, next, err := r.referrersPage(ctx, d, at)
		if page == 0 && (noReferrers(err) || err == nil && some == nil) {
			return r.taggedReferrers(ctx, d)
		}
		if err != nil {
			return nil, err
		}
		if out = append(out, some...); len(out) > maxReferrers {
			return nil, fmt.Errorf("%s has more than %d referrers", d, maxReferrers)
		}
		at = next
	}
	return out, nil
}

// noReferrers reports whether an answer means that there is no referrers API: not found, as the specification has it, and what registries say that know no such path. Who may read nothing
// finds that out by the tag that is asked for then.
func noReferrers(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	if !ok {
		return errdefs.IsNotFound(err)
	}
	switch status.Code {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	}
	return false
}

// listsReferrers reports whether the registry that is pushed to has the referrers API.
func (r *Repository) listsReferrers(ctx context.Context, d digest.Digest) bool {
	some, _, err := r.pushed().referrersPage(ctx, d, "/referrers/"+d.String())
	return err == nil && some != nil
}

func (r *Repository) referrersPage(ctx context.Context, d digest.Digest, at string) (list []ocispec.Descriptor, next string, err error) {
	err = r.read(ctx, d.String(), request{method: http.MethodGet, at: at, header: map[string]string{"Accept": ocispec.MediaTypeImageIndex}},
		func(_ *host, res *http.Response) error {
			if !strings.HasPrefix(res.Header.Get("Content-Type"), ocispec.MediaTypeImageIndex) {
				return nil // an old registry answers with something of its own
			}
			raw, err := readBounded(res, "a page of referrers")
			if err != nil {
				return err
			}
			var page ocispec.Index
			if err := ocijson.Unmarshal(raw, &page); err != nil {
				return fmt.Errorf("the referrers of %s: %w", d, err)
			}
			list = append([]ocispec.Descriptor{}, page.Manifests...)
			next, err = nextPage(res)
			return err
		})
	return list, next, err
}

// nextPage reads the Link header (RFC 8288) with rel="next". It may not lead to another host.
func nextPage(res *http.Response) (string, error) {
	link, rest, _ := strings.Cut(res.Header.Get("Link"), ">")
	if !strings.HasPrefix(link, "<") || !strings.Contains(rest, "next") {
		return "", nil
	}
	to, err := res.Request.URL.Parse(link[1:])
	if err != nil {
		return "", fmt.Errorf("the link to the next page: %w", err)
	}
	if to.Host != res.Request.URL.Host || to.Scheme != res.Request.URL.Scheme {
		return "", &PolicyError{To: to.Host, Reason: "which is not the registry, for the next page of a list"}
	}
	return to.String(), nil
}

// referrersTag is the tag that lists what refers to a digest where the registry does not: the algorithm and the digest, cut so that a tag may hold them
// (distribution-spec, "Referrers Tag Schema").
func referrersTag(d digest.Digest) string {
	const algorithm, encoded = 32, 64
	a, e := d.Algorithm().String(), d.Encoded()
	return a[:min(len(a), algorithm)] + "-" + e[:min(len(e), encoded)]
}

func (r *Repository) taggedReferrers(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	_, raw, err := r.Manifest(ctx, referrersTag(d))
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list ocispec.Index
	if err := ocijson.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("the referrers of %s: %w", d, err)
	}
	if len(list.Manifests) > maxReferrers {
		return nil, fmt.Errorf("%s has more than %d referrers", d, maxReferrers)
	}
	return list.Manifests, nil
}

// addReferrer lists a referrer under the tag that stands in for the referrers API, with its artifact type and its annotations, as that would.
func (r *Repository) addReferrer(ctx context.Context, subject digest.Digest, referrer ocispec.Descriptor, manifest []byte) error {
	var doc struct {
		ArtifactType string             `json:"artifactType"`
		Config       ocispec.Descriptor `json:"config"`
		Annotations  map[string]string  `json:"annotations"`
	}
	if err := json.Unmarshal(manifest, &doc); err != nil {
		return fmt.Errorf("%s: %w", referrer.Digest, err)
	}
	referrer = ocispec.Descriptor{
		MediaType: referrer.MediaType, Digest: referrer.Digest, Size: referrer.Size,
		ArtifactType: cmp.Or(doc.ArtifactType, doc.Config.MediaType), Annotations: doc.Annotations,
	}
	list, err := r.pushed().taggedReferrers(ctx, subject)
	if err != nil {
		return err
	}
	for _, have := range list {
		if have.Digest == referrer.Digest {
			return nil
		}
	}
	raw, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append(list, referrer),
	})
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	_, err = r.PutManifest(ctx, referrersTag(subject), desc, raw)
	return err
}
