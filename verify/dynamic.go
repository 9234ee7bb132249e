package verify

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// Bounds of what is read of a program's dynamic section, and of what Go writes down.
const (
	maxDynamic  = 32 << 10 // bytes of it
	maxNeeded   = 512
	maxName     = 4 << 10 // of a library, or a list of folders
	maxGoSearch = 8 << 20 // bytes of a writable segment in which Go's notes are looked for
	maxGoAsked  = 1 << 20 // the same, where each window of it is a question to a file system
	maxGoText   = 48 << 10
)

// Tags of the dynamic section (System V ABI, "Dynamic Section"; DT_RUNPATH is GNU's).
const (
	dynNull    = 0
	dynNeeded  = 1
	dynStrings = 5
	dynRPath   = 15
	dynRunPath = 29
)

// readDynamic reads which libraries a file needs, and where they are to be looked for. In a stream the names have to stand in its beginning, as linkers put them;
// where they do not, what is needed is not known.
func (h elfHeader) readDynamic(r *window, segments []segment, c *Code) {
	for _, s := range segments {
		if s.kind != elfDynamic {
			continue
		}
		b := r.at(s.offset, int(min(s.size, maxDynamic)))
		if b == nil {
			c.Unread = true
			return
		}
		h.dynamic(bytes.Clone(b), segments, r, c)
		return
	}
}

func (h elfHeader) dynamic(b []byte, segments []segment, r *window, c *Code) {
	step := 8
	if h.wide {
		step = 16
	}
	var needed []uint64
	var strs, rpath, runpath uint64
table:
	for ; len(b) >= step; b = b[step:] {
		tag, value := uint64(h.order.Uint32(b)), uint64(h.order.Uint32(b[4:]))
		if h.wide {
			tag, value = h.order.Uint64(b), h.order.Uint64(b[8:])
		}
		switch tag {
		case dynNull:
			break table
		case dynNeeded:
			if len(needed) < maxNeeded {
				needed = append(needed, value)
			}
		case dynStrings:
			strs = value
		case dynRPath:
			rpath = value
		case dynRunPath:
			runpath = value
		}
	}
	at, ok := fileOffset(segments, strs)
	if !ok {
		c.Unread = len(needed) > 0
		return
	}
	name := func(offset uint64) string {
		for _, n := range []int{64, 512, maxName} { // most are short, and stand near the end of what can be read
			b := r.at(at+offset, n)
			if b == nil {
				b = r.tail(at+offset, n)
			}
			if i := bytes.IndexByte(b, 0); i >= 0 {
				return string(b[:i])
			}
		}
		c.Unread = true
		return ""
	}
	for _, offset := range needed {
		if s := name(offset); s != "" {
			c.Needs = append(c.Needs, s)
		}
	}
	switch {
	case runpath != 0:
		c.RunPath = folders(name(runpath))
	case rpath != 0:
		c.RPath = folders(name(rpath))
	}
}

func folders(list string) []string {
	var out []string
	for dir := range strings.SplitSeq(list, ":") {
		if dir != "" {
			out = append(out, dir)
		}
	}
	return out
}

// fileOffset is where an address of the program stands in the file.
func fileOffset(segments []segment, address uint64) (uint64, bool) {
	for _, s := range segments {
		if s.kind == elfLoad && address >= s.address && address-s.address < s.size {
			return s.offset + address - s.address, true
		}
	}
	return 0, false
}

// isa is the level of x86-64 that a file says it needs (GNU_PROPERTY_X86_ISA_1_NEEDED, x86-64 psABI); empty if it says nothing, or the first.
func (h elfHeader) isa(r *window, segments []segment) string {
	for _, s := range segments {
		if s.kind != elfProperty || s.size > maxName {
			continue
		}
		b := bytes.Clone(r.at(s.offset, int(s.size)))
		for len(b) >= 16 && string(b[12:16]) == "GNU\x00" {
			size := min(int(h.order.Uint32(b[4:])), len(b)-16)
			if size < 0 {
				return ""
			}
			for p := b[16:][:size]; len(p) >= 12; {
				kind, n := h.order.Uint32(p), int(h.order.Uint32(p[4:]))
				if kind == 0xc0008002 && n == 4 {
					switch bits := h.order.Uint32(p[8:]); {
					case bits&8 != 0:
						return "v4"
					case bits&4 != 0:
						return "v3"
					case bits&2 != 0:
						return "v2"
					}
					return ""
				}
				n = 8 + (n+7)&^7
				if n < 8 || n > len(p) {
					break
				}
				p = p[n:]
			}
			b = b[16+size:]
		}
	}
	return ""
}

// goMagic begins what Go writes down of a build (cmd/link, debug/buildinfo).
const goMagic = "\xff Go buildinf:"

// readGo reads the level that Go's compiler was told, which stands in the build information: GOARM, GOAMD64.
func (h elfHeader) readGo(r *window, segments []segment, c *Code) {
	most := uint64(maxGoSearch)
	if r.any != nil {
		most = maxGoAsked
	}
	for _, s := range segments {
		if s.kind != elfLoad || s.flags&elfWrite == 0 {
			continue
		}
		for at := s.offset; at < s.offset+min(s.size, most); {
			n := int(min(windowSize, s.offset+s.size-at))
			b := r.at(at, n)
			i := bytes.Index(b, []byte(goMagic))
			if i < 0 {
				if n <= len(goMagic) {
					break
				}
				at += uint64(n - len(goMagic) + 1)
				continue
			}
			start := at + uint64(i)
			text := r.at(start, int(min(maxGoText, s.offset+s.size-start)))
			c.setGo(goSettings(text))
			return
		}
	}
}

// goSettings are the lines of the build information, of a program of Go 1.18 or later.
func goSettings(b []byte) string {
	const header = 32
	if len(b) < header || b[15]&2 == 0 { // pointers, as older ones have it
		return ""
	}
	b = b[header:]
	for range 2 { // the version, then the lines
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) { //nolint:gosec // size is no more than that
			return ""
		}
		text := b[size:][:n]
		if b = b[size:][n:]; bytes.Contains(text, []byte("build\t")) {
			return string(text)
		}
	}
	return ""
}

// setGo sets the level by the lines of Go's build information.
func (c *Code) setGo(lines string) {
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "build\t"), "=")
		switch {
		case name == "GOARM" && c.Arch == "arm" && value != "":
			c.Level, c.Built = "v"+value[:1], true
		case name == "GOAMD64" && c.Arch == "amd64":
			if c.Level, c.Built = value, true; value == "v1" {
				c.Level = ""
			}
		}
	}
}
