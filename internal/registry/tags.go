package registry

import (
	"context"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/ocijson"
)

// maxTags bounds the tags of a list.
const maxTags = 100_000

// tagsAtOnce is how many tags a page is asked to hold. Registries may give fewer.
const tagsAtOnce = 1000

// Tags lists the tags of the repository, as the registry orders them: by name, with most (distribution-spec, "Listing Tags").
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	out := []string{}
	at := fmt.Sprintf("/tags/list?n=%d", tagsAtOnce)
	for page := 0; at != ""; page++ {
		if page == maxPages {
			return nil, fmt.Errorf("%s has more than %d pages of tags", r, maxPages)
		}
		next := ""
		err := r.read(ctx, "", request{method: http.MethodGet, at: at}, func(_ *host, res *http.Response) error {
			raw, err := readBounded(res, "a page of tags")
			if err != nil {
				return err
			}
			var list struct {
				Tags []string `json:"tags"`
			}
			if err := ocijson.Unmarshal(raw, &list); err != nil {
				return fmt.Errorf("the tags of %s: %w", r, err)
			}
			if out = append(out, list.Tags...); len(out) > maxTags {
				return fmt.Errorf("%s has more than %d tags", r, maxTags)
			}
			next, err = nextPage(res)
			return err
		})
		if err != nil {
			return nil, err
		}
		at = next
	}
	return out, nil
}

// TagsPushed is Tags of the host that is pushed to.
func (r *Repository) TagsPushed(ctx context.Context) ([]string, error) { return r.pushed().Tags(ctx) }

// ReferrersPushed is Referrers of the host that is pushed to.
func (r *Repository) ReferrersPushed(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	return r.pushed().Referrers(ctx, d)
}
