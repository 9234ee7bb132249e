package frontend

import (
	"archive/zip"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// What is taken from a stage that ran on the build platform must hold no machine code of the build platform: a native add-on that a
// package manager chose for the machine it ran on. Only ELF is looked for: a Linux node chooses nothing else for itself.

const (
	maxHeads       = 64 << 20 // of the listing of first bytes, in bytes
	headSize       = 20       // up to and with e_machine of an ELF header
	maxArchive     = 512 << 20
	maxInner       = 128 << 20 // of an archive in an archive, which is read whole
	readAhead      = 1 << 20
	maxArchiveDeep = 2 // archives in archives
)

// headsScript writes down the beginning of every file below its arguments as head -v prints it, and the names of archives.
const headsScript = `mkdir -p /manifold && : >/manifold/archives || exit 1
for pattern in "$@"; do
	for p in $pattern; do
		[ -e "$p" ] || continue
		find -H "$p" -type f -size +0 -exec head -v -c 20 {} + || exit 1
		find -H "$p" -type f '(' -name '*.jar' -o -name '*.war' -o -name '*.ear' -o -name '*.zip' -o -name '*.whl' ')' >>/manifold/archives || exit 1
	done
done >/manifold/heads`

// errStage says that the stage itself does not come to its end.
var errStage = errors.New("the stage fails")

// code is machine code that was found.
type code struct {
	file string
	arch string // as in platforms, empty if it is of no architecture there
}

// check looks for machine code of the build platform in what is taken from one stage of a target, and returns what it found
// as a clause; empty if there is none.
func (b *build) check(ctx context.Context, g *group, p dockerfile.Probe, plan dockerfile.Plan) (string, error) {
	src, err := g.file.ProbeText(p, plan)
	if err != nil {
		return "", err
	}
	res, converted, err := b.solveText(ctx, g, src, p.Target)
	if err != nil {
		return "", errors.Join(errStage, err)
	}
	stage, err := res.SingleRef()
	if err != nil || stage == nil {
		return "", errors.Join(err, errors.New("the stage is empty"))
	}
	run := converted.State.Run(
		llb.Args(append([]string{"/bin/sh", "-c", headsScript, "sh"}, quotePatterns(p.Paths)...)),
		llb.Dir("/"), llb.User("root"), llb.Network(llb.NetModeNone),
		llb.WithCustomName("[manifold] what machine code is taken from stage "+p.Stage),
	)
	// What is written down is a layer on top of the stage, which goes nowhere: see scan.
	def, err := run.Root().Marshal(ctx, llb.Platform(b.host.Native.OCI()))
	if err != nil {
		return "", err
	}
	looked, err := b.client.Solve(ctx, client.SolveRequest{Definition: again(def), Evaluate: true})
	if err != nil {
		return "", err
	}
	ref, err := looked.SingleRef()
	if err != nil {
		return "", err
	}
	heads, err := readBounded(ctx, ref, "manifold/heads", maxHeads)
	if err != nil {
		return "", err
	}
	archives, err := readBounded(ctx, ref, "manifold/archives", maxHeads)
	if err != nil {
		return "", err
	}
	if found := b.chosenHere(readHeads(heads), p.Target); found != "" {
		return found, nil
	}
	for name := range strings.Lines(string(archives)) {
		name = strings.TrimSuffix(name, "\n")
		inside, err := readArchive(ctx, stage, name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		if found := b.chosenHere(inside, p.Target); found != "" {
			return found, nil
		}
	}
	return "", nil
}

// quotePatterns makes paths safe for a shell that expands file name patterns in them.
func quotePatterns(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = strings.NewReplacer(" ", "?", "\t", "?").Replace(p)
	}
	return out
}

// chosenHere returns the first piece of code that is for the build platform and not for the target, and has no twin of the
// same name, but for the architecture in it, for the target: a package that brings the code of every platform is no choice of the machine's.
func (b *build) chosenHere(all []code, target platforms.Platform) string {
	here := architecturesOf(b.host.Native)
	wanted := architecturesOf(target)
	twins := map[string]bool{}
	for _, c := range all {
		if slices.Contains(wanted, c.arch) {
			twins[twinName(c)] = true
		}
	}
	for _, c := range all {
		if slices.Contains(here, c.arch) && !slices.Contains(wanted, c.arch) && !twins[twinName(c)] {
			return fmt.Sprintf("%s is machine code for %s", c.file, c.arch)
		}
	}
	return ""
}

// architecturesOf lists the architectures whose code belongs to a platform.
func architecturesOf(p platforms.Platform) []string {
	switch p.Architecture {
	case "amd64":
		return []string{"amd64", "386"}
	case "arm64":
		return []string{"arm64"}
	default:
		return []string{p.Architecture}
	}
}

// twinName is a file's name without what tells architectures apart in it.
func twinName(c code) string {
	name := c.file
	for _, word := range []string{"x86_64", "x86-64", "amd64", "x64", "aarch_64", "aarch64", "arm64", "armv7", "armhf", "arm", "ppc64le", "ppcle_64", "s390x", "s390_64", "riscv64", "i386", "386"} {
		name = strings.ReplaceAll(name, word, "")
	}
	return name
}

// maxRead is how much of a file is asked for at once: a message of the gateway holds 16 MiB.
const maxRead = 8 << 20

func readBounded(ctx context.Context, ref client.Reference, name string, limit int) ([]byte, error) {
	var out []byte
	for {
		dt, err := ref.ReadFile(ctx, client.ReadRequest{Filename: name, Range: &client.FileRange{Offset: len(out), Length: maxRead}})
		if err != nil {
			return nil, err
		}
		if out = append(out, dt...); len(dt) < maxRead {
			return out, nil
		}
		if len(out) > limit {
			return nil, fmt.Errorf("more than %d MiB of files to look at", limit>>20)
		}
	}
}

// readHeads reads what head -v printed.
func readHeads(dt []byte) []code {
	var out []code
	for len(dt) > 0 {
		i := bytes.Index(dt, []byte("==> "))
		if i < 0 {
			break
		}
		dt = dt[i+len("==> "):]
		name, rest, ok := bytes.Cut(dt, []byte(" <==\n"))
		if !ok {
			break
		}
		dt = rest
		if arch, ok := elfArch(rest[:min(len(rest), headSize)]); ok {
			out = append(out, code{file: string(name), arch: arch})
		}
	}
	return out
}

// elfArch returns the architecture of an ELF file, by its first bytes. It is empty for machines that no image is built for.
func elfArch(head []byte) (string, bool) {
	if len(head) < headSize || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return "", false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	switch elf.Machine(order.Uint16(head[18:])) {
	case elf.EM_X86_64:
		return "amd64", true
	case elf.EM_386:
		return "386", true
	case elf.EM_AARCH64:
		return "arm64", true
	case elf.EM_ARM:
		return "arm", true
	case elf.EM_S390:
		return "s390x", true
	case elf.EM_RISCV:
		return "riscv64", true
	case elf.EM_PPC64:
		if order == binary.LittleEndian {
			return "ppc64le", true
		}
		return "ppc64", true
	case elf.EM_LOONGARCH:
		return "loong64", true
	default:
		return "", true
	}
}

// readArchive lists the machine code in an archive and in the archives in it.
func readArchive(ctx context.Context, ref client.Reference, name string) ([]code, error) {
	stat, err := ref.StatFile(ctx, client.StatRequest{Path: name})
	if err != nil {
		return nil, err
	}
	if stat.GetSize() > maxArchive {
		return nil, fmt.Errorf("it is larger than %d MiB", maxArchive>>20)
	}
	return zipCode(&fileAt{ctx: ctx, ref: ref, name: name}, stat.GetSize(), name, maxArchiveDeep)
}

// fileAt reads a file of a result in parts, and keeps the last one: zip reads in small steps.
type fileAt struct {
	ctx  context.Context //nolint:containedctx // io.ReaderAt has none
	ref  client.Reference
	name string
	at   int64
	kept []byte
}

// ReadAt reads from an offset.
func (f *fileAt) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at < f.at || at >= f.at+int64(len(f.kept)) {
			dt, err := f.ref.ReadFile(f.ctx, client.ReadRequest{
				Filename: f.name, Range: &client.FileRange{Offset: int(at), Length: min(max(len(p)-n, readAhead), maxRead)},
			})
			if err != nil {
				return n, err
			}
			if len(dt) == 0 {
				return n, io.EOF
			}
			f.at, f.kept = at, dt
		}
		n += copy(p[n:], f.kept[at-f.at:])
	}
	return n, nil
}

