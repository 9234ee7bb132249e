package dockerfile

import (
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// judgeUname judges uname: what it says of the system is the same on every machine of it, what it says of the machine is not.
func judgeUname(j *judge, c script.Command) {
	line := j.r.lineOf(c.Offset)
	for _, a := range c.Words[1:] {
		if otherArch.MatchString(a) {
			j.blockf(line, "line %d runs %q, which asks about the machine", line, strings.Join(short(c.Words), " "))
		}
	}
}
