package verify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Bounds of what is read of an ELF file. Its own tables may claim anything.
const (
	maxProgramHeaders = 64
	maxSectionHeaders = 1024
	maxInterp         = 4 << 10
	maxAttributes     = 4 << 10 // of .ARM.attributes
)

// Numbers of the ELF specification and its processor supplements.
const (
	elfClass32, elfClass64 = 1, 2
	elfLittle, elfBig      = 1, 2

	elfExecutable, elfShared = 2, 3 // e_type
	elfLoad                  = 1    // p_type
	elfDynamic               = 2
	elfInterp                = 3
	elfNote                  = 4
	elfProperty              = 0x6474e553 // PT_GNU_PROPERTY
	elfExec, elfWrite        = 1, 2       // p_flags
	armAttributes            = 0x70000003

	armSoftFloat = 0x200 // e_flags
	armHardFloat = 0x400
	mipsN32      = 0x20
	mipsArch     = 0xf0000000
	mips32R6     = 0x90000000
	mips64R6     = 0xa0000000
	ppcABI       = 3
)

// elfHeader is what is read of the file header, whatever its class and byte order.
type elfHeader struct {
	wide                       bool
	order                      binary.ByteOrder
	osabi                      byte
	kind, machine              uint16
	flags                      uint32
	phoff, shoff               uint64
	phsize, phnum, shsize, shn uint16
}

var errHeader = errors.New("its header is not that of an ELF file")

func readELFHeader(b []byte) (elfHeader, error) {
	var h elfHeader
	if len(b) < 52 {
		return h, errHeader
	}
	switch b[5] {
	case elfLittle:
		h.order = binary.LittleEndian
	case elfBig:
		h.order = binary.BigEndian
	default:
		return h, errHeader
	}
	h.osabi = b[7]
	h.kind, h.machine = h.order.Uint16(b[16:]), h.order.Uint16(b[18:])
	switch {
	case b[4] == elfClass32:
		h.phoff, h.shoff, h.flags = uint64(h.order.Uint32(b[28:])), uint64(h.order.Uint32(b[32:])), h.order.Uint32(b[36:])
		h.phsize, h.phnum, h.shsize, h.shn = h.order.Uint16(b[42:]), h.order.Uint16(b[44:]), h.order.Uint16(b[46:]), h.order.Uint16(b[48:])
	case b[4] == elfClass64 && len(b) >= 64:
		h.wide = true
		h.phoff, h.shoff, h.flags = h.order.Uint64(b[32:]), h.order.Uint64(b[40:]), h.order.Uint32(b[48:])
		h.phsize, h.phnum, h.shsize, h.shn = h.order.Uint16(b[54:]), h.order.Uint16(b[56:]), h.order.Uint16(b[58:]), h.order.Uint16(b[60:])
	default:
		return h, errHeader
	}
	return h, nil
}

// code says what the header alone tells.
func (h elfHeader) code() Code {
	c := Code{Format: ELF, Arch: h.arch(), OS: h.os()}
	c.Object = h.kind != elfExecutable && h.kind != elfShared
	if c.Arch == "arm" {
		c.HardFloat, c.SoftFloat = h.flags&armHardFloat != 0, h.flags&armSoftFloat != 0
	}
	return c
}

// os names the systems that mark their files. Linux does not do so as a rule, and neither do libraries that run anywhere.
func (h elfHeader) os() string {
	switch h.osabi {
	case 2:
		return "netbsd"
	case 6:
		return "solaris"
	case 9:
		return "freebsd"
	case 12:
		return "openbsd"
	default:
		return ""
	}
}

// elfMachine is what e_machine stands for: the architecture by class and byte order. Where one is empty, there is no such platform.
type elfMachine struct {
	name                             string
	little32, little64, big32, big64 string
}

var elfMachines = map[uint16]elfMachine{
	2:   {name: "sparc", big32: "sparc"},
	3:   {name: "386", little32: "386"},
	4:   {name: "m68k", big32: "m68k"},
	8:   {name: "mips", little32: "mipsle", big32: "mips", little64: "mips64le", big64: "mips64"},
	20:  {name: "ppc", big32: "ppc"},
	21:  {name: "ppc64", little64: "ppc64le", big64: "ppc64"},
	22:  {name: "s390", big32: "s390", big64: "s390x"},
	40:  {name: "arm", little32: "arm", big32: "armbe"},
	43:  {name: "sparc64", big64: "sparc64"},
	62:  {name: "x86_64", little32: "x32", little64: "amd64"},
	183: {name: "aarch64", little32: "arm64 ILP32", little64: "arm64", big64: "arm64be"},
	243: {name: "riscv", little32: "riscv", little64: "riscv64"},
	247: {name: "BPF", little64: "", big64: ""},
	258: {name: "loongarch", little32: "loong32", little64: "loong64"},
}

