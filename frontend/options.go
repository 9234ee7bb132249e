package frontend

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/internal/nearest"
	"github.com/manifold-build/manifold/platforms"
)

// The options' names, and how they are spelt in the gateway's option map.
const (
	optionStrategy    = "strategy"
	optionPlatforms   = "platforms"
	optionAccelerate  = "accelerate"
	optionToolchains  = "toolchains"
	optionCacheMounts = "cache-mounts"
	optionVerify      = "verify"
	optionExcept      = "verify-except"
	optionTest        = "test"
	optionParallel    = "max-parallelism"
	optionFilename    = "filename"
	optionTarget      = "target"
	optionBuildArg    = "build-arg:" // a prefix

	// off is the value of what is not to be done.
	off = "off"

	gatewayPrefix  = "manifold:"
	buildArgPrefix = "MANIFOLD_"
)

// optionNames are the options that have a name of their own.
var optionNames = []string{
	optionStrategy, optionAccelerate, optionToolchains, optionPlatforms, optionVerify, optionExcept, optionTest, optionCacheMounts, optionParallel, optionFilename, optionTarget,
}

// unscoped are the options that cannot be given for some targets only.
var unscoped = []string{optionPlatforms, optionParallel}

// source ranks where a setting came from: what the request says beats the Dockerfile's header.
type source uint8

const (
	fromHeader source = iota + 1
	fromRequest
)

// setting is one option with a value.
type setting struct {
	name   string // as in the table, "build-arg:X" included
	scope  platforms.Pattern
	value  string
	source source
	origin string // how and where it was written, for errors
}

// settings are all options of one build.
type settings []setting

// readRequest takes Manifold's options out of the gateway's option map and returns the rest, in which filename,
// target and the build arguments that hold for every target stay what they are.
func readRequest(opts map[string]string) (settings, map[string]string, error) {
	var own settings
	var errs []error
	rest := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(opts)) {
		s, ours, err := readKey(key, opts[key])
		switch {
		case err != nil:
			errs = append(errs, err)
		case ours:
			own = append(own, s)
		default:
			rest[key] = opts[key]
		}
	}
	return own, rest, errors.Join(errs...)
}

// readKey reads one key of the gateway's option map. It is not ours if the reference frontend knows it.
func readKey(key, value string) (setting, bool, error) {
	s := setting{value: value, source: fromRequest, origin: key}
	name, isArg := strings.CutPrefix(key, optionBuildArg)
	scope, name, err := cutScope(name)
	if err != nil {
		return s, true, fmt.Errorf("option %s: %w", key, err)
	}
	s.scope = scope
	switch {
	case isArg && strings.HasPrefix(name, buildArgPrefix):
		s.origin = "build argument " + strings.TrimPrefix(key, optionBuildArg)
		name = strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, buildArgPrefix)), "_", "-")
		return s.named(name)
	case isArg:
		s.name = optionBuildArg + name
		return s, !scope.IsZero(), nil
	case strings.HasPrefix(name, gatewayPrefix):
		return s.named(strings.TrimPrefix(name, gatewayPrefix))
	case scope.IsZero():
		return s, false, nil
	case strings.HasPrefix(name, optionBuildArg), name == optionFilename, name == optionTarget:
		return s.named(name)
	}
	return s, true, fmt.Errorf("option %s: only filename, target, build-arg:NAME and manifold:NAME can be given per target", key)
}

// cutScope splits a platform pattern and a colon off the front of a name: "linux/arm64:strategy", "arm64:strategy". What
// holds a slash or a star can be nothing but a pattern, since no option of BuildKit does before its first colon; a
// single word is one if it names an operating system or an architecture.
func cutScope(name string) (platforms.Pattern, string, error) {
	before, after, ok := strings.Cut(name, ":")
	if !ok {
		return platforms.Pattern{}, name, nil
	}
	p, err := platforms.ParsePattern(before)
	if err != nil && !strings.ContainsAny(before, "/*") {
		if strings.HasPrefix(after, buildArgPrefix) || strings.HasPrefix(after, gatewayPrefix) {
			return p, name, err // one of ours, behind a misspelt scope
		}
		return platforms.Pattern{}, name, nil
	}
	return p, after, err
}

