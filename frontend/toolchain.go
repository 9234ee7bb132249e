package frontend

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// Toolchains is the repository of the tool chain images that accelerated stages call gcc's compilers from, if no other is named (option toolchains):
// one for each release of Debian and each target, tagged trixie-arm64, trixie-arm-v7.
const Toolchains = "ghcr.io/manifold-build/toolchains"

// toolchainPins has the digests of those images as they were when this program was released, "trixie-arm64=sha256:…,…": a linker writes it (make image).
// What is not there is taken by its tag.
var toolchainPins string

// toolchainWait bounds the question for a tool chain: a registry that does not answer is no reason to wait longer than emulation would.
const toolchainWait = 10 * time.Second

// toolchains is the repository that a target's tool chains come from; empty if none are to be used.
func (all settings) toolchains(target platforms.Platform) (string, error) {
	s, ok, err := all.lookup(optionToolchains, target)
	switch {
	case err != nil:
		return "", err
	case !ok || s.value == "":
		return Toolchains, nil
	case s.value == off:
		return "", nil
	}
	return s.value, nil
}

// toolchain is a tool chain that a text may name, and the repository it is in.
type toolchain struct {
	dockerfile.Toolchain

	repository string
	// warn shows the user of the file a warning.
	warn func(ctx context.Context, msg string)
}

// RuleNoToolchain warns of a tool chain that the user has named, and that cannot be had.
const RuleNoToolchain = "ToolchainCannotBeHad"

// toolchainsOf are those that the texts of a group may name.
func (b *build) toolchainsOf(g *group) []toolchain {
	var out []toolchain
	for _, tc := range g.planner.Toolchains() {
		for _, t := range b.targets {
			if t.group == g && t.platform == tc.Target && t.toolchains != "" {
				out = append(out, toolchain{tc, t.toolchains, func(ctx context.Context, msg string) {
					g.src.Warn(ctx, linter.LintFormatShort(RuleNoToolchain, msg, 0), warnOpts(nil, nil, ""))
				}})
				break
			}
		}
	}
	return out
}

// toolchain is the tool chain's image for the gcc that a stage's image holds or installs, or nothing where there is none: the compilers are emulated then.
func (b *build) toolchain(ctx context.Context, tc toolchain) llb.State {
	// A node that builds several things shows a step that they share by one of its names, so this one gives no reason.
	none := llb.Scratch().File(llb.Mkdir("/none", 0o755), llb.WithCustomName("[internal] no tool chain")) //nolint:mnd // as any folder
	suite := b.suiteOf(ctx, tc)
	if suite == "" {
		return none
	}
	tag := suite + "-" + dockerfile.ToolchainArch(tc.Target)
	name := strings.TrimSuffix(tc.repository, "/") + ":" + tag
	if pin := pinned(tag); pin != "" && tc.repository == Toolchains {
		name = tc.repository + "@" + pin
	}
	bounded, stop := context.WithTimeout(ctx, toolchainWait)
	defer stop()
	ref, dgst, _, err := b.resolveImage(bounded, "[internal]", name, b.node().Native)
	if err != nil {
		if tc.repository != Toolchains { // the user counts on it
			tc.warn(ctx, fmt.Sprintf("%s: gcc is emulated: the tool chain %s cannot be had: %v; name a repository that has it with toolchains=, or toolchains=off", tc.Target, name, err))
		}
		return none
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return none
	}
	if dgst != "" {
		if exact, err := reference.WithDigest(reference.TrimNamed(named), dgst); err == nil {
			name = exact.String()
		}
	}
	return llb.Image(name, llb.Platform(b.node().Native.OCI()), b.resolveMode(), llb.WithCustomName("["+b.node().Native.String()+"] FROM "+name))
}

// pinned is the digest of an image that this program was released with; empty if it was with none.
func pinned(tag string) string {
	for pin := range strings.SplitSeq(toolchainPins, ",") {
		if name, dgst, ok := strings.Cut(pin, "="); ok && name == tag && digest.Digest(dgst).Validate() == nil {
			return dgst
		}
	}
	return ""
}

// suiteOf is the release of Debian, or of what is made of it, that an image is; empty if it is none, or holds no gcc and none is installed.
func (b *build) suiteOf(ctx context.Context, tc toolchain) string {
	image := llb.Image(tc.Image, llb.Platform(tc.Target.OCI()), b.resolveMode(), llb.WithCustomName("["+tc.Target.String()+" internal] look at "+tc.Image))
	def, err := image.Marshal(ctx)
	if err != nil {
		return ""
	}
	res, err := b.client.Solve(ctx, client.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return ""
	}
	ref, err := res.SingleRef()
	if err != nil || ref == nil {
		return ""
	}
	if !tc.Installs {
		found := false
		for _, pattern := range []string{"cc", "gcc*", "*-gcc", "*-gcc-[0-9]*"} {
			entries, err := ref.ReadDir(ctx, client.ReadDirRequest{Path: "/usr/bin", IncludePattern: pattern})
			found = found || err == nil && len(entries) > 0
		}
		if !found {
			return ""
		}
	}
	release, err := ref.ReadFile(ctx, client.ReadRequest{Filename: "/usr/lib/os-release"})
	if err != nil {
		return ""
	}
	return codename(release)
}

// codename reads the name of a release (os-release(5)).
func codename(release []byte) string {
	for lines := bufio.NewScanner(bytes.NewReader(release)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VERSION_CODENAME="); ok {
			name := strings.Trim(value, `"'`)
			if reference.TagRegexp.FindString(name) == name && path.Base(name) == name {
				return name
			}
		}
	}
	return ""
}