// arch is the architecture in Go's spelling.
func (h elfHeader) arch() string {
	m, ok := elfMachines[h.machine]
	if !ok {
		return fmt.Sprintf("ELF machine %d", h.machine)
	}
	little := h.order == binary.LittleEndian
	var name string
	switch {
	case little && h.wide:
		name = m.little64
	case little:
		name = m.little32
	case h.wide:
		name = m.big64
	default:
		name = m.big32
	}
	switch {
	case name == "":
		return m.name + " of another word size or byte order"
	case m.name == "mips" && (h.flags&mipsArch == mips32R6 || h.flags&mipsArch == mips64R6):
		return name + " R6" // its instructions are not those of the releases before
	case m.name == "mips" && !h.wide && h.flags&mipsN32 != 0:
		return "mipsn32" + name[len("mips"):]
	case name == "ppc64" && h.flags&ppcABI == 2, name == "ppc64le" && h.flags&ppcABI == 1:
		return name + " of the other ABI"
	}
	return name
}

// readELF reads what an ELF file is for. size is the file's, in bytes.
func readELF(r *window, size int64) Code {
	head := r.most(headSize)
	h, err := readELFHeader(head)
	if err != nil {
		return Code{Format: ELF, Invalid: err.Error()}
	}
	c := h.code()
	if h.machine == 247 { // for the kernel's own machine, on every platform
		return Code{Format: ELF, Object: true}
	}
	c.Object = c.Object || h.machine == 0 // for no machine, as some firmware says
	if c.Object {
		return c
	}
	segments, err := h.segments(r)
	if err != nil {
		c.Invalid = err.Error()
		return c
	}
	if isDebug(segments) {
		c.Object = true
		return c
	}
	for _, s := range segments {
		if s.kind == elfLoad && s.offset+s.size > uint64(max(size, 0)) {
			c.Invalid = fmt.Sprintf("it is cut short: its segments end at byte %d, and it has %d", s.offset+s.size, size)
			return c
		}
	}
	if c.Interp, err = interp(r, segments); err != nil {
		c.Invalid = err.Error()
		return c
	}
	if c.Arch == "amd64" {
		c.Level = h.isa(r, segments)
	}
	h.readDynamic(r, segments, &c)
	if c.Arch == "amd64" || c.Arch == "arm" {
		h.readGo(r, segments, &c)
	}
	if c.Arch == "arm" {
		h.readAttributes(r, &c)
	}
	return c
}

// segment is a program header.
type segment struct {
	kind, flags           uint32
	offset, address, size uint64 // size is that in the file
	loaded                uint64 // size in memory
}

// segments reads the program headers, wherever they stand.
func (h elfHeader) segments(r *window) ([]segment, error) {
	size := 32
	if h.wide {
		size = 56
	}
	if h.phnum == 0 {
		return nil, nil
	}
	if h.phnum > maxProgramHeaders || int(h.phsize) < size || int(h.phsize) > 4*size {
		return nil, fmt.Errorf("it has %d program headers of %d bytes", h.phnum, h.phsize)
	}
	table := r.at(h.phoff, int(h.phnum)*int(h.phsize))
	if table == nil {
		return nil, errors.New("its program headers lie outside of it")
	}
	out := make([]segment, h.phnum)
	for i := range out {
		p := table[i*int(h.phsize):]
		word := func(at int) uint64 { return uint64(h.order.Uint32(p[at:])) }
		if !h.wide {
			out[i] = segment{kind: h.order.Uint32(p), flags: h.order.Uint32(p[24:]), offset: word(4), address: word(8), size: word(16), loaded: word(20)}
			continue
		}
		out[i] = segment{
			kind: h.order.Uint32(p), flags: h.order.Uint32(p[4:]), offset: h.order.Uint64(p[8:]), address: h.order.Uint64(p[16:]), size: h.order.Uint64(p[32:]),
			loaded: h.order.Uint64(p[40:]),
		}
		if out[i].offset > math.MaxInt64 || out[i].size > math.MaxInt64 {
			return nil, errors.New("its segments lie outside of it")
		}
	}
	return out, nil
}