// named checks the option's name and, where it has a closed set of values, the value.
func (s setting) named(name string) (setting, bool, error) {
	s.name = name
	if arg, ok := strings.CutPrefix(name, optionBuildArg); ok && arg != "" {
		return s, true, nil
	}
	if !slices.Contains(optionNames, name) {
		return s, true, fmt.Errorf("unknown option %q (%s)%s Known are %s and build-arg:NAME",
			name, s.origin, suggestOption(name), strings.Join(optionNames, ", "))
	}
	if !s.scope.IsZero() && slices.Contains(unscoped, name) {
		return s, true, fmt.Errorf("%s: %s cannot be given per target", s.origin, name)
	}
	switch name {
	case optionStrategy:
		if _, err := platforms.ParseStrategy(s.value); err != nil {
			return s, true, fmt.Errorf("%s: %w", s.origin, err)
		}
	case optionCacheMounts, optionAccelerate:
		if s.value != "auto" && s.value != off {
			return s, true, fmt.Errorf("%s: %s is auto or off, not %q", s.origin, name, s.value)
		}
	case optionToolchains:
		named, err := reference.ParseNormalizedNamed(s.value)
		if err == nil && !reference.IsNameOnly(named) {
			err = errors.New("the tags are those of the releases, so it has none")
		}
		if err != nil && s.value != off {
			return s, true, fmt.Errorf("%s: toolchains is the repository of the tool chain images, or off, not %q: %w", s.origin, s.value, err)
		}
	case optionVerify:
		if s.value != verifyStrict && s.value != verifyWarn && s.value != verifyOff {
			return s, true, fmt.Errorf("%s: verify is strict, warn or off, not %q", s.origin, s.value)
		}
	case optionTest:
		if _, err := splitCommand(s.value); err != nil {
			return s, true, fmt.Errorf("%s: test: %w", s.origin, err)
		}
	case optionParallel:
		if n, err := strconv.Atoi(s.value); err != nil || n < 1 {
			return s, true, fmt.Errorf("%s: max-parallelism is how many targets are built at once, 1 or more, not %q", s.origin, s.value)
		}
	case optionPlatforms:
		if _, err := platforms.ParseList(s.value); err != nil {
			return s, true, fmt.Errorf("%s: %w", s.origin, err)
		}
	}
	return s, true, nil
}

func suggestOption(name string) string {
	if o := nearest.Name(name, optionNames); o != "" {
		return fmt.Sprintf(", did you mean %q?", o)
	}
	return "."
}

