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

// showsMachine notes what a command shows of the machine, if that is kept.
func showsMachine(c Call, e *Effect) {
	if !c.Kept() && len(c.Reads) == 0 {
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
		if !reads && !glob && !slices.Contains(c.Reads, w) {
			continue
		}
		p := Stem(c.Path(w))
		if script.Known(p) && slices.ContainsFunc(systemParts, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") }) && path.IsAbs(p) && !strings.Contains(p, "/fd/") {
			e.dependsf(c, "looks at %s, which is the machine's own", Shown(w))
			return
		}
	}
}
