package platforms

import (
	"errors"
	"slices"
)

// Host is what a node can execute.
type Host struct {
	// Native is the platform the node runs natively, its build platform.
	Native Platform
	// Emulated are the other platforms the node can execute, in the order it reported them, without those that
	// its own processor executes (the variants of its architecture, and 386 on amd64).
	Emulated []Platform

	// native are the reported platforms that the node's own processor executes, Native first.
	native []Platform
	// wrapped are the emulated platforms whose emulator starts the first program of a step and is unknown to the kernel.
	wrapped []Platform
}

// HostOf reads a host from the platforms that a BuildKit worker reports. A worker puts the native platform first and
// then adds what it found it can execute besides; nothing in the list tells emulated platforms from compatible ones,
// so what the native architecture's processors always execute (its variants, and 386 on amd64) counts as native and
// everything else as emulated. In particular 32-bit arm on an arm64 node counts as emulated: newer arm64 processors
// no longer execute it.
func HostOf(reported []Platform) (Host, error) {
	if len(reported) == 0 {
		return Host{}, errors.New("the node reports no platform that it can execute")
	}
	h := Host{Native: reported[0]}
	for _, p := range reported {
		switch {
		case slices.Contains(h.native, p) || slices.Contains(h.Emulated, p):
		case executes(h.Native, p):
			h.native = append(h.native, p)
		default:
			h.Emulated = append(h.Emulated, p)
		}
	}
	return h, nil
}

// NativePlatforms returns the platforms that the node's processor executes itself, [Host.Native] first.
func (h Host) NativePlatforms() []Platform {
	if len(h.native) == 0 {
		return []Platform{h.Native}
	}
	return slices.Clone(h.native)
}

// RunsNatively reports whether the node executes p on its own processor.
func (h Host) RunsNatively(p Platform) bool { return executes(h.Native, p) }

// Runs reports whether the node can execute p, natively or through emulation.
func (h Host) Runs(p Platform) bool {
	if h.RunsNatively(p) {
		return true
	}
	return slices.ContainsFunc(h.Emulated, func(e Platform) bool { return emulates(e, p) })
}

// WithEmulated returns the host with one more platform that it turned out to execute through an emulator that BuildKit
// puts before the first program of a step, and that the kernel does not know.
func (h Host) WithEmulated(p Platform) Host {
	if !h.Runs(p) {
		h.Emulated = append(slices.Clone(h.Emulated), p)
		h.wrapped = append(slices.Clone(h.wrapped), p)
	}
	return h
}

// RunsForeign reports whether a program of the native platform can start one of p on the node: its processor executes it, or
// the kernel has an emulator for it. An emulator added by [Host.WithEmulated] does not help there.
func (h Host) RunsForeign(p Platform) bool { return h.Runs(p) && !slices.Contains(h.wrapped, p) }

// CannotRun reports whether the node is known to be unable to execute p. That is less than the opposite of [Host.Runs]: a
// worker tries only some architectures, and finds mips64 in vain even where the kernel has a handler for it, so for
// the others its silence says nothing. Nor does a worker know of the emulators that come with a BuildKit image, which
// it tries only when a step needs one: [Host.WithEmulated] adds what was found out in another way.
func (h Host) CannotRun(p Platform) bool {
	return !h.Runs(p) && (p.OS != defaultOS || slices.Contains(detected, p.Architecture))
}

// detected are the architectures that BuildKit's worker tries by running a small program, and reports reliably (its
// package util/archutil).
var detected = []string{"amd64", "arm64", "riscv64", "ppc64", "ppc64le", "s390x", "386", "loong64", "arm"}

// executes reports whether a processor of platform native runs the code of p. Variants of amd64 and arm64 are not
// compared: which level a processor really has is not in the worker's report for a base image built for a lower one.
func executes(native, p Platform) bool {
	if native.OS != p.OS {
		return false
	}
	switch native.Architecture {
	case "amd64":
		return p.Architecture == "amd64" || p.Architecture == "386"
	case "arm":
		return p.Architecture == "arm" && p.Variant <= native.Variant
	default:
		return native.Architecture == p.Architecture
	}
}

// emulates reports whether a node that lists e also runs p: the same architecture, and no newer 32-bit arm variant.
func emulates(e, p Platform) bool {
	if e.OS != p.OS || e.Architecture != p.Architecture {
		return false
	}
	return e.Architecture != "arm" || p.Variant <= e.Variant
}
