package builder

import (
	"bytes"
	"fmt"
	"text/template"

	"github.com/distribution/reference"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

// TagNames is what a template of per-target tags can use.
type TagNames struct {
	// Tag is the tag the template is used for, without its repository: "1.0".
	Tag string
	// OS, Arch and Variant are the target's parts, as Go and OCI spell them. Variant is empty where there is none.
	OS, Arch, Variant string
	// Uname, Debian, Alpine, GNU and Rust are its names in these vocabularies: "aarch64", "arm64", "aarch64",
	// "aarch64-linux-gnu", "aarch64-unknown-linux-gnu".
	Uname, Debian, Alpine, GNU, Rust string
}

// targetTags returns, for each target, its own tags in the repositories of tags.
func targetTags(text string, tags []string, targets []platforms.Platform) (map[platforms.Platform][]string, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no template, no tags
	}
	tmpl, err := template.New("tag").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template of per-target tags %q: %w", text, err)
	}
	owner := map[string]platforms.Platform{}
	for _, t := range tags {
		owner[t] = platforms.Platform{}
	}
	out := map[platforms.Platform][]string{}
	for _, p := range targets {
		for _, t := range tags {
			tag, err := targetTag(tmpl, t, p)
			if err != nil {
				return nil, fmt.Errorf("template of per-target tags %q, %s: %w", text, p, err)
			}
			if other, taken := owner[tag]; taken {
				return nil, fmt.Errorf("template of per-target tags %q names %s for %s and for %s: add {{.Variant}}, or use {{.Uname}}",
					text, tag, ownerName(other), p)
			}
			owner[tag] = p
			out[p] = append(out[p], tag)
		}
	}
	return out, nil
}

func ownerName(p platforms.Platform) string {
	if p.IsZero() {
		return "the index"
	}
	return p.String()
}

func targetTag(tmpl *template.Template, ref string, p platforms.Platform) (string, error) {
	named, err := index.ParseReference(ref)
	if err != nil {
		return "", err
	}
	tagged, ok := named.(reference.Tagged)
	if !ok {
		return "", fmt.Errorf("%s has no tag", ref)
	}
	n := p.Names()
	var b bytes.Buffer
	err = tmpl.Execute(&b, TagNames{
		Tag: tagged.Tag(), OS: p.OS, Arch: p.Architecture, Variant: p.Variant,
		Uname: n.Uname, Debian: n.Debian, Alpine: n.Alpine, GNU: n.GNU, Rust: n.Rust,
	})
	if err != nil {
		return "", err
	}
	out, err := reference.WithTag(reference.TrimNamed(named), b.String())
	if err != nil {
		return "", fmt.Errorf("%q is not a tag: %w", b.String(), err)
	}
	return out.String(), nil
}