func zipCode(r io.ReaderAt, size int64, name string, deep int) ([]code, error) {
	archive, err := zip.NewReader(r, size)
	if errors.Is(err, zip.ErrFormat) {
		return nil, nil // something else by that name
	}
	if err != nil {
		return nil, err
	}
	var out []code
	for _, f := range archive.File {
		inner := isArchive(f.Name)
		if f.FileInfo().IsDir() || !inner && !mayBeCode(f.Name) {
			continue
		}
		found, err := zipMember(f, name+"!"+f.Name, inner && deep > 1, deep-1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func zipMember(f *zip.File, name string, inner bool, deep int) (_ []code, err error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if inner {
		dt, err := io.ReadAll(io.LimitReader(r, maxInner))
		if err != nil {
			return nil, err
		}
		if len(dt) == maxInner {
			return nil, fmt.Errorf("it is larger than %d MiB", maxInner>>20)
		}
		return zipCode(bytes.NewReader(dt), int64(len(dt)), name, deep)
	}
	head := make([]byte, headSize)
	if n, _ := io.ReadFull(r, head); n < headSize {
		return nil, nil
	}
	if arch, ok := elfArch(head); ok {
		return []code{{file: name, arch: arch}}, nil
	}
	return nil, nil
}

func isArchive(name string) bool {
	return slices.Contains([]string{".jar", ".war", ".ear", ".zip", ".whl"}, path.Ext(name))
}

// mayBeCode leaves out what is never machine code by its name, so that an archive of classes need not be unpacked whole.
func mayBeCode(name string) bool {
	return !slices.Contains([]string{".class", ".java", ".properties", ".xml", ".txt", ".md", ".html", ".js", ".css", ".json", ".py", ".MF", ".SF"}, path.Ext(name))
}
