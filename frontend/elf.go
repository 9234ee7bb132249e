package frontend

import (
	"encoding/binary"

	"github.com/manifold-build/manifold/platforms"
)

// exitProgram is what makes the smallest program that ends with the exit code 0: the machine's number in an ELF header,
// its word size and byte order, the ABI flags, and the instructions.
type exitProgram struct {
	machine uint16
	wide    bool // 64 bits
	order   binary.AppendByteOrder
	flags   uint32
	code    []uint32 // instructions, in the machine's byte order
	bytes   []byte   // the same for machines whose instructions differ in length
}

// exitPrograms by GOARCH. The instructions load the number of the system call exit and its argument 0, and call it.
var exitPrograms = map[string]exitProgram{
	"amd64":   {machine: 62, wide: true, order: binary.LittleEndian, bytes: []byte("\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05")},
	"386":     {machine: 3, order: binary.LittleEndian, bytes: []byte("\xb8\x01\x00\x00\x00\x31\xdb\xcd\x80")},
	"arm64":   {machine: 183, wide: true, order: binary.LittleEndian, code: []uint32{0xd2800000, 0xd2800ba8, 0xd4000001}},
	"arm":     {machine: 40, order: binary.LittleEndian, flags: 0x05000000, code: []uint32{0xe3a00000, 0xe3a07001, 0xef000000}},
	"riscv64": {machine: 243, wide: true, order: binary.LittleEndian, code: []uint32{0x00000513, 0x05d00893, 0x00000073}},
	"ppc64le": {machine: 21, wide: true, order: binary.LittleEndian, flags: 2, code: []uint32{0x38000001, 0x38600000, 0x44000002}},
	"ppc64":   {machine: 21, wide: true, order: binary.BigEndian, flags: 2, code: []uint32{0x38000001, 0x38600000, 0x44000002}},
	"s390x":   {machine: 22, wide: true, order: binary.BigEndian, bytes: []byte("\xa7\x29\x00\x00\x0a\x01")},
	"loong64": {machine: 258, wide: true, order: binary.LittleEndian, flags: 0x43, code: []uint32{0x03800004, 0x0381740b, 0x002b0000}},
}

// trialProgram returns a static Linux program for a platform that ends at once with the exit code 0; false if there is
// none.
func trialProgram(p platforms.Platform) ([]byte, bool) {
	x, ok := exitPrograms[p.Architecture]
	if !ok || p.OS != "linux" {
		return nil, false
	}
	code := x.bytes
	for _, instruction := range x.code {
		code = x.order.AppendUint32(code, instruction)
	}
	return x.elf(code), true
}

// elf wraps code into an executable of one segment, as the ELF specification's file and program headers lay it out.
func (x exitProgram) elf(code []byte) []byte {
	const (
		base             = 0x10000 // above every system's lowest address
		executable       = 2       // e_type
		load, readAndRun = 1, 5    // p_type, p_flags
	)
	fileHeader, programHeader := 52, 32
	class, data := byte(1), byte(1)
	if x.wide {
		fileHeader, programHeader, class = 64, 56, 2
	}
	if x.order == binary.BigEndian {
		data = 2
	}
	begin := fileHeader + programHeader
	size := uint64(begin + len(code))
	word := func(b []byte, v uint64) []byte {
		if x.wide {
			return x.order.AppendUint64(b, v)
		}
		return x.order.AppendUint32(b, uint32(v)) //nolint:gosec // addresses here are small
	}
	b := append([]byte("\x7fELF"), class, data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = x.order.AppendUint16(b, executable)
	b = x.order.AppendUint16(b, x.machine)
	b = x.order.AppendUint32(b, 1)
	b = word(b, base+uint64(begin))      // e_entry
	b = word(b, uint64(fileHeader))      // e_phoff
	b = word(b, 0)                       // e_shoff
	b = x.order.AppendUint32(b, x.flags) // e_flags
	for _, half := range []int{fileHeader, programHeader, 1, 0, 0, 0} {
		b = x.order.AppendUint16(b, uint16(half)) //nolint:gosec // e_ehsize to e_shstrndx
	}
	b = x.order.AppendUint32(b, load)
	if x.wide {
		b = x.order.AppendUint32(b, readAndRun)
	}
	for _, v := range []uint64{0, base, base, size, size} { // p_offset to p_memsz
		b = word(b, v)
	}
	if !x.wide {
		b = x.order.AppendUint32(b, readAndRun)
	}
	b = word(b, base) // p_align
	return append(b, code...)
}
