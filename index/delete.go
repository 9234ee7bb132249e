package index

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/internal/registry"
)

// maxLookedAt bounds the tags of a repository that are looked at for what a deletion leaves dangling.
const maxLookedAt = 2000

// DeleteRequest is what is deleted.
type DeleteRequest struct {
	// Ref is a tag, or a manifest by its digest ("ghcr.io/app/app@sha256:…").
	Ref string
	// Force deletes a manifest although tags name it, indexes list it or manifests refer to it.
	Force bool
	// DryRun deletes nothing.
	DryRun bool
}

// Deleted is what a deletion came to, and what it leaves behind.
type Deleted struct {
	Ref string `json:"ref"`
	// Digest is the manifest that was deleted, or that the tag named.
	Digest digest.Digest `json:"digest"`
	// Tags are those that name the manifest: they go with it, or, where a tag is deleted, the other ones, which stay. Nil means none.
	Tags []string `json:"tags,omitempty"`
	// Indexes are tags of the repository whose index lists the manifest, and is broken without it. Nil means none; so it is if a tag is deleted.
	Indexes []string `json:"indexes,omitempty"`
	// Referrers refer to the manifest by their subject. They stay, and some registries delete them later.
	Referrers []Referrer `json:"referrers,omitempty"`
	// Unseen counts tags that were not looked at, or not all of them: the repository has more than 2,000, or could not be read to the end, which is an error only where a manifest is deleted.
	Unseen int `json:"unseen,omitempty"`
	// Done: it was deleted.
	Done bool `json:"done"`
}

// DanglingError is a manifest that is not deleted because something needs it.
type DanglingError struct{ Deleted }

// Error says what needs the manifest.
func (e *DanglingError) Error() string {
	var why []string
	if len(e.Tags) > 0 {
		why = append(why, "it is tagged "+some(e.Tags))
	}
	if len(e.Indexes) > 0 {
		why = append(why, "it is listed in "+some(e.Indexes))
	}
	if n := len(e.Referrers); n > 0 {
		why = append(why, fmt.Sprintf("%d manifests refer to it", n))
	}
	if e.Unseen > 0 {
		why = append(why, fmt.Sprintf("%d tags were not looked at, which may name it or list it", e.Unseen))
	}
	return fmt.Sprintf("%s is not deleted: %s", e.Ref, strings.Join(why, "; "))
}

// Delete deletes a tag, or a manifest with all the tags that name it. A tag is taken away alone: what it named stays, under its digest. A manifest that tags name, that an index of
// the repository lists or that another manifest refers to is a [*DanglingError] unless it is forced. Blobs are the registry's to collect.
func (c *Client) Delete(ctx context.Context, req DeleteRequest) (Deleted, error) {
	named, repo, err := c.repository(req.Ref)
	if err != nil {
		return Deleted{}, err
	}
	_, byDigest := named.(reference.Digested)
	if _, tagged := named.(reference.Tagged); tagged && byDigest {
		return Deleted{}, fmt.Errorf("%s: it is deleted by a tag or by a digest, not both", named)
	}
	desc, err := repo.StatPushed(ctx, object(named))
	if err != nil {
		return Deleted{}, readError(req.Ref, err)
	}
	out := Deleted{Ref: named.String(), Digest: desc.Digest}
	if err := out.look(ctx, repo, object(named), byDigest); err != nil && byDigest { // of a tag that is only told
		return out, err
	}
	if byDigest && !req.Force && len(out.Tags)+len(out.Indexes)+len(out.Referrers)+out.Unseen > 0 {
		return out, &DanglingError{out}
	}
	if req.DryRun {
		return out, nil
	}
	if err := repo.DeleteManifest(ctx, object(named)); err != nil {
		return out, deleteRefused(repo, out, byDigest, err)
	}
	out.Done = true
	return out, nil
}

