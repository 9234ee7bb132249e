package planner

import (
	"regexp"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/internal/accel"
)

// What is put into RUN instructions, so that they work for the target on the build platform.

// prefix is what a script begins with. It ends so that a command can follow on the same line.
func prefix(e *stage.Edit) string {
	var b strings.Builder
	if e.Accelerates() {
		b.WriteString(accelerate)
	}
	if len(e.Unset) > 0 {
		b.WriteString("unset " + strings.Join(e.Unset, " ") + "; ")
	}
	if len(e.Env) > 0 {
		b.WriteString("export")
		for _, v := range e.Env {
			b.WriteString(" " + v.Name + "=" + v.Value)
		}
		b.WriteString("; ")
	}
	if e.GoEnv {
		b.WriteString(`{ cat "$(go env GOENV 2>/dev/null)" 2>/dev/null; printf '%s\n'`)
		for _, v := range e.Env {
			b.WriteString(" " + v.Name + "=" + v.Value)
		}
		b.WriteString("; } >" + stage.GoEnvPath + "; export GOENV=" + stage.GoEnvPath + "; ")
	}
	if e.Cargo != "" {
		b.WriteString(cargoWrapper(e.Cargo))
	}
	if e.Install != nil {
		b.WriteString(installLink(e.Install))
	}
	return b.String()
}

// accelerate has a shell call other compilers, if they are found to be the same.
const accelerate = `eval "$(` + accel.Bin + "/" + accel.Name + ` env)"; `

// accelerateWords do the same for an instruction in exec form.
var accelerateWords = []string{accel.Bin + "/" + accel.Name, "exec"}

// accelerateMounts are the flags that an accelerated instruction has besides its own.
func accelerateMounts(twin, toolchain string) string {
	out := bind(stage.Accelerator, accel.Bin)
	if twin != "" {
		out += " " + bind(twin, accel.Twin) + " " + scratch
	}
	if toolchain != "" {
		out += " " + bind(toolchain, accel.Toolchain)
	}
	return out
}

// scratch is a file system of the instruction's own, for what twins load.
const scratch = "--mount=type=tmpfs,target=" + accel.State

func bind(from, target string) string { return "--mount=type=bind,from=" + from + ",target=" + target }

var (
	mountsPattern = regexp.MustCompile(bind(regexp.QuoteMeta(stage.Accelerator), accel.Bin) + "( " + bind(`\S+`, accel.Twin) + " " + scratch + ")?( " + bind(`\S+`, accel.Toolchain) + ")? ?")
	unaccelerated = strings.NewReplacer(accelerate, "", strings.ReplaceAll(accelerate, `"`, `\"`), "", strings.Join(accelerateWords, " ")+" ", "",
		`"`+strings.Join(accelerateWords, `", "`)+`", `, "")
)

// Unaccelerated is the text of an instruction, or its words, without what acceleration puts before it: what an image's history, the name of a step and an
// error are to say.
func Unaccelerated(text string) string {
	if !strings.Contains(text, accel.Bin) {
		return text
	}
	return unaccelerated.Replace(mountsPattern.ReplaceAllString(text, ""))
}

// installLink has a cross-compiling go install put its programs where a native one does.
func installLink(in *effect.Install) string {
	link, into := `"`+in.Bin+"/"+in.Dir+`"`, "."
	more := ""
	if in.Into != "" {
		into, more = in.Into, `mkdir -p "`+in.Into+`"; `
	}
	return `mkdir -p "` + in.Bin + `"; ` + more + `ln -sfn "` + into + `" ` + link + `; trap 'rm -f ` + link + `' EXIT; `
}

// cargoWrapper is a shell function that puts what cargo made for a target where cargo puts what it makes for the machine.
func cargoWrapper(triple string) string {
	return "export CARGO_BUILD_TARGET=" + triple + `; cargo() { command cargo "$@" || return $?; ` +
		`for d in "${CARGO_TARGET_DIR:-target}/` + triple + `"/*/; do [ -d "$d" ] || continue; p="${CARGO_TARGET_DIR:-target}/$(basename "$d")"; ` +
		`mkdir -p "$p"; find "$d" -maxdepth 1 -type f -exec cp -p {} "$p/" \;; done; }; `
}

// editsOf turns what a RUN instruction gets into edits of its text.
func editsOf(r *source.Run, e *stage.Edit) []source.Edit {
	var out []source.Edit
	switch {
	case r.Form != source.ExecForm:
		if p := prefix(e); p != "" && r.Editable() {
			out = append(out, r.Prepend(p))
		}
	case e.Accelerates() && r.Editable():
		out = append(out, r.PrependWords(accelerateWords))
	case len(e.Env)+len(e.Unset) > 0 && r.Editable():
		words := []string{"env"}
		for _, name := range e.Unset {
			words = append(words, "-u", name)
		}
		for _, v := range e.Env {
			words = append(words, v.Name+"="+v.Value)
		}
		out = append(out, r.PrependWords(words))
	}
	if e.CacheDir != "" {
		out = append(out, r.AddFlag("--mount=type=cache,target="+e.CacheDir))
	}
	if e.Accelerates() {
		out = append(out, r.AddFlag(accelerateMounts(e.Twin, e.Toolchain)))
	}
	return out
}
