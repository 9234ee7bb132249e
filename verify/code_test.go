package verify

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/platforms"
)

// program is what an ELF file of the tests is made from.
type program struct {
	machine uint16
	wide    bool
	big     bool
	flags   uint32
	kind    uint16 // 0 means an executable
	osabi   byte
	interp  string
	// arch and hard are its attributes for arm; 0 means no section.
	arch byte
	hard bool
	// debug: the interpreter's name has no bytes. load is the size of a segment; 0 means that there is none.
	debug bool
	load  int
	// padding stands between the attributes and the section headers.
	padding int
}

// bytes writes the file.
func (p program) bytes() []byte {
	var order binary.AppendByteOrder = binary.LittleEndian
	class, data := byte(elfClass32), byte(elfLittle)
	if p.big {
		order, data = binary.BigEndian, elfBig
	}
	fileHeader, programHeader := 52, 32
	if p.wide {
		class, fileHeader, programHeader = elfClass64, 64, 56
	}
	word := func(b []byte, v int) []byte {
		if p.wide {
			return order.AppendUint64(b, uint64(v))
		}
		return order.AppendUint32(b, uint32(v))
	}
	segments := 0
	if p.interp != "" || p.load > 0 {
		segments = 1
	}
	body := fileHeader + segments*programHeader
	interp := append([]byte(p.interp), 0)
	attributes := p.attributes(order)
	sections := body + len(interp) + len(attributes) + p.padding
	b := append([]byte("\x7fELF"), class, data, 1, p.osabi, 0, 0, 0, 0, 0, 0, 0, 0)
	b = order.AppendUint16(b, max(p.kind, elfExecutable))
	if p.kind == 1 {
		order2 := b[:len(b)-2]
		b = order.AppendUint16(order2, 1)
	}
	b = order.AppendUint16(b, p.machine)
	b = order.AppendUint32(b, 1)
	b = word(b, 0)
	b = word(b, fileHeader)
	if attributes == nil {
		b = word(b, 0)
	} else {
		b = word(b, sections)
	}
	b = order.AppendUint32(b, p.flags)
	count := 0
	if attributes != nil {
		count = 1
	}
	for _, half := range []int{fileHeader, programHeader, segments, 40, count, 0} {
		b = order.AppendUint16(b, uint16(half))
	}
	if segments > 0 {
		kind, size := uint32(elfInterp), len(interp)
		if p.load > 0 {
			kind, size = elfLoad, p.load
		}
		if p.debug {
			size = 0
		}
		b = order.AppendUint32(b, kind)
		if p.wide {
			b = order.AppendUint32(b, 4)
		}
		for _, v := range []int{body, 0, 0, size, size} {
			b = word(b, v)
		}
		if !p.wide {
			b = order.AppendUint32(b, 4)
		}
		b = word(b, 1)
	}
	b = append(b, interp...)
	b = append(b, attributes...)
	b = append(b, make([]byte, p.padding)...)
	if attributes != nil {
		section := []int{0, armAttributes, 0, 0, body + len(interp), len(attributes), 0, 0, 1, 0}
		for _, v := range section {
			b = order.AppendUint32(b, uint32(v))
		}
	}
	return b
}

func (p program) attributes(order binary.AppendByteOrder) []byte {
	if p.arch == 0 {
		return nil
	}
	tags := []byte{tagName, '7', '-', 'A', 0, tagArch, p.arch}
	if p.hard {
		tags = append(tags, tagVFPArgs, 1)
	}
	file := append(order.AppendUint32([]byte{tagFile}, uint32(5+len(tags))), tags...)
	section := append(order.AppendUint32(nil, uint32(4+len(attributesVendor)+len(file))), attributesVendor...)
	return append(append([]byte{'A'}, section...), file...)
}