// isDebug reports whether a file holds what debuggers read and nothing to run: the interpreter's name of a program is there, and has no bytes.
func isDebug(segments []segment) bool {
	loads, empty := 0, 0
	for _, s := range segments {
		switch {
		case s.kind == elfInterp && s.size == 0:
			return true
		case s.kind == elfDynamic && s.size == 0 && s.loaded > 0:
			return true
		case s.kind == elfLoad:
			loads++
			if s.size == 0 && s.flags&elfExec != 0 {
				empty++
			}
		}
	}
	return loads > 0 && empty > 0
}

// interp reads the name of the program's interpreter.
func interp(r *window, segments []segment) (string, error) {
	for _, s := range segments {
		if s.kind != elfInterp {
			continue
		}
		if s.size < 2 || s.size > maxInterp {
			return "", fmt.Errorf("its interpreter's name is said to have %d bytes", s.size)
		}
		name := r.at(s.offset, int(s.size))
		if name == nil {
			return "", errors.New("its interpreter's name lies outside of it")
		}
		name, _, _ = bytes.Cut(name, []byte{0})
		return string(name), nil
	}
	return "", nil
}

// readAttributes completes what is known of code for arm by the section .ARM.attributes (Addenda to, and Errata in, the ABI for the Arm
// Architecture, section 3). A file without one says nothing.
func (h elfHeader) readAttributes(r *window, c *Code) {
	if h.shn == 0 || h.shn > maxSectionHeaders || h.shsize != 40 {
		return
	}
	table, found := r.attributes(h.shoff, int(h.shn)*40)
	for i := 0; i+40 <= len(table); i += 40 {
		s := table[i:]
		if h.order.Uint32(s[4:]) != armAttributes {
			continue
		}
		size := h.order.Uint32(s[20:])
		if size > maxAttributes {
			return
		}
		section := found(uint64(h.order.Uint32(s[16:])))
		arch, hard := parseAttributes(section[:min(int(size), len(section))], h.order)
		c.HardFloat = c.HardFloat || hard
		if !c.Built {
			c.Level = armLevel(arch)
		}
		return
	}
}

// Tags of the public attributes.
const (
	tagFile        = 1
	tagRawName     = 4
	tagName        = 5
	tagArch        = 6
	tagVFPArgs     = 28
	tagCompatible  = 32
	tagAlsoCompat  = 65
	tagConformance = 67
)

// parseAttributes returns Tag_CPU_arch and whether Tag_ABI_VFP_args says registers. What cannot be read says nothing.
func parseAttributes(b []byte, order binary.ByteOrder) (arch uint64, hard bool) {
	if len(b) < 5 || b[0] != 'A' {
		return 0, false
	}
	b = b[1:]
	for len(b) >= 4 {
		size := order.Uint32(b)
		if size < 4 || uint64(size) > uint64(len(b)) {
			return arch, hard
		}
		section := b[4:size]
		b = b[size:]
		vendor, rest, ok := bytes.Cut(section, []byte{0})
		if !ok || string(vendor) != "aeabi" {
			continue
		}
		for len(rest) >= 5 {
			length := order.Uint32(rest[1:])
			if length < 5 || uint64(length) > uint64(len(rest)) {
				return arch, hard
			}
			if rest[0] == tagFile {
				arch, hard = fileAttributes(rest[5:length])
			}
			rest = rest[length:]
		}
	}
	return arch, hard
}

// fileAttributes reads the attributes that hold for the whole file.
func fileAttributes(b []byte) (arch uint64, hard bool) {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return arch, hard
		}
		b = b[n:]
		text := tag == tagRawName || tag == tagName || tag == tagConformance || tag == tagAlsoCompat || tag > tagCompatible && tag%2 == 1
		if !text || tag == tagCompatible {
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return arch, hard
			}
			b = b[n:]
			switch tag {
			case tagArch:
				arch = v
			case tagVFPArgs:
				hard = v == 1
			}
		}
		if text || tag == tagCompatible {
			_, rest, ok := bytes.Cut(b, []byte{0})
			if !ok {
				return arch, hard
			}
			b = rest
		}
	}
	return arch, hard
}

// armLevel is the variant that a value of Tag_CPU_arch needs; empty for what is older than any or says nothing.
func armLevel(arch uint64) string {
	switch arch {
	case 3, 4, 5: // v5T, v5TE, v5TEJ
		return "v5"
	case 6, 7, 9, 11, 12: // v6, v6KZ, v6K and those for microcontrollers
		return "v6"
	case 8, 10, 13: // v6T2, whose Thumb-2 no v6 of Linux has; v7
		return "v7"
	case 14, 15, 16, 17, 21, 22: // v8 and v9
		return "v8"
	default:
		return ""
	}
}
