package dockerfile

import (
	"fmt"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// judgeMake judges make: what it runs stands in a makefile, so a probe has to tell.
func judgeMake(j *judge, c script.Command) {
	line := j.r.lineOf(c.Offset)
	if !c.Chain || c.Through != "" || c.Substituted {
		j.blockf(line, "line %d runs %q inside another command, which may depend on the machine", line, strings.Join(short(c.Words), " "))
		return
	}
	j.v.told = append(j.v.told, toldCommand{name: fmt.Sprintf("%q", strings.Join(short(c.Words), " ")), how: howSet, line: line})
	g := goCommand{Command: c, sub: "make", dir: c.Dir, line: line}
	j.needEnv(g)
	switch v, set := j.goVar(c, "CGO_ENABLED"); {
	case v == "":
		j.export("CGO_ENABLED", "0", set)
	case v != "0":
		j.blockf(line, "line %d runs %q with CGO_ENABLED=%s", line, strings.Join(short(c.Words), " "), v)
	}
	j.v.compilesGo, j.v.files.unproven = true, true
	j.mountCache(g)
	j.probe(Probe{Kind: ProbeMake, Line: j.r.line, before: c.End}, g)
}
