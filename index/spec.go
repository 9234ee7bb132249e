package index

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/manifold-build/manifold/internal/nearest"
	"github.com/manifold-build/manifold/platforms"
)

const (
	// maxSpec bounds a spec file, in bytes; maxSpecNodes what its aliases may expand to, maxSpecDepth how deep it may nest.
	maxSpec      = 1 << 20
	maxSpecNodes = 20000
	maxSpecDepth = 32
)

// Spec is what a spec file asks for.
type Spec struct {
	// Names are the tags: image, and every one of tags in image's repository.
	Names []string
	// Composition is what they are to name.
	Composition Composition
	// Notes are what whoever wrote the file should know, a line each.
	Notes []string
}

// SpecError is a mistake in a spec file.
type SpecError struct {
	// File and Line say where, Line from 1.
	File string
	Line int
	Err  error
}

// Error begins with file:line.
func (e *SpecError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap returns the mistake.
func (e *SpecError) Unwrap() error { return e.Err }

// ParseSpec reads a spec file: manifest-tool's YAML, with more fields. file names it in errors, which are of type [*SpecError].
//
//	image: ghcr.io/app/app:1.0
//	tags: [latest, "1"]              # more tags in the same repository
//	annotations: {team: founders}    # the index's
//	media-type: auto                 # or oci, docker
//	expect: [linux/amd64, linux/arm64]
//	ignore-missing: false
//	manifests:
//	  - image: ghcr.io/app/app:1.0-amd64
//	  - image: ghcr.io/app/app:1.0-arm
//	    platform: {os: linux, architecture: arm, variant: v7}   # what is left out comes from the config
//	    fix-config: true
//	    annotations: {note: fast}    # the entry's
//
// A platform may be written as one word too, linux/arm/v7. Its features, which the OCI image spec reserves, are left out with a note. Unknown fields, two fields of one name and files that unfold to more than is
// sensible are mistakes.
func ParseSpec(file string, src []byte) (Spec, error) {
	p := specParser{file: file}
	if len(src) > maxSpec {
		return Spec{}, &SpecError{file, 1, fmt.Errorf("the file has %d bytes, at most %d are accepted", len(src), maxSpec)}
	}
	var root yaml.Node
	if err := yaml.Unmarshal(src, &root); err != nil {
		return Spec{}, p.yamlError(err)
	}
	if len(root.Content) == 0 {
		return Spec{}, &SpecError{file, 1, errors.New("the file is empty")}
	}
	if err := p.measure(&root, 0); err != nil {
		return Spec{}, err
	}
	spec, err := p.spec(root.Content[0])
	spec.Notes = p.notes
	return spec, err
}

type specParser struct {
	file  string
	nodes int
	notes []string
}

func (p *specParser) fail(n *yaml.Node, format string, args ...any) error {
	return &SpecError{p.file, n.Line, fmt.Errorf(format, args...)}
}

// yamlError takes the line out of the library's message.
func (p *specParser) yamlError(err error) error {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	return &SpecError{p.file, line, errors.New(text)}
}

// measure refuses a file that unfolds to too much.
func (p *specParser) measure(n *yaml.Node, depth int) error {
	p.nodes++
	switch {
	case depth > maxSpecDepth:
		return p.fail(n, "nested more than %d deep", maxSpecDepth)
	case p.nodes > maxSpecNodes:
		return p.fail(n, "its aliases unfold to more than %d values", maxSpecNodes)
	case n.Kind == yaml.AliasNode:
		return p.measure(n.Alias, depth+1)
	}
	for _, c := range n.Content {
		if err := p.measure(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// field reads the value of one field.
type field func(*yaml.Node) error

// mapping reads a mapping, whose fields are these and no others.
func (p *specParser) mapping(n *yaml.Node, fields map[string]field) error {
	n = resolved(n)
	if n.Kind != yaml.MappingNode {
		return p.fail(n, "here stands %s, a mapping with the fields %s is wanted", kind(n), names(fields))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolved(n.Content[i]), n.Content[i+1]
		if key.Value == "<<" {
			if err := p.mapping(value, fields); err != nil {
				return err
			}
			continue
		}
		read, ok := fields[key.Value]
		if !ok {
			return p.fail(key, "unknown field %q%s", key.Value, suggestion(key.Value, fields))
		}
		if seen[key.Value] {
			return p.fail(key, "the field %q is there twice", key.Value)
		}
		seen[key.Value] = true
		if err := read(value); err != nil {
			return err
		}
	}
	return nil
}

func names(fields map[string]field) string {
	return strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
}

// suggestion is the field that was probably meant.
func suggestion(name string, fields map[string]field) string {
	best := nearest.Name(strings.ToLower(name), slices.Sorted(maps.Keys(fields)))
	if best == "" {
		return "; the fields here are " + names(fields)
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// resolved follows an alias.
func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a mapping"
	case yaml.ScalarNode, yaml.DocumentNode, yaml.AliasNode:
	}
	return fmt.Sprintf("%q", n.Value)
}

func (p *specParser) text(into *string) field {
	return func(n *yaml.Node) error {
		if n = resolved(n); n.Kind != yaml.ScalarNode {
			return p.fail(n, "here stands %s, one value is wanted", kind(n))
		}
		if n.Tag != "!!null" {
			*into = n.Value
		}
		return nil
	}
}

func (p *specParser) flag(into *bool) field {
	return func(n *yaml.Node) error {
		if err := resolved(n).Decode(into); err != nil {
			return p.fail(n, "%s is neither true nor false", kind(resolved(n)))
		}
		return nil
	}
}

// list reads each element of a list.
func (p *specParser) list(each field) field {
	return func(n *yaml.Node) error {
		if n = resolved(n); n.Kind != yaml.SequenceNode {
			if n.Tag == "!!null" {
				return nil
			}
			return p.fail(n, "here stands %s, a list is wanted", kind(n))
		}
		for _, c := range n.Content {
			if err := each(c); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *specParser) texts(into *[]string) field {
	return p.list(func(n *yaml.Node) error {
		var s string
		err := p.text(&s)(n)
		*into = append(*into, s)
		return err
	})
}

// pairs reads a mapping of texts.
func (p *specParser) pairs(each func(n *yaml.Node, key, value string) error) field {
	return func(n *yaml.Node) error {
		if n = resolved(n); n.Kind != yaml.MappingNode {
			return p.fail(n, "here stands %s, a mapping of keys to values is wanted", kind(n))
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			var value string
			if err := p.text(&value)(n.Content[i+1]); err != nil {
				return err
			}
			if err := each(n.Content[i], resolved(n.Content[i]).Value, value); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *specParser) spec(n *yaml.Node) (Spec, error) {
	var out Spec
	var image string
	var tags []string
	c := &out.Composition
	err := p.mapping(n, map[string]field{
		"image":     p.text(&image),
		"tags":      p.texts(&tags),
		"manifests": p.list(func(n *yaml.Node) error { return p.member(n, c) }),
		"annotations": p.pairs(func(_ *yaml.Node, key, value string) error {
			c.Annotations = append(c.Annotations, Annotation{Level: LevelIndex, Key: key, Value: value})
			return nil
		}),
		"media-type": func(n *yaml.Node) error {
			if err := c.MediaType.UnmarshalText([]byte(resolved(n).Value)); err != nil {
				return p.fail(n, "%w", err)
			}
			return nil
		},
		"expect": p.list(func(n *yaml.Node) error {
			one, err := platforms.Parse(resolved(n).Value)
			if err != nil {
				return p.fail(n, "%w", err)
			}
			c.Expect = append(c.Expect, one)
			return nil
		}),
		"ignore-missing": p.flag(&c.IgnoreMissing),
	})
	if err != nil {
		return out, err
	}
	if len(c.Members) == 0 {
		return out, p.fail(n, "it names no manifests")
	}
	return out, p.tags(n, &out, image, tags)
}

// tags makes the names of image and tags.
func (p *specParser) tags(n *yaml.Node, out *Spec, image string, tags []string) error {
	if image == "" {
		if len(tags) > 0 {
			return p.fail(n, "it has tags and no image, whose repository they are in")
		}
		return nil
	}
	named, err := ParseReference(image)
	if err != nil {
		return p.fail(n, "%w", err)
	}
	out.Names = []string{named.String()}
	repo := strings.TrimSuffix(named.String(), ":"+object(named))
	for _, tag := range tags {
		full, err := ParseReference(repo + ":" + tag)
		if err != nil {
			return p.fail(n, "tag %q: %w", tag, err)
		}
		if !slices.Contains(out.Names, full.String()) {
			out.Names = append(out.Names, full.String())
		}
	}
	return nil
}

func (p *specParser) member(n *yaml.Node, c *Composition) error {
	m := Member{Place: fmt.Sprintf("%s:%d", p.file, n.Line), Annotations: map[string]string{}}
	err := p.mapping(n, map[string]field{
		"image":      p.text(&m.Source),
		"platform":   func(n *yaml.Node) error { return p.platform(n, &m.Platform) },
		"fix-config": p.flag(&m.FixConfig),
		"annotations": p.pairs(func(_ *yaml.Node, key, value string) error {
			m.Annotations[key] = value
			return nil
		}),
	})
	if err == nil && m.Source == "" {
		err = p.fail(n, "it names no image")
	}
	c.Members = append(c.Members, m)
	return err
}

// platform reads a platform: one word, or its fields.
func (p *specParser) platform(n *yaml.Node, into *platforms.Platform) error {
	if r := resolved(n); r.Kind == yaml.ScalarNode && r.Tag != "!!null" {
		one, err := platforms.Parse(r.Value)
		if err != nil {
			return p.fail(n, "%w", err)
		}
		*into = one
		return nil
	}
	var features, osFeatures []string
	err := p.mapping(n, map[string]field{
		"os": p.text(&into.OS), "architecture": p.text(&into.Architecture), "variant": p.text(&into.Variant),
		"os.version": p.text(&into.OSVersion), "osversion": p.text(&into.OSVersion),
		"os.features": p.texts(&osFeatures), "osfeatures": p.texts(&osFeatures), "features": p.texts(&features),
	})
	if err != nil {
		return err
	}
	if len(features) > 0 {
		p.notes = append(p.notes, fmt.Sprintf("%s:%d: platform features are reserved (OCI image spec, \"Image Index\") and left out: %s", p.file, n.Line, strings.Join(features, ", ")))
	}
	// What is left out may come from the config; what is there has to be known.
	written := cmp.Or(into.OS, "linux") + "/" + cmp.Or(into.Architecture, "amd64")
	if into.Variant != "" && into.Architecture != "" {
		written += "/" + into.Variant
	}
	if _, err := platforms.Parse(written); err != nil {
		return p.fail(n, "%w", err)
	}
	slices.Sort(osFeatures)
	into.OSFeatures = strings.Join(osFeatures, "+")
	return nil
}

// Template is a member for each platform, whose source is the template with ARCH, OS and VARIANT replaced by the platform's parts as they are
// written, as manifest-tool does. Where a platform has no variant, a "-", "_" or "." before VARIANT goes too.
func Template(template string, list []string) ([]Member, error) {
	if len(list) == 0 {
		return nil, errors.New("a template needs platforms")
	}
	var out []Member
	seen := map[string]string{}
	for _, written := range list {
		p, err := platforms.Parse(written)
		if err != nil {
			return nil, err
		}
		parts := strings.Split(strings.TrimSpace(written), "/")
		if len(parts) == 1 {
			parts = []string{p.OS, parts[0]}
		}
		variant := ""
		if len(parts) == 3 {
			variant = parts[2]
		}
		source := strings.NewReplacer("ARCH", parts[1], "OS", p.OS).Replace(withVariant(template, variant))
		if other, ok := seen[source]; ok {
			return nil, fmt.Errorf("template %q: it names one image, %s, for %s and %s; ARCH, OS and VARIANT stand for the platform's", template, source, other, written)
		}
		seen[source] = written
		out = append(out, Member{Source: source, Platform: p})
	}
	return out, nil
}

// withVariant puts a variant in its place.
func withVariant(template, variant string) string {
	if variant == "" {
		for _, before := range []string{"-", "_", "."} {
			template = strings.ReplaceAll(template, before+"VARIANT", "")
		}
	}
	return strings.ReplaceAll(template, "VARIANT", variant)
}
