package effect

import (
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// The rules of Rust: cargo makes programs for the target that --target or CARGO_BUILD_TARGET names, if the target is installed and
// a linker for it is known, and puts them one directory deeper than it puts those for the machine (The Cargo Book, cargo build).

// cargoValued are the flags of cargo that take the next argument.
var cargoValued = strings.Fields("--target --target-dir --manifest-path -p --package --bin --example --profile -F --features -j --jobs -Z --config --message-format --root --path --git --version")

// RustToolchain is what a stage has set up for Rust.
type RustToolchain struct {
	// Targets are those that rustup has installed. Nil means none.
	Targets []string
}

func (t RustToolchain) clone() RustToolchain { return RustToolchain{Targets: slices.Clone(t.Targets)} }

// read tells what a cargo command does.
func (t *RustToolchain) read(c Call, e *Effect) {
	sub, target := cargoCommand(c)
	switch sub {
	case "build", "b", "rustc":
	case "fetch", "vendor", "update", "metadata", "fmt", "init", "new", "search", "tree", "version", "generate-lockfile", "clean", "":
		return
	default:
		e.dependsf(c, "runs \"cargo %s\", which may depend on the machine", sub)
		return
	}
	if target == "" {
		target = c.Getvar("CARGO_BUILD_TARGET")
	}
	names := c.Target.Names()
	own := []string{names.Rust, names.RustMusl}
	switch {
	case target != "" && slices.Contains(own, target):
		e.Told = &Told{Name: "cargo build", How: ByFile, Line: c.Line}
	case target != "":
		e.dependsf(c, "builds for %s, and the target is %s", strings.ReplaceAll(target, script.Unknown, "…"), c.Target.Platform())
	default:
		t.untold(c, own, e)
	}
	e.file(Makes, c.Path(firstSet(c.Getvar("CARGO_TARGET_DIR"), "target")))
}

// untold sees to it that a plain cargo build makes the target's program where it would have made the machine's, if the stage has
// installed what that takes.
func (t *RustToolchain) untold(c Call, own []string, e *Effect) {
	for _, triple := range own {
		linker := c.Getvar("CARGO_TARGET_" + strings.ToUpper(strings.ReplaceAll(triple, "-", "_")) + "_LINKER")
		if triple == "" || !slices.Contains(t.Targets, triple) || linker == "" {
			continue
		}
		if !c.Chain || c.Through != "" || c.Exec != nil {
			e.dependsf(c, "runs cargo inside another command")
			return
		}
		e.Cargo = triple
		e.Told = &Told{Name: "cargo build", How: ByCargo, Line: c.Line}
		return
	}
	e.dependsf(c, "runs \"cargo build\", and the stage installs no target and linker for %s (rustup target add, CARGO_TARGET_…_LINKER)", c.Target.Platform())
}

// cargoCommand finds cargo's own command and its --target.
func cargoCommand(c Call) (sub, target string) {
	args := c.Words[1:]
	for i := 0; i < len(args); i++ {
		name, value, cut := strings.Cut(args[i], "=")
		switch {
		case name == "--target" && cut:
			target = value
		case name == "--target" && i+1 < len(args):
			i++
			target = args[i]
		case strings.HasPrefix(args[i], "+"):
		case slices.Contains(cargoValued, args[i]):
			i++
		case !strings.HasPrefix(args[i], "-") && sub == "":
			sub = args[i]
		}
	}
	return sub, target
}

// rustup notes the targets that a stage installs.
type rustup struct{ t *RustToolchain }

func (r rustup) read(c Call, _ *Effect) {
	if len(c.Words) > 3 && c.Words[1] == "target" && c.Words[2] == "add" {
		r.t.Targets = append(slices.Clone(r.t.Targets), c.Words[3:]...)
	}
}