var programs = map[string]program{
	"amd64":      {machine: 62, wide: true},
	"x32":        {machine: 62},
	"386":        {machine: 3},
	"arm":        {machine: 40, flags: 0x05000000},
	"arm v4T":    {machine: 40, arch: 2},
	"arm v5TE":   {machine: 40, arch: 4},
	"arm v5 hf":  {machine: 40, arch: 4, hard: true},
	"arm v6":     {machine: 40, arch: 6, hard: true},
	"arm v6K":    {machine: 40, arch: 9, padding: 200_000},
	"arm v6T2":   {machine: 40, arch: 8},
	"arm v7":     {machine: 40, arch: 10, hard: true, padding: windowSize - 30},
	"arm v7 far": {machine: 40, arch: 10, padding: 3 * windowSize},
	"arm v8":     {machine: 40, arch: 14},
	"arm hf":     {machine: 40, flags: 0x05000400},
	"armbe":      {machine: 40, big: true},
	"arm64":      {machine: 183, wide: true},
	"arm64be":    {machine: 183, wide: true, big: true},
	"arm64 32":   {machine: 183},
	"ppc64le":    {machine: 21, wide: true, flags: 2},
	"ppc64le v1": {machine: 21, wide: true, flags: 1},
	"ppc64":      {machine: 21, wide: true, big: true, flags: 1},
	"ppc64 v2":   {machine: 21, wide: true, big: true, flags: 2},
	"ppc":        {machine: 20, big: true},
	"s390x":      {machine: 22, wide: true, big: true},
	"s390":       {machine: 22, big: true},
	"riscv64":    {machine: 243, wide: true},
	"riscv32":    {machine: 243},
	"mips":       {machine: 8, big: true, flags: 0x70001000},
	"mipsle":     {machine: 8, flags: 0x70001000},
	"mipsle R6":  {machine: 8, flags: mips32R6},
	"mips64":     {machine: 8, big: true, wide: true, flags: 0x80000000},
	"mips64le":   {machine: 8, wide: true, flags: 0x80000000},
	"mips64 R6":  {machine: 8, big: true, wide: true, flags: mips64R6},
	"mips n32":   {machine: 8, big: true, flags: 0x80000000 | mipsN32},
	"loong64":    {machine: 258, wide: true, flags: 0x43},
	"loong32":    {machine: 258},
	"sparc64":    {machine: 43, wide: true, big: true},
	"avr":        {machine: 83},
	"freebsd":    {machine: 62, wide: true, osabi: 9},
	"gnu/linux":  {machine: 62, wide: true, osabi: 3},
	"machine 0":  {machine: 0, wide: true},
}

// fits lists, for each platform, exactly the programs that run there.
var fits = map[string][]string{
	"linux/amd64":    {"386", "amd64", "gnu/linux"},
	"linux/386":      {"386"},
	"linux/arm/v5":   {"arm", "arm v4T", "arm v5TE"},
	"linux/arm/v6":   {"arm", "arm hf", "arm v4T", "arm v5 hf", "arm v5TE", "arm v6", "arm v6K"},
	"linux/arm/v7":   {"arm", "arm hf", "arm v4T", "arm v5 hf", "arm v5TE", "arm v6", "arm v6K", "arm v6T2", "arm v7", "arm v7 far"},
	"linux/arm64":    {"arm64"},
	"linux/ppc64le":  {"ppc64le"},
	"linux/ppc64":    {"ppc64"},
	"linux/s390x":    {"s390x"},
	"linux/riscv64":  {"riscv64"},
	"linux/mips":     {"mips"},
	"linux/mipsle":   {"mipsle"},
	"linux/mips64":   {"mips", "mips n32", "mips64"},
	"linux/mips64le": {"mips64le", "mipsle"},
	"linux/loong64":  {"loong64"},
	"freebsd/amd64":  {"386", "amd64", "freebsd", "gnu/linux"},
	"windows/amd64":  nil,
	"darwin/arm64":   nil,
}

