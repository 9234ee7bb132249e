package verify

import (
	"encoding/binary"
	"fmt"
)

// Numbers of the PE format (Microsoft PE and COFF Specification).
const (
	peOffset    = 0x3c // of the offset of the PE header
	maxPEOffset = windowSize - 512
	peDLL       = 0x2000
	pe32Plus    = 0x20b
	pe32        = 0x10b
	clrEntry    = 14 // of the data directories
)

// peMachines are the architectures by the header's Machine.
var peMachines = map[uint16]string{0x8664: "amd64", 0x14c: "386", 0xaa64: "arm64", 0x1c4: "arm", 0x1c0: "arm", 0x6264: "loong64", 0x5064: "riscv64"}

// dotnetOS are the systems that ahead-of-time compiled .NET assemblies name, mixed into the machine's number.
var dotnetOS = map[uint16]string{0x7b79: "linux", 0x4644: "darwin", 0xadc4: "freebsd", 0x1993: "netbsd"}

// readPE reads what a PE file is for. Not ok means that it is no PE file: programs for DOS begin alike. Managed code runs anywhere.
func readPE(r *window) (Code, bool) {
	head := r.at(0, 64)
	if head == nil {
		return Code{}, false
	}
	offset := uint64(binary.LittleEndian.Uint32(head[peOffset:]))
	if offset > maxPEOffset {
		return Code{}, false
	}
	b := r.at(offset, 24)
	if b == nil || string(b[:4]) != "PE\x00\x00" {
		return Code{}, false
	}
	machine := binary.LittleEndian.Uint16(b[4:])
	c := Code{Format: PE, OS: "windows", Arch: peMachines[machine]}
	size := int(binary.LittleEndian.Uint16(b[20:]))
	managed := isManaged(r.at(offset+24, min(size, 512)))
	if c.Arch == "" {
		for mix, os := range dotnetOS {
			if arch, ok := peMachines[machine^mix]; ok && managed {
				return Code{Format: PE, OS: os, Arch: arch}, true
			}
		}
		c.Arch = fmt.Sprintf("PE machine %#x", machine)
	}
	if managed {
		return Code{Format: PE}, true
	}
	return c, true
}

// isManaged reports whether an optional header has a CLR header.
func isManaged(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	var directories int
	switch binary.LittleEndian.Uint16(b) {
	case pe32:
		directories = 96
	case pe32Plus:
		directories = 112
	default:
		return false
	}
	at := directories + 8*clrEntry
	return len(b) >= at+8 && binary.LittleEndian.Uint32(b[directories-4:]) > clrEntry && binary.LittleEndian.Uint32(b[at:]) != 0
}
