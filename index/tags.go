package index

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
)

// Tags lists the tags of a repository ("ghcr.io/app/app"), as its registry orders them. Nil never means none: an empty list does. A repository that the registry does not
// know is [ErrNotFound]; a name with a tag or a digest is an error.
func (c *Client) Tags(ctx context.Context, name string) ([]string, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fmt.Errorf("invalid repository %q: %w", withoutUser(name), err)
	}
	if !reference.IsNameOnly(named) {
		return nil, fmt.Errorf("%s: it is a repository's tags that are listed: leave out the tag or digest", name)
	}
	repo, err := c.reg.Repository(named)
	if err != nil {
		return nil, err
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return nil, readError(name, err)
	}
	return tags, nil
}
