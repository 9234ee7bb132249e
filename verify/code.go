package verify

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/manifold-build/manifold/platforms"
)

// Format is the file format of machine code.
type Format uint8

// The formats that are recognised.
const (
	ELF Format = iota + 1
	PE
	MachO
)

// String returns the format's name.
func (f Format) String() string {
	switch f {
	case ELF:
		return "ELF"
	case PE:
		return "PE"
	case MachO:
		return "Mach-O"
	default:
		return "unknown"
	}
}

// MarshalText is the format's name.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads a format's name. Any other text is an error.
func (f *Format) UnmarshalText(text []byte) error {
	for _, known := range []Format{ELF, PE, MachO} {
		if known.String() == string(text) {
			*f = known
			return nil
		}
	}
	return fmt.Errorf("%q is no format of machine code: want ELF, PE or Mach-O", text)
}

// Code says what a file's machine code is for.
type Code struct {
	Format Format `json:"format,omitzero"`
	// OS is the operating system in Go's spelling; empty where the file does not say, as most ELF files do not.
	OS string `json:"os,omitzero"`
	// Arch is the architecture in Go's spelling, or a description of one that Go has no name for ("s390", "ELF machine 94").
	// It is empty if the file runs anywhere, as managed code does.
	Arch string `json:"arch,omitzero"`
	// Level is the least variant of the architecture that runs it ("v7" of arm); empty where the file does not say.
	Level string `json:"level,omitzero"`
	// Built reports whether Level is what the compiler was told, as Go writes it down; else it is the linker's word: the most that some part may use.
	Built bool `json:"built,omitzero"`
	// HardFloat reports whether floating-point arguments are passed in registers, on arm.
	HardFloat bool `json:"hardFloat,omitzero"`
	// SoftFloat reports whether the file says that they are not, as what is built for armel does. Neither is set where it does not say.
	SoftFloat bool `json:"softFloat,omitzero"`
	// Interp is the program that loads it (PT_INTERP); empty if it is static, a library or an object file.
	Interp string `json:"interp,omitzero"`
	// Needs are the libraries that it is linked with (DT_NEEDED), RPath and RunPath the folders that it says they lie in (DT_RPATH, DT_RUNPATH). Nil means none.
	Needs   []string `json:"needs,omitempty"`
	RPath   []string `json:"rpath,omitempty"`
	RunPath []string `json:"runpath,omitempty"`
	// Unread reports whether it needs libraries whose names could not be read.
	Unread bool `json:"unread,omitzero"`
	// Object reports whether it is an object file or a core dump, which nothing executes.
	Object bool `json:"object,omitzero"`
	// Invalid says what is wrong with the file's headers; empty if nothing is. Such a file fits no platform.
	Invalid string `json:"invalid,omitzero"`
}

// String describes what the code is for: "arm64", "arm/v7", "windows/amd64".
func (c Code) String() string {
	switch {
	case c.Invalid != "":
		return "invalid " + c.Format.String()
	case c.Arch == "":
		return "any machine"
	}
	out := c.Arch
	if c.OS != "" {
		out = c.OS + "/" + out
	}
	if c.Level != "" {
		out += "/" + c.Level
	}
	return out
}

// Fits reports whether a host of the platform runs the code. 32-bit code of a family fits its 64-bit platforms where their kernels run
// it as a matter of course: 386 on amd64, mips on mips64.
func (c Code) Fits(p platforms.Platform) bool { return c.fitsMachine(p) && c.fitsLevel(p) }

// fitsMachine is Fits without a look at the level: that of a library is the most that some part of it may use, after it has asked.
func (c Code) fitsMachine(p platforms.Platform) bool {
	switch {
	case c.Invalid != "":
		return false
	case c.Arch == "":
		return true
	case c.OS != "" && c.OS != p.OS, c.Format == ELF && (p.OS == "windows" || p.OS == "darwin"):
		return false
	}
	switch p.Architecture {
	case "amd64":
		return c.Arch == "amd64" || c.Arch == "386"
	case "arm":
		return c.Arch == "arm" && (p.Variant != "v5" || !c.HardFloat)
	case "mips64", "mips64le":
		return c.Arch == p.Architecture || c.Arch == strings.Replace(p.Architecture, "mips64", "mips", 1) ||
			c.Arch == strings.Replace(p.Architecture, "mips64", "mipsn32", 1)
	default:
		return c.Arch == p.Architecture
	}
}

// fitsFloat reports whether a program of one kind can load a library, as glibc's loader looks at it (sysdeps/unix/sysv/linux/arm/ldsodefs.h, VALID_FLOAT_ABI). The
// program's kind is its loader's.
func (c Code) fitsFloat(library Code) bool {
	if c.Arch != "arm" {
		return true
	}
	if strings.Contains(c.Interp, "armhf") {
		return !library.SoftFloat
	}
	return !library.HardFloat || strings.Contains(c.Interp, "musl")
}

// fitsLevel compares levels. A platform without a variant is v7 of arm, as containerd normalises it, and v1 of amd64.
func (c Code) fitsLevel(p platforms.Platform) bool {
	variant := p.Variant
	switch {
	case c.Level == "":
		return true // what says nothing fits
	case p.Architecture == "arm":
		if variant == "" {
			variant = "v7"
		}
	case p.Architecture == "amd64" && c.Arch == "amd64":
		if variant == "" {
			variant = "v1"
		}
	default:
		return true
	}
	return c.Level <= variant // they compare as text
}

// headSize is how much of a file tells whether it is machine code.
const headSize = 64

// recognise tells the format of machine code by a file's first bytes; 0 if it is none.
func recognise(head []byte) Format {
	switch {
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return ELF
	case bytes.HasPrefix(head, []byte("MZ")):
		return PE
	case len(head) < 8:
		return 0
	}
	switch string(head[:4]) {
	case "\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe":
		return MachO
	case "\xca\xfe\xba\xbe": // a fat file, or a Java class: what is a count of architectures there is a version, 45 and up, here
		if head[4] == 0 && head[5] == 0 && head[6] == 0 && head[7] < 45 && head[7] > 0 {
			return MachO
		}
	}
	return 0
}
