package builder

import (
	"context"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

// publish reads what BuildKit pushed, or what was joined of what several pushed, checks it against the targets, and moves the tags: first those of
// single targets, then those of the index.
func (b Builder) publish(ctx context.Context, result *Result, exports *exportPlan, own map[platforms.Platform][]string, joined *index.Draft, watch *watcher) error {
	var x index.Index
	var held []digest.Digest
	if joined != nil {
		result.Descriptor = joined.Index.Descriptor
	}
	err := watch.step("checking "+result.Descriptor.Digest.String(), func() error {
		if joined != nil {
			x = joined.Index
			return result.take(x, exports.repos[0])
		}
		var err error
		if x, err = b.Registry.PullPushed(ctx, exports.repos[0]+"@"+result.Descriptor.Digest.String()); err != nil {
			return err
		}
		for _, image := range x.Images {
			held = append(held, image.Descriptor.Digest)
		}
		return result.take(x, exports.repos[0])
	})
	if err != nil {
		return err
	}
	moves, err := b.targetMoves(ctx, x, result.targets, own)
	if err != nil {
		return err
	}
	for _, tag := range exports.tags {
		move := index.Move{Ref: tag, Descriptor: x.Descriptor, Raw: x.Raw}
		if named, err := index.ParseReference(tag); err == nil && reference.TrimNamed(named).String() == exports.repos[0] {
			move.Held = held
		}
		moves = append(moves, move)
	}
	return watch.step(fmt.Sprintf("publishing %s", x.Descriptor.Digest), func() error {
		result.Tags, err = b.Registry.Publish(ctx, moves)
		return err
	})
}

// targetMoves lists the tags of single targets.
func (b Builder) targetMoves(ctx context.Context, x index.Index, targets []platforms.Platform, own map[platforms.Platform][]string) ([]index.Move, error) {
	var moves []index.Move
	for _, t := range targets {
		image, ok := x.Find(t)
		if !ok && len(own[t]) > 0 {
			return nil, missingTarget(t, x.Descriptor.Digest.String())
		}
		for _, tag := range own[t] {
			named, err := index.ParseReference(tag)
			if err != nil {
				return nil, err
			}
			single, err := b.Registry.Pull(ctx, reference.TrimNamed(named).String()+"@"+image.Descriptor.Digest.String())
			if err != nil {
				return nil, err
			}
			moves = append(moves, index.Move{Ref: tag, Descriptor: single.Descriptor, Raw: single.Raw})
		}
	}
	return moves, nil
}

// take puts what was read into the result, in the targets' order, and reports a target that is missing, double or not
// what its config says.
func (r *Result) take(x index.Index, where string) error {
	r.Descriptor, r.Images = x.Descriptor, nil
	if len(r.targets) == 0 {
		r.Images = x.Images
		return nil
	}
	var errs []error
	for _, t := range r.targets {
		var found []index.Image
		for _, image := range x.Images {
			if satisfies(image.Platform, t) {
				found = append(found, image)
			}
		}
		switch {
		case len(found) == 0:
			errs = append(errs, missingTarget(t, where))
			continue
		case len(found) > 1:
			errs = append(errs, &TargetError{Target: t, Err: fmt.Errorf("%s: the result in %s holds %d images for it", t, where, len(found))})
		case !satisfies(found[0].ConfigPlatform, t):
			errs = append(errs, &TargetError{Target: t, Err: fmt.Errorf("%s: the image's config in %s says %s", t, where, found[0].ConfigPlatform)})
		}
		r.Images = append(r.Images, found[0])
	}
	return errors.Join(errs...)
}

// satisfies reports whether an image of platform p is what was asked for by want. What the target does not name, the base
// image may: BuildKit takes a Windows image's OS version and features from it, and leaves it a variant.
func satisfies(p, want platforms.Platform) bool {
	if want.Variant == "" {
		p.Variant = ""
	}
	if want.OSVersion == "" {
		p.OSVersion = ""
	}
	if want.OSFeatures == "" {
		p.OSFeatures = ""
	}
	return p == want
}

// readArchives reads the images out of the first archive of type oci.
func (r *Result) readArchives(ctx context.Context, c *index.Client, exports *exportPlan) error {
	for _, a := range exports.archives {
		if a.kind != "oci" || !a.whole {
			continue
		}
		x, err := c.Pull(ctx, "oci-archive:"+a.dest)
		if err != nil {
			return err
		}
		return r.take(x, a.dest)
	}
	return nil
}
