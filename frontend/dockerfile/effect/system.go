package effect

import "regexp"

// uname tells about the system, which is the same on every machine of it, and about the machine, which is not.
type uname struct{}

var asksMachine = regexp.MustCompile(`^-[a-zA-Z]*[amnprvi]|^--(all|machine|processor|hardware-platform|nodename|kernel-release|kernel-version)`)

func (uname) read(c Call, e *Effect) {
	a := flagTable{}.parse(c.Words[1:])
	for _, w := range c.Words[1:] {
		if asksMachine.MatchString(w) || a.unsure {
			e.dependsf(c, "runs %q, which asks about the machine", Short(c.Words))
			return
		}
	}
}
