package place

import (
	"strings"

	ctdplatforms "github.com/containerd/platforms"
	"github.com/distribution/reference"

	"github.com/manifold-build/manifold/platforms"
)

// context is a named build context: what replaces a stage or an image of that name.
type context struct {
	name     string // as dockerui compares it
	platform string // the only platform it is for; empty means that it is for all
}

// contextsOf reads names of build contexts as they are given: NAME, or NAME::PLATFORM.
func contextsOf(list []string) []context {
	out := make([]context, len(list))
	for i, key := range list {
		name, platform, _ := strings.Cut(key, "::")
		out[i] = context{contextName(name), platform}
	}
	return out
}

// contextName is a name as dockerui looks a named context up: familiar, and without the tag latest (dockerui, Client.NamedContext).
func contextName(name string) string {
	named, err := reference.ParseNormalizedNamed(strings.ToLower(name))
	if err != nil {
		return strings.ToLower(name)
	}
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest")
}

// replaced reports whether a build context replaces a stage or an image for the target, and whether one would replace it elsewhere: on the
// platform that the stage might be moved to.
func (g *Graph) replaced(name string) (here, elsewhere bool) {
	if len(g.contexts) == 0 || name == "" {
		return false, false
	}
	name = contextName(name)
	own := platformKey(g.Target.Platform)
	for _, c := range g.contexts {
		switch {
		case c.name != name:
		case c.platform == "" || c.platform == own:
			here = true
		default:
			elsewhere = true
		}
	}
	return here, elsewhere
}

func platformKey(p platforms.Platform) string {
	return ctdplatforms.FormatAll(ctdplatforms.Normalize(p.OCI()))
}
