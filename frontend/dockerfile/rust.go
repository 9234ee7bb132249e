package dockerfile

import (
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// The rules of Rust: cargo makes programs for the target that --target or CARGO_BUILD_TARGET names, if the target is installed and
// a linker for it is known, and puts them one directory deeper than it puts those for the machine (The Cargo Book, cargo build).

// cargoValued are the flags of cargo that take the next argument.
var cargoValued = strings.Fields("--target --target-dir --manifest-path -p --package --bin --example --profile -F --features -j --jobs -Z --config --message-format --root --path --git --version")

// judgeCargo judges a cargo command.
func judgeCargo(j *judge, c script.Command) {
	line := j.r.lineOf(c.Offset)
	sub, target := cargoCommand(c)
	switch sub {
	case "build", "b", "rustc":
	case "fetch", "vendor", "update", "metadata", "fmt", "init", "new", "search", "tree", "version", "generate-lockfile", "clean", "":
		return
	default:
		j.blockf(line, "line %d runs \"cargo %s\", which may depend on the machine", line, sub)
		return
	}
	if target == "" {
		target = envOf(c, "CARGO_BUILD_TARGET")
	}
	names := j.g.target.Platform.Names()
	own := []string{names.Rust, names.RustMusl}
	switch {
	case target != "" && slices.Contains(own, target):
		j.v.told = append(j.v.told, toldCommand{name: "cargo build", how: howTold, line: line})
	case target != "":
		j.blockf(line, "line %d builds for %s, and the target is %s", line, strings.ReplaceAll(target, script.Unknown, "…"), j.g.target.Platform)
	default:
		j.cargoUntold(c, line, own)
	}
	j.v.files.make(c.Path(firstSet(envOf(c, "CARGO_TARGET_DIR"), "target")), line)
}

// cargoUntold sees to it that a plain cargo build makes the target's program where it would have made the machine's, if the stage has
// installed what that takes.
func (j *judge) cargoUntold(c script.Command, line int, own []string) {
	for _, triple := range own {
		linker := envOf(c, "CARGO_TARGET_"+strings.ToUpper(strings.ReplaceAll(triple, "-", "_"))+"_LINKER")
		if triple == "" || !slices.Contains(j.v.rustTargets, triple) || linker == "" {
			continue
		}
		if !c.Chain || c.Through != "" || j.r.form == execForm {
			j.blockf(line, "line %d runs cargo inside another command", line)
			return
		}
		j.edit.cargo = triple
		j.v.told = append(j.v.told, toldCommand{name: "cargo build", how: "CARGO_BUILD_TARGET set", line: line})
		return
	}
	j.blockf(line, "line %d runs \"cargo build\", and the stage installs no target and linker for %s (rustup target add, CARGO_TARGET_…_LINKER)", line, j.g.target.Platform)
}

// cargoCommand finds cargo's own command and its --target.
func cargoCommand(c script.Command) (sub, target string) {
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
		case contains(cargoValued, args[i]):
			i++
		case !strings.HasPrefix(args[i], "-") && sub == "":
			sub = args[i]
		}
	}
	return sub, target
}

// judgeRustup notes the targets that a stage installs.
func judgeRustup(j *judge, c script.Command) {
	if len(c.Words) > 3 && c.Words[1] == "target" && c.Words[2] == "add" {
		j.v.rustTargets = append(slices.Clone(j.v.rustTargets), c.Words[3:]...)
	}
}

// cargoWrapper is a shell function that puts what cargo made for a target where cargo puts what it makes for the machine.
func cargoWrapper(triple string) string {
	return "export CARGO_BUILD_TARGET=" + triple + `; cargo() { command cargo "$@" || return $?; ` +
		`for d in "${CARGO_TARGET_DIR:-target}/` + triple + `"/*/; do [ -d "$d" ] || continue; p="${CARGO_TARGET_DIR:-target}/$(basename "$d")"; ` +
		`mkdir -p "$p"; find "$d" -maxdepth 1 -type f -exec cp -p {} "$p/" \;; done; }; `
}
