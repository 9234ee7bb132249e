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
	npm        string   // packages of npm's below /srv, for whatever machine they are
	refused    bool     // as it is
}

// images are those of the corpus.
var images = slices.Concat(minbases(), []image{
	{name: "python", arch: "arm64", packages: "python3 python3-pip python3-numpy", start: []string{"python3"}, broken: true},
	{name: "python", arch: "amd64", packages: "python3 python3-pip python3-numpy", start: []string{"python3"}},
	{name: "python", arch: "armhf", packages: "python3 python3-numpy", start: []string{"python3"}},
	{name: "nodejs", arch: "arm64", packages: "nodejs", start: []string{"node"}, broken: true},
	{name: "postgresql", arch: "arm64", packages: "postgresql-15", start: []string{"/usr/lib/postgresql/15/bin/postgres"}, broken: true},
	{name: "nginx", arch: "arm64", packages: "nginx", start: []string{"nginx", "-g", "daemon off;"}, broken: true},
	{name: "nginx", arch: "s390x", packages: "nginx", start: []string{"nginx", "-g", "daemon off;"}},
	{name: "openjdk", arch: "arm64", packages: "openjdk-17-jre-headless", start: []string{"/usr/lib/jvm/java-17-openjdk-arm64/bin/java", "-version"}},
	{name: "wine", arch: "amd64", packages: "wine64", start: []string{"/usr/lib/wine/wine64"}},
	{name: "qemu", arch: "arm64", packages: "qemu-user-static", start: []string{"qemu-x86_64-static"}},
	{name: "cross", arch: "amd64", packages: "gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf", start: []string{"aarch64-linux-gnu-gcc-12"}},
	{name: "multilib", arch: "i386", packages: "gcc-multilib", start: []string{"bash"}},
	{name: "multilib", arch: "s390x", packages: "gcc-multilib", start: []string{"bash"}},
	{name: "multilib", arch: "amd64", packages: "gcc-multilib", start: []string{"bash"}},
	{name: "golang-src", arch: "arm64", packages: "golang-1.19-src golang-1.19-go", start: []string{"/usr/lib/go-1.19/bin/go"}},
	{name: "firmware", arch: "arm64", packages: "grub-efi-arm64-bin firmware-linux-free u-boot-qemu", start: []string{"bash"}},
	{name: "debug", arch: "arm64", packages: "libc6-dbg", start: []string{"bash"}},
	{name: "guile", arch: "arm64", packages: "guile-3.0", start: []string{"/usr/lib/aarch64-linux-gnu/guile/3.0/bin/guile"}},
	{name: "musl", arch: "arm64", packages: "musl musl-tools", start: []string{"bash"}},
	{name: "tini", arch: "arm64", packages: "tini", start: []string{"tini", "--", "bash"}},
	{name: "redis", arch: "riscv64", packages: "redis-server", start: []string{"redis-server"}},
	{name: "chromium", arch: "arm64", packages: "chromium", start: []string{"chromium", "--headless"}},
	{name: "libreoffice", arch: "arm64", packages: "libreoffice-writer-nogui", start: []string{"soffice", "--headless"}},
	{name: "kernel", arch: "arm64", packages: "linux-image-arm64 kmod", start: []string{"kmod", "list"}},
	{name: "npm", arch: "arm64", packages: "nodejs", start: []string{"node"}, npm: prebuilt},
	{name: "npm", arch: "amd64", packages: "nodejs", start: []string{"node"}, npm: prebuilt},
	{name: "npm for another machine", arch: "arm64", packages: "nodejs", start: []string{"node"}, npm: "@swc/core-linux-x64-gnu", refused: true},
})

// prebuilt are packages of npm's that bring machine code, for two machines each.
const prebuilt = "esbuild @esbuild/linux-x64 @esbuild/linux-arm64 workerd @cloudflare/workerd-linux-64 @cloudflare/workerd-linux-arm64 turbo @turbo/linux-64 @turbo/linux-arm64 @swc/core " +
	"@swc/core-linux-x64-gnu @swc/core-linux-arm64-gnu @swc/core-linux-x64-musl @swc/core-linux-arm64-musl @img/sharp-linux-x64 @img/sharp-linux-arm64 @img/sharp-libvips-linux-x64 " +
	"@img/sharp-libvips-linux-arm64 @rollup/rollup-linux-x64-gnu @rollup/rollup-linux-arm64-gnu @rollup/rollup-linux-arm64-musl bufferutil utf-8-validate"

func minbases() []image {
	var out []image
	for arch := range strings.FieldsSeq("amd64 arm64 armhf armel i386 s390x ppc64el") {
		out = append(out, image{name: "minbase", arch: arch, packages: "apt libc-bin", start: []string{"bash"}, broken: arch == "arm64"})
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
		if im.npm != "" {
			if err := sandbox.NPM(ctx, filepath.Join(root, "srv"), strings.Fields(im.npm)...); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
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
			broken := w.name != "as it is" || im.refused
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
