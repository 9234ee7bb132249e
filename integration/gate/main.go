// Command gate builds images of Debian's packages, for all machines that Debian has, and holds package verify's verdicts on them against the recorded ones: the
// images as they are, of which none may be refused, and the same images broken in every way of a list, each of which has to be, with the file named.
//
//	go run ./integration/gate [-run PATTERN] [-update]
//
// It is what make gate-corpus runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/integration/sandbox"
	"github.com/manifold-build/manifold/platforms"
	"github.com/manifold-build/manifold/verify"
)

// recorded is where the verdicts are.
const recorded = "integration/gate/verdicts.txt"

func main() {
	pattern := flag.String("run", "", "images whose names match alone")
	update := flag.Bool("update", false, "write the verdicts down")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *pattern, *update); err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1) //nolint:gocritic // stop is for signals
	}
}

// image is one that Debian's packages make.
type image struct {
	name, arch string
	packages   string
	start      []string // what its config starts
	broken     bool     // it is broken in every way too
}

// images are those of the corpus.
var images = slices.Concat(minbases(), []image{
	{"python", "arm64", "python3 python3-pip python3-numpy", []string{"python3"}, true},
	{"python", "amd64", "python3 python3-pip python3-numpy", []string{"python3"}, false},
	{"python", "armhf", "python3 python3-numpy", []string{"python3"}, false},
	{"nodejs", "arm64", "nodejs", []string{"node"}, true},
	{"postgresql", "arm64", "postgresql-15", []string{"/usr/lib/postgresql/15/bin/postgres"}, true},
	{"nginx", "arm64", "nginx", []string{"nginx", "-g", "daemon off;"}, true},
	{"nginx", "s390x", "nginx", []string{"nginx", "-g", "daemon off;"}, false},
	{"openjdk", "arm64", "openjdk-17-jre-headless", []string{"/usr/lib/jvm/java-17-openjdk-arm64/bin/java", "-version"}, false},
	{"wine", "amd64", "wine64", []string{"/usr/lib/wine/wine64"}, false},
	{"qemu", "arm64", "qemu-user-static", []string{"qemu-x86_64-static"}, false},
	{"cross", "amd64", "gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf", []string{"aarch64-linux-gnu-gcc-12"}, false},
	{"multilib", "i386", "gcc-multilib", []string{"bash"}, false},
	{"multilib", "s390x", "gcc-multilib", []string{"bash"}, false},
	{"multilib", "amd64", "gcc-multilib", []string{"bash"}, false},
	{"golang-src", "arm64", "golang-1.19-src golang-1.19-go", []string{"/usr/lib/go-1.19/bin/go"}, false},
	{"firmware", "arm64", "grub-efi-arm64-bin firmware-linux-free u-boot-qemu", []string{"bash"}, false},
	{"debug", "arm64", "libc6-dbg", []string{"bash"}, false},
	{"guile", "arm64", "guile-3.0", []string{"/usr/lib/aarch64-linux-gnu/guile/3.0/bin/guile"}, false},
	{"musl", "arm64", "musl musl-tools", []string{"bash"}, false},
	{"tini", "arm64", "tini", []string{"tini", "--", "bash"}, false},
	{"redis", "riscv64", "redis-server", []string{"redis-server"}, false},
})

func minbases() []image {
	var out []image
	for arch := range strings.FieldsSeq("amd64 arm64 armhf armel i386 s390x ppc64el") {
		out = append(out, image{"minbase", arch, "apt libc-bin", []string{"bash"}, arch == "arm64"})
	}
	return out
}

// platformOf is a platform by Debian's name.
func platformOf(arch string) (platforms.Platform, error) {
	names := map[string]string{"amd64": "linux/amd64", "arm64": "linux/arm64", "armhf": "linux/arm/v7", "armel": "linux/arm/v5", "i386": "linux/386", "s390x": "linux/s390x", "ppc64el": "linux/ppc64le", "riscv64": "linux/riscv64"}
	return platforms.Parse(names[arch])
}

func run(ctx context.Context, pattern string, update bool) (err error) {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "gate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	foreign, err := sandbox.DebianRoot(ctx, work, "bookworm", "amd64", "tini")
	if err != nil {
		return err
	}
	var lines []string
	count := map[bool]int{}
	for _, im := range images {
		name := im.name + "/" + im.arch
		if !match.MatchString(name) {
			continue
		}
		suite := "bookworm"
		if im.arch == "riscv64" { // which came later
			suite = "trixie"
		}
		p, err := platformOf(im.arch)
		if err != nil {
			return err
		}
		root, err := sandbox.DebianRoot(ctx, work, suite, im.arch, strings.Fields(im.packages)...)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s := store{}
		lower, err := s.folder(filepath.Join(work, "layer.tar"), root)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		config := ocispec.ImageConfig{Cmd: im.start}
		ways := []way{{name: "as it is"}}
		if im.broken {
			b, err := breaker(root, foreign, im.start[0])
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			ways = append(ways, b.ways()...)
		}
		for _, w := range ways {
			report, err := s.verify(ctx, p, config, lower, w)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", name, w.name, err)
			}
			broken := w.name != "as it is"
			count[broken]++
			line := describe(name, w.name, report)
			fmt.Println(line)
			lines = append(lines, line)
			if (report.Verdict == verify.Refused) != broken {
				err := fmt.Errorf("%s: %s: %s: %w", name, w.name, report.Verdict, report.Err())
				if !update {
					return err
				}
				fmt.Fprintln(os.Stderr, "gate:", err)
			}
		}
		if err := os.RemoveAll(filepath.Dir(root)); err != nil {
			return err
		}
	}
	fmt.Printf("%d images as they are, none refused; %d broken ones, all refused\n", count[false], count[true])
	return compare(lines, match, update)
}

// describe is a verdict on one line.
func describe(image, way string, r verify.Report) string {
	out := []string{fmt.Sprintf("%s: %s: %s", image, way, r.Verdict)}
	for _, f := range r.Refused[:min(len(r.Refused), 2)] { // the rest is of the same kind
		out = append(out, f.String())
	}
	return strings.Join(out, "; ")
}

// compare holds the verdicts against the recorded ones of the same images.
func compare(lines []string, match *regexp.Regexp, update bool) error {
	if update {
		return os.WriteFile(recorded, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
	}
	dt, err := os.ReadFile(recorded)
	if err != nil {
		return err
	}
	var want []string
	for line := range strings.Lines(string(dt)) {
		if name, _, _ := strings.Cut(line, ": "); match.MatchString(name) {
			want = append(want, strings.TrimSuffix(line, "\n"))
		}
	}
	for i := range max(len(want), len(lines)) {
		switch {
		case i >= len(want) || i >= len(lines):
			return fmt.Errorf("%d verdicts, and %d are recorded", len(lines), len(want))
		case want[i] != lines[i]:
			return fmt.Errorf("not as recorded:\n%s\n%s", want[i], lines[i])
		}
	}
	return nil
}
