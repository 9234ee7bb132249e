package effect

import (
	"path"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// What a command shows of the machine that it runs on does no harm where it is printed. Where it is kept, or handed on, the result is the machine's.

// systemParts are folders that hold other files, or files of other names, on another machine.
var systemParts = strings.Fields("/bin /sbin /usr/bin /usr/sbin /lib /lib32 /lib64 /libx32 /usr/lib /usr/lib32 /usr/lib64 /usr/libexec /usr/include /usr/local/go/bin /usr/local/go/pkg/tool " +
	"/etc/ld.so.conf.d /etc/ld.so.cache /proc /sys")

// readers are commands that show what files hold, or which there are.
var readers = strings.Fields("cat tac head tail wc ls stat du find grep egrep fgrep md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum cksum cmp diff od hexdump xxd strings dd awk gawk mawk sed " +
	"sort cut base64 tree readlink realpath curl")

// versioned are commands that name the machine among their versions, or in what they list.
var versioned = strings.Fields("mvn mvnw gradle gradlew ant sbt kotlinc scalac hugo curl wget cargo rustc rustup dotnet pandoc protoc buf openssl")

// asksVersion are words with which they do.
var asksVersion = strings.Fields("--version -version version -V -vV --info show list target tree env about")

// lists reports whether a command goes through folders.
func lists(c Call) bool {
	return c.Name == "find" || c.Name == "du" || c.Name == "tree" || (c.Name == "ls" || strings.HasSuffix(c.Name, "grep")) && slices.ContainsFunc(c.Words[1:], func(w string) bool {
		return w == "--recursive" || len(w) > 1 && w[0] == '-' && w[1] != '-' && strings.ContainsAny(w, "rR")
	})
}

// holdsSystem reports whether one of the machine's own folders lies below a path.
func holdsSystem(p string) bool {
	return slices.ContainsFunc(systemParts, func(d string) bool { return p == "/" || strings.HasPrefix(d, p+"/") })
}

// findsProgram reports whether a command finds a program whose bytes the next one shows.
func findsProgram(c Call) bool {
	return c.Substituted && !c.Shown && (c.Name == "which" || c.Name == "command" || c.Name == "type") && len(c.Later) > 0 && slices.Contains(readers, NameOf(c.Later[0].Words[0])) &&
		slices.ContainsFunc(c.Later[0].Words, func(w string) bool { return strings.HasPrefix(w, script.Unknown) })
}

// showsMachine notes what a command shows of the machine, if that is kept.
func showsMachine(c Call, e *Effect) {
	writes := c.Name == "dd" && slices.ContainsFunc(c.Words, func(w string) bool { return strings.HasPrefix(w, "of=") })
	asks := c.Name == "[" || c.Name == "test"
	if !c.Kept() && !writes && !asks && len(c.Reads) == 0 {
		return
	}
	if findsProgram(c) {
		e.dependsf(c, "looks at a program of the machine, by %q", Short(c.Words))
		return
	}
	if slices.Contains(versioned, c.Name) && c.Kept() && slices.ContainsFunc(c.Words[1:], func(w string) bool { return slices.Contains(asksVersion, w) }) {
		e.dependsf(c, "keeps what %q prints, which names the machine", Short(c.Words))
	}
	reads := slices.Contains(readers, c.Name)
	for _, w := range slices.Concat(c.Words[1:], c.Reads) {
		_, value, joined := strings.Cut(w, "=")
		switch {
		case joined && strings.HasPrefix(value, "/"):
			w = value // if=/bin/ls, --file=/proc/cpuinfo
		case strings.HasPrefix(w, "file://"):
			w = strings.TrimPrefix(w, "file://")
		case strings.HasPrefix(w, "-"):
			continue
		}
		glob := strings.ContainsAny(w, "*?[")
		if !reads && !glob && !asks && !slices.Contains(c.Reads, w) {
			continue
		}
		p := Stem(c.Path(w))
		if reads && script.Known(p) && (lists(c) || glob && (p == "/" || p == "/usr")) && holdsSystem(p) {
			e.dependsf(c, "lists what lies below %s, which is the machine's own", Shown(w))
			return
		}
		if asks && ArchWord(p) == "" {
			continue
		}
		if script.Known(p) && slices.ContainsFunc(systemParts, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") }) && path.IsAbs(p) && !strings.Contains(p, "/fd/") {
			e.dependsf(c, "looks at %s, which is the machine's own", Shown(w))
			return
		}
	}
}
