package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
	"github.com/manifold-build/manifold/verify"
)

// ScanCommand is the first argument with which the frontend's image is run to verify a root filesystem that is mounted in it.
const ScanCommand = "scan"

// Where the scan finds the image, where it leaves its report, and where a program lies that comes from the client.
const (
	scanImage   = "/run/manifold/image"
	scanResult  = "/run/manifold/result"
	scanReport  = "report.json"
	scanProgram = "/run/manifold/program"
)

// scanRequest is what a scan is asked, as the command's second argument.
type scanRequest struct {
	Platform platforms.Platform  `json:"platform"`
	Config   platforms.Platform  `json:"config"`
	Start    ocispec.ImageConfig `json:"start"`
	Except   []string            `json:"except,omitempty"`
}

// Scan answers a request that [ScanCommand] came with: it verifies the root filesystem that is mounted in this container. It is what the gate
// runs the frontend's own image for.
func Scan(request string) (err error) {
	var req scanRequest
	if err := json.Unmarshal([]byte(request), &req); err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	root, err := os.OpenRoot(scanImage)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	image := ocispec.Image{Platform: req.Config.OCI(), Config: req.Start}
	report, err := verify.FS(root.FS(), image, verify.Want{Platform: req.Platform, Except: req.Except, Likely: true})
	if err != nil {
		return err
	}
	dt, err := json.Marshal(report)
	if err != nil {
		return err
	}
	return os.WriteFile(path.Join(scanResult, scanReport), dt, 0o644) //nolint:gosec // BuildKit reads it
}

// ownImage is a gateway client that knows the image it was started from; one in the process of a client was started from none.
type ownImage interface{ CurrentFrontend() (*llb.State, error) }

// image is the image that this process was started from; nil if it was started from none.
func (b *build) image() (*llb.State, error) {
	if own, ok := b.started.(ownImage); ok {
		return own.CurrentFrontend()
	}
	return nil, nil //nolint:nilnil // a process of its own
}

// scanBy is how an exec scans an image: in the frontend's own image, or by a program that the client sends. Not ok means that there is neither.
func (b *build) scanBy(sent bool) (root llb.State, program string, opts []llb.RunOption, ok bool) {
	if !sent {
		self, err := b.image()
		if err != nil || self == nil {
			return root, "", nil, false
		}
		return *self, os.Args[0], nil, true
	}
	if b.program.Folder == "" || !b.onNode() {
		return root, "", nil, false
	}
	folder := llb.Local(b.program.Folder, llb.SessionID(b.client.BuildOpts().SessionID), llb.SharedKeyHint(b.program.Folder),
		llb.IncludePatterns([]string{b.program.Path}), llb.WithCustomName("[internal] load program of the gate"))
	return llb.Scratch(), path.Join(scanProgram, b.program.Path), []llb.RunOption{llb.AddMount(scanProgram, folder, llb.Readonly)}, true
}

// scanMount mounts an image that is scanned. What it was made of tells whether it was scanned before, as with an exec's root filesystem: the digest of a whole
// image's content takes longer to find out than a scan.
func (b *build) scanMount() []llb.MountOption {
	caps := b.client.BuildOpts().LLBCaps
	if caps.Supports(pb.CapExecMountContentCache) != nil {
		return []llb.MountOption{llb.Readonly}
	}
	return []llb.MountOption{llb.Readonly, llb.ContentCache(llb.MountContentCacheOff)}
}

// scan verifies a target's image by an exec on the build platform, which is cached like every other. Not ok means that there is nothing to run, or that
// the exec failed.
func (b *build) scan(
	ctx context.Context, t *target, out built, image ocispec.Image, want verify.Want, sent bool,
) (report verify.Report, ok bool, err error) {
	root, program, opts, ok := b.scanBy(sent)
	if !ok {
		return report, false, nil
	}
	request, err := json.Marshal(scanRequest{
		Platform: want.Platform, Config: platforms.FromOCI(image.Platform), Except: want.Except,
		Start: ocispec.ImageConfig{
			Entrypoint: image.Config.Entrypoint, Cmd: image.Config.Cmd, Env: image.Config.Env, WorkingDir: image.Config.WorkingDir,
		},
	})
	if err != nil {
		return report, false, err
	}
	run := root.Run(append(opts,
		llb.Args([]string{program, ScanCommand, string(request)}), llb.Dir("/"), llb.Network(llb.NetModeNone),
		llb.AddMount(scanImage, out.converted.State, b.scanMount()...), llb.WithCustomName(fmt.Sprintf("[%s] verify", t.platform)),
	)...)
	def, err := run.AddMount(scanResult, llb.Scratch()).Marshal(ctx, llb.Platform(b.host.Native.OCI()))
	if err != nil {
		return report, false, err
	}
	res, err := b.client.Solve(ctx, client.SolveRequest{Definition: again(def), CacheImports: t.group.ui.CacheImports, Evaluate: true})
	if err != nil && ctx.Err() == nil {
		return report, false, nil // the file API says better what is wrong
	}
	if err != nil {
		return report, false, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return report, false, err
	}
	dt, err := ref.ReadFile(ctx, client.ReadRequest{Filename: scanReport})
	if err != nil {
		return report, false, err
	}
	if err := json.Unmarshal(dt, &report); err != nil {
		return report, false, fmt.Errorf("the report: %w", err)
	}
	return report, true, nil
}

// again is a definition of something on top of what this request has solved already. A vertex that ignores the cache has been run by then; to ask for
// that once more would discard its cache mounts.
func again(def *llb.Definition) *pb.Definition {
	out := def.ToPB()
	for _, m := range out.GetMetadata() {
		m.IgnoreCache = false
	}
	return out
}
