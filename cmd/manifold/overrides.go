package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/platforms"
)

// overrides reads the flags that can be given for some platforms only.
func (f *buildFlags) overrides(r *builder.Request) error {
	for _, v := range f.files {
		p, file, err := scoped("-f", v)
		switch {
		case err != nil:
			return err
		case p.IsZero():
			r.Dockerfile = v
		default:
			r.PerTarget = append(r.PerTarget, builder.Override{Pattern: p, Dockerfile: file})
		}
	}
	for _, v := range f.stages {
		p, stage, err := scoped("--target", v)
		switch {
		case err != nil:
			return err
		case p.IsZero():
			r.Stage = v
		default:
			r.PerTarget = append(r.PerTarget, builder.Override{Pattern: p, Stage: stage})
		}
	}
	if err := f.switches(r); err != nil {
		return err
	}
	if err := f.gate(r); err != nil {
		return err
	}
	for _, v := range f.strategies {
		var p platforms.Pattern
		name := v
		if scope, value, ok := strings.Cut(v, "="); ok {
			var err error
			if p, err = platforms.ParsePattern(scope); err != nil {
				return fmt.Errorf("--strategy %s: %w", v, err)
			}
			name = value
		}
		s, err := platforms.ParseStrategy(name)
		switch {
		case err != nil:
			return fmt.Errorf("--strategy: %w", err)
		case p.IsZero():
			r.Strategy = s
		default:
			r.PerTarget = append(r.PerTarget, builder.Override{Pattern: p, Strategy: s})
		}
	}
	return nil
}

// switches reads --cache-mounts and --accelerate: auto, off, PLATFORM=auto and PLATFORM=off.
func (f *buildFlags) switches(r *builder.Request) error {
	return errors.Join(
		readSwitch("--cache-mounts", f.cacheMounts, func(value string) { r.CacheMounts = value }, func(p platforms.Pattern, value string) {
			r.PerTarget = append(r.PerTarget, builder.Override{Pattern: p, CacheMounts: value})
		}),
		readSwitch("--accelerate", f.accelerate, func(value string) { r.Accelerate = value }, func(p platforms.Pattern, value string) {
			r.PerTarget = append(r.PerTarget, builder.Override{Pattern: p, Accelerate: value})
		}))
}

// readSwitch hands each value of a flag that is auto or off to all, or to some where it names platforms.
func readSwitch(flag string, values []string, all func(string), some func(platforms.Pattern, string)) error {
	for _, v := range values {
		scope, value, scoped := strings.Cut(v, "=")
		if !scoped {
			value = v
		}
		if value != "auto" && value != "off" {
			return fmt.Errorf("%s is auto or off, or PLATFORM=off, not %q", flag, v)
		}
		if !scoped {
			all(value)
			continue
		}
		p, err := platforms.ParsePattern(scope)
		if err != nil {
			return fmt.Errorf("%s %s: %w", flag, v, err)
		}
		some(p, value)
	}
	return nil
}

// gate reads --verify, --verify-except and --test, each of which may be given for some platforms only.
func (f *buildFlags) gate(r *builder.Request) error {
	add := func(flag string, values []string, set func(*builder.Gate, string)) error {
		for _, v := range values {
			p, value, err := scoped(flag, v)
			switch {
			case err != nil:
				return err
			case p.IsZero():
				set(&r.Gate, v)
			default:
				o := builder.Override{Pattern: p}
				set(&o.Gate, value)
				r.PerTarget = append(r.PerTarget, o)
			}
		}
		return nil
	}
	return errors.Join(
		add("--verify", f.verify, func(g *builder.Gate, v string) { g.Verify = v }),
		add("--verify-except", f.except, func(g *builder.Gate, v string) { g.Except = append(g.Except, v) }),
		add("--test", f.tests, func(g *builder.Gate, v string) { g.Tests = append(g.Tests, v) }),
	)
}

// scoped splits PATTERN=VALUE; without a pattern, the zero one is returned. What stands before the equals sign is a
// pattern if it is one, or if it begins with an operating system and a slash, and is then misspelt. Anything else
// belongs to the value, a file's name for example.
func scoped(flag, s string) (platforms.Pattern, string, error) {
	left, value, ok := strings.Cut(s, "=")
	if !ok {
		return platforms.Pattern{}, s, nil
	}
	p, err := platforms.ParsePattern(left)
	if err == nil {
		return p, value, nil
	}
	system, _, ok := strings.Cut(left, "/")
	if _, bad := platforms.ParsePattern(system); ok && bad == nil {
		return p, "", fmt.Errorf("%s %s: %w", flag, s, err)
	}
	return platforms.Pattern{}, s, nil
}