// TestWrongMachineMatrix holds every program against every platform.
func TestWrongMachineMatrix(t *testing.T) {
	for name, want := range fits {
		t.Run(name, func(t *testing.T) {
			p := parsed(t, name)
			var got []string
			for name, made := range programs {
				if code(t, made.bytes()).Fits(p) {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("programs that run there (-want +got)\n%s", diff)
			}
		})
	}
}

func parsed(tb testing.TB, s string) platforms.Platform {
	tb.Helper()
	p, err := platforms.Parse(s)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// code reads a file that has to be machine code.
func code(tb testing.TB, dt []byte) Code {
	tb.Helper()
	e, _, err := readFile(bytes.NewReader(dt), "app", int64(len(dt)), true)
	if err != nil {
		tb.Fatal(err)
	}
	if e.code == nil {
		tb.Fatalf("%d bytes are not taken for machine code", len(dt))
	}
	return *e.code
}

// TestCode reads files of every format.
func TestCode(t *testing.T) {
	loader := program{machine: 183, wide: true, interp: "/lib/ld-linux-aarch64.so.1"}
	big := program{machine: 22, wide: true, big: true, interp: "/lib/ld64.so.1"}
	cut := loader.bytes()
	for _, tc := range []struct {
		name string
		file []byte
		want Code
	}{
		{"dynamic", loader.bytes(), Code{Format: ELF, Arch: "arm64", Interp: "/lib/ld-linux-aarch64.so.1"}},
		{"dynamic, big-endian", big.bytes(), Code{Format: ELF, Arch: "s390x", Interp: "/lib/ld64.so.1"}},
		{"attributes far behind", programs["arm v7 far"].bytes(), Code{Format: ELF, Arch: "arm", Level: "v7"}},
		{"attributes across a border", programs["arm v7"].bytes(), Code{Format: ELF, Arch: "arm", Level: "v7", HardFloat: true}},
		{"object file", program{machine: 62, wide: true, kind: 1}.bytes(), Code{Format: ELF, Arch: "amd64", Object: true}},
		{"interpreter cut off", cut[:len(cut)-10], Code{Format: ELF, Arch: "arm64", Invalid: "its interpreter's name lies outside of it"}},
		{"program headers cut off", cut[:80], Code{Format: ELF, Arch: "arm64", Invalid: "its program headers lie outside of it"}},
		{"nothing but the magic", []byte("\x7fELF"), Code{Format: ELF, Invalid: "its header is not that of an ELF file"}},
		{"no class", append([]byte("\x7fELF\x07\x01"), make([]byte, 60)...), Code{Format: ELF, Invalid: "its header is not that of an ELF file"}},
		{"windows program", portable(0x8664, pe32Plus, false), Code{Format: PE, OS: "windows", Arch: "amd64"}},
		{"windows program for arm64", portable(0xaa64, pe32Plus, false), Code{Format: PE, OS: "windows", Arch: "arm64"}},
		{"managed code", portable(0x14c, pe32, true), Code{Format: PE}},
		{"compiled .NET assembly", portable(0x8664^0x7b79, pe32Plus, true), Code{Format: PE, OS: "linux", Arch: "amd64"}},
		{"Mach-O", append([]byte("\xcf\xfa\xed\xfe\x0c\x00\x00\x01"), make([]byte, 24)...), Code{Format: MachO, OS: "darwin", Arch: "arm64"}},
		{"fat Mach-O", append([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x01\x01\x00\x00\x07"), make([]byte, 24)...), Code{Format: MachO, OS: "darwin", Arch: "amd64"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, code(t, tc.file)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	for name, dt := range map[string][]byte{
		"Java class": append([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x41"), make([]byte, 60)...),
		"DOS":        append([]byte("MZ"), make([]byte, 100)...),
		"text":       []byte("hello"),
	} {
		if e, _, err := readFile(bytes.NewReader(dt), "app", int64(len(dt)), true); err != nil || e.code != nil {
			t.Errorf("%s is taken for machine code: %v, %v", name, e.code, err)
		}
	}
}

// portable writes the headers of a PE file.
func portable(machine, magic uint16, managed bool) []byte {
	b := make([]byte, 64+24+240)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[peOffset:], 64)
	copy(b[64:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[68:], machine)
	binary.LittleEndian.PutUint16(b[84:], 240)
	binary.LittleEndian.PutUint16(b[88:], magic)
	directories := 96
	if magic == pe32Plus {
		directories = 112
	}
	binary.LittleEndian.PutUint32(b[88+directories-4:], 16)
	if managed {
		binary.LittleEndian.PutUint32(b[88+directories+8*clrEntry:], 0x2000)
	}
	return b
}

// FuzzCode: reading a file never panics, and says of cut-off machine code that it fits less, never more.
func FuzzCode(f *testing.F) {
	for _, p := range programs {
		f.Add(p.bytes())
	}
	f.Add(program{machine: 183, wide: true, interp: "/lib/ld-linux-aarch64.so.1"}.bytes())
	f.Add(portable(0x8664, pe32Plus, false))
	f.Add([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x01\x01\x00\x00\x07"))
	f.Add([]byte("#!/bin/sh\n"))
	amd64, arm64 := parsed(f, "linux/amd64"), parsed(f, "linux/arm64")
	f.Fuzz(func(t *testing.T, dt []byte) {
		e, _, err := readFile(bytes.NewReader(dt), "app", int64(len(dt)), true)
		if err != nil {
			t.Fatal(err)
		}
		if e.code == nil {
			return
		}
		c := *e.code
		if c.Arch != "" && c.Fits(amd64) && c.Fits(arm64) {
			t.Fatalf("%+v fits two architectures", c)
		}
		if c.Invalid != "" && c.Fits(amd64) {
			t.Fatalf("%+v is invalid and fits", c)
		}
	})
}