// readHeader reads the options in a Dockerfile's header.
func readHeader(f *dockerfile.File) (settings, error) {
	var out settings
	var errs []error
	for _, h := range f.Header {
		s := setting{value: h.Value, source: fromHeader, origin: fmt.Sprintf("%s:%d", f.Name, h.Line)}
		scope, name, err := cutScope(h.Name)
		if err == nil {
			s.scope = scope
			s, _, err = s.named(name)
		} else {
			err = fmt.Errorf("%s: %w", s.origin, err)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

// lookup finds the setting of an option that holds for a target: from the request before the header, then by the
// more specific pattern. Two different values that are equal by both are an error.
func (all settings) lookup(name string, target platforms.Platform) (setting, bool, error) {
	var best setting
	found := false
	var tie *setting
	for _, s := range all {
		if s.name != name || !s.scope.Match(target) {
			continue
		}
		order := int(s.source) - int(best.source)
		if found && order == 0 {
			order = s.scope.Compare(best.scope)
		}
		switch {
		case !found || order > 0:
			best, found, tie = s, true, nil
		case order == 0 && s.value != best.value:
			tie = &s
		}
	}
	if tie != nil {
		// Values stay out of the message: a build argument may hold a secret.
		return best, true, fmt.Errorf("%s is given twice for %s, by %s and by %s: write one pattern more specific than the other",
			name, target, best.origin, tie.origin)
	}
	return best, found, nil
}

// buildArgs lists the names of the build arguments that any setting gives.
func (all settings) buildArgs() []string {
	var out []string
	for _, s := range all {
		if strings.HasPrefix(s.name, optionBuildArg) && !slices.Contains(out, s.name) {
			out = append(out, s.name)
		}
	}
	slices.Sort(out)
	return out
}

// apply returns the gateway options that one target is built with: the request's own, with the settings that hold
// for the target put in. What the request gives for every target beats the header, but for filename: the request names
// the file that is read first (docker buildx always names one), and that file's header may send a target to another.
func (all settings) apply(rest map[string]string, target platforms.Platform) (map[string]string, error) {
	out := maps.Clone(rest)
	var errs []error
	for _, name := range append([]string{optionFilename, optionTarget}, all.buildArgs()...) {
		s, ok, err := all.lookup(name, target)
		errs = append(errs, err)
		if _, given := rest[name]; !ok || given && s.source == fromHeader && name != optionFilename {
			continue
		}
		if out[name] = s.value; name == optionFilename && s.source == fromHeader {
			out[name] = path.Join(path.Dir(rest[name]), s.value) // beside the file whose header it is
		}
	}
	return out, errors.Join(errs...)
}

// strategy returns what was asked for a target; auto if nothing was.
func (all settings) strategy(target platforms.Platform) (platforms.Strategy, error) {
	s, ok, err := all.lookup(optionStrategy, target)
	if err != nil || !ok {
		return platforms.Auto, err
	}
	return platforms.ParseStrategy(s.value)
}

// The values of verify.
const (
	verifyStrict = "strict"
	verifyWarn   = "warn"
	verifyOff    = off
)

// verify returns what becomes of a target whose image is not what it says.
func (all settings) verify(target platforms.Platform) (string, error) {
	s, ok, err := all.lookup(optionVerify, target)
	if err != nil || !ok {
		return verifyStrict, err
	}
	return s.value, nil
}

// several returns the values of an option that may be given more than once: those of the most specific pattern, the request's before the
// header's.
func (all settings) several(name string, target platforms.Platform) []string {
	var best []setting
	for _, s := range all {
		if s.name != name || !s.scope.Match(target) {
			continue
		}
		order := 0
		if len(best) > 0 {
			if order = int(s.source) - int(best[0].source); order == 0 {
				order = s.scope.Compare(best[0].scope)
			}
		}
		switch {
		case order > 0:
			best = []setting{s}
		case order == 0:
			best = append(best, s)
		}
	}
	var out []string
	for _, s := range best {
		out = append(out, s.value)
	}
	return out
}

// splitLists splits values at any of the separators, and leaves out what is empty.
func splitLists(values []string, separators string) []string {
	var out []string
	for _, v := range values {
		for _, word := range strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
			if word = strings.TrimSpace(word); word != "" {
				out = append(out, word)
			}
		}
	}
	return out
}

// off reports whether an option that is auto or off is off for a target.
func (all settings) off(name string, target platforms.Platform) (bool, error) {
	s, ok, err := all.lookup(name, target)
	return ok && s.value == off, err
}

// parallelism returns how many targets may be built at once; 0 if nothing says so. What a file's header says holds if that is the file which
// the request names.
func (all settings) parallelism() (int, error) {
	s, ok, err := all.lookup(optionParallel, platforms.Platform{})
	if err != nil || !ok {
		return 0, err
	}
	return strconv.Atoi(s.value)
}

// requested returns the origins of the settings that the request, not the header, holds.
func (all settings) requested() []string {
	var out []string
	for _, s := range all {
		if s.source == fromRequest {
			out = append(out, s.origin)
		}
	}
	return out
}
