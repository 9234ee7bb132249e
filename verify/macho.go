package verify

import (
	"encoding/binary"
	"fmt"
)

// machoMachines are the architectures by cputype (mach/machine.h).
var machoMachines = map[uint32]string{7: "386", 0x01000007: "amd64", 12: "arm", 0x0100000c: "arm64", 18: "ppc", 0x01000012: "ppc64"}

const (
	maxFat        = 44 // architectures of a fat file
	fatHeaderSize = 8
	fatEntrySize  = 20
	machoObject   = 1 // filetype
)

// readMachO reads what a Mach-O file is for. A fat file is described by its first architecture; it runs nowhere but on darwin anyhow.
func readMachO(r *window) Code {
	c := Code{Format: MachO, OS: "darwin"}
	head := r.at(0, 16)
	if head == nil {
		c.Invalid = "its header is cut off"
		return c
	}
	var cpu uint32
	switch binary.BigEndian.Uint32(head) {
	case 0xfeedface, 0xfeedfacf:
		cpu = binary.BigEndian.Uint32(head[4:])
		c.Object = binary.BigEndian.Uint32(head[12:]) == machoObject
	case 0xcafebabe:
		n := binary.BigEndian.Uint32(head[4:])
		table := r.at(fatHeaderSize, int(min(n, maxFat))*fatEntrySize)
		if n > maxFat || table == nil {
			c.Invalid = fmt.Sprintf("it says to hold %d architectures", n)
			return c
		}
		cpu = binary.BigEndian.Uint32(table)
	default:
		cpu = binary.LittleEndian.Uint32(head[4:])
		c.Object = binary.LittleEndian.Uint32(head[12:]) == machoObject
	}
	if c.Arch = machoMachines[cpu]; c.Arch == "" {
		c.Arch = fmt.Sprintf("Mach-O cputype %#x", cpu)
	}
	return c
}