// look finds what names, lists and refers to what is deleted.
func (d *Deleted) look(ctx context.Context, repo *registry.Repository, object string, byDigest bool) error {
	tags, err := repo.TagsPushed(ctx)
	if err != nil && !errdefs.IsNotFound(err) {
		d.Unseen = 1 // at least
		return fmt.Errorf("what else there is in %s: %w", repo, err)
	}
	if len(tags) > maxLookedAt {
		d.Unseen = len(tags) - maxLookedAt
		tags = tags[:maxLookedAt]
	}
	var mu sync.Mutex
	eg, egCtx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	for _, tag := range tags {
		if tag == object {
			continue
		}
		eg.Go(func() error {
			names, lists, err := d.found(egCtx, repo, tag, byDigest)
			mu.Lock()
			defer mu.Unlock()
			if names {
				d.Tags = append(d.Tags, tag)
			}
			if lists {
				d.Indexes = append(d.Indexes, tag)
			}
			return err
		})
	}
	if byDigest {
		eg.Go(func() error {
			list, err := repo.ReferrersPushed(egCtx, d.Digest)
			for _, r := range list {
				d.Referrers = append(d.Referrers, Referrer{d.Digest, r})
			}
			return err
		})
	}
	if err = eg.Wait(); err != nil {
		d.Unseen = max(d.Unseen, len(tags))
	}
	slices.Sort(d.Tags)
	slices.Sort(d.Indexes)
	return err
}

// found reports whether a tag names the manifest, and whether it names an index that lists it.
func (d *Deleted) found(ctx context.Context, repo *registry.Repository, tag string, lists bool) (_, _ bool, err error) {
	desc, err := repo.StatPushed(ctx, tag)
	switch {
	case errdefs.IsNotFound(err):
		return false, false, nil // it has gone meanwhile
	case err != nil:
		return false, false, err
	case desc.Digest == d.Digest:
		return true, false, nil
	case !lists || !images.IsIndexType(desc.MediaType):
		return false, false, nil
	}
	desc, raw, err := repo.ManifestPushed(ctx, tag)
	if err != nil {
		return false, false, err
	}
	x, err := parseIndex(raw, desc.MediaType)
	if err != nil {
		return false, false, nil //nolint:nilerr // a broken one can hardly be broken
	}
	for _, entry := range x.Manifests {
		if entry.Digest == d.Digest {
			return false, true, nil
		}
	}
	return false, false, nil
}

// deleteRefused words a registry's refusal.
func deleteRefused(repo *registry.Repository, d Deleted, byDigest bool, err error) error {
	status, ok := errors.AsType[*registry.StatusError](err)
	if !ok || status.Token && !errdefs.IsUnauthorized(err) && !errdefs.IsPermissionDenied(err) {
		return err
	}
	var text string
	switch code := status.Code; {
	case code == http.StatusNotFound: // it was there a moment ago
		text = fmt.Sprintf("registry %s does not delete by this API: it says of what was just read that there is no such thing; use its own tools", repo.Domain())
	case errdefs.IsUnauthorized(err):
		text = fmt.Sprintf("registry %s does not accept the credentials for deleting from %s: run docker login %[1]s", repo.Domain(), repo.Path())
	case errdefs.IsPermissionDenied(err):
		text = fmt.Sprintf("registry %s does not allow deleting from %s with these credentials", repo.Domain(), repo.Path())
	case !byDigest && (code == http.StatusBadRequest || code == http.StatusMethodNotAllowed || code == http.StatusNotImplemented):
		text = fmt.Sprintf("registry %s does not delete tags alone: delete %s@%s, which takes every tag of it away", repo.Domain(), repo, d.Digest)
	case code == http.StatusMethodNotAllowed || code == http.StatusNotImplemented:
		text = fmt.Sprintf("registry %s does not delete manifests by this API: it is switched off, or done by its own tools", repo.Domain())
	default:
		return err
	}
	if code := status.Code; code == http.StatusNotFound {
		return &worded{text, nil} // it is there
	}
	return &worded{text, status}
}

// some names the first of a list, and how many more there are.
func some(list []string) string {
	const shown = 5
	if len(list) <= shown {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:shown], ", "), len(list)-shown)
}
