package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
	"github.com/manifold-build/manifold/verify"
)

// ScanCommand is the first argument with which the frontend's image, or [Config.Program], is run to verify a root filesystem that is mounted in it.
const ScanCommand = "scan"

// Where the scan finds the image, where it leaves its report, and where a program lies that comes from the client.
const (
	scanImage   = "/run/manifold/image"
	scanResult  = "/run/manifold/result"
	scanReport  = ".manifold-report.json"
	scanProgram = "/run/manifold/program"
)

// scanRequest is what a scan is asked, as the command's second argument.
type scanRequest struct {
	Platform platforms.Platform  `json:"platform,omitzero"`
	Config   platforms.Platform  `json:"config,omitzero"`
	Start    ocispec.ImageConfig `json:"start,omitzero"`
	Except   []string            `json:"except,omitempty"`
	// Inherited is as in [verify.Want].
	Inherited bool `json:"inherited,omitempty"`
	// Look lists paths in which machine code is looked for, instead of verifying the whole.
	Look []string `json:"look,omitempty"`
}

// Scan answers a request that [ScanCommand] came with: it verifies the root filesystem that is mounted in this container, and leaves its report in
// a copy of that. It is what the gate runs the frontend's own image for, or [Config.Program].
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
	if len(req.Look) > 0 {
		dt, err := json.Marshal(lookIn(root, req.Look))
		if err != nil {
			return err
		}
		return leave(dt)
	}
	image := ocispec.Image{Platform: req.Config.OCI(), Config: req.Start}
	report, err := verify.FS(root.FS(), image, verify.Want{Platform: req.Platform, Except: req.Except, Inherited: req.Inherited, Likely: true})
	if err != nil {
		return err
	}
	dt, err := json.Marshal(report)
	if err != nil {
		return err
	}
	return leave(dt)
}

// leave writes the report. The copy of the image may hold anything by that name.
func leave(report []byte) (err error) {
	root, err := os.OpenRoot(scanResult)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := root.RemoveAll(scanReport); err != nil {
		return err
	}
	return root.WriteFile(scanReport, report, 0o600)
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

// scanner is a program for the build platform that scans.
type scanner struct {
	root    llb.State // that it is run in
	program string
	opts    []llb.RunOption
}

// ownScanner is that of the image that this process was started from; nil if it was started from none.
func (b *build) ownScanner() (*scanner, error) {
	self, err := b.image()
	if err != nil || self == nil {
		return nil, err
	}
	return &scanner{root: *self, program: os.Args[0]}, nil
}

// sentScanner is the program that the client offers; nil if it offers none, or is not on the node's machine.
func (b *build) sentScanner() *scanner {
	if b.program.Folder == "" || !b.onNode() {
		return nil
	}
	folder := llb.Local(b.program.Folder, llb.SessionID(b.client.BuildOpts().SessionID), llb.SharedKeyHint(b.program.Folder),
		llb.WithCustomName("[internal] load program of the gate"))
	return &scanner{
		llb.Scratch(), path.Join(scanProgram, b.program.Path), []llb.RunOption{llb.AddMount(scanProgram, folder, llb.Readonly)},
	}
}

// scan verifies a target's image by an exec on the build platform, which is cached like every other. Not ok means that the exec failed.
//
// The report is put onto a copy of the image, which goes nowhere from there: as a layer on top of the image it is in the node's cache only as long as
// that is, and so is never found for another that was made by the same steps since. The image's content is not asked for: its digest takes longer to
// find out than a scan.
func (b *build) scan(
	ctx context.Context, s *scanner, t *target, out built, image ocispec.Image, want verify.Want,
) (report verify.Report, ok bool, err error) {
	dt, ok, err := b.runScanner(ctx, s, out.converted.State, scanRequest{
		Platform: want.Platform, Config: platforms.FromOCI(image.Platform), Except: want.Except, Inherited: want.Inherited,
		Start: ocispec.ImageConfig{
			Entrypoint: image.Config.Entrypoint, Cmd: image.Config.Cmd, Env: image.Config.Env, WorkingDir: image.Config.WorkingDir,
		},
	}, fmt.Sprintf("[%s] verify", t.platform), t.group.ui.CacheImports)
	if err != nil || !ok {
		return report, false, err
	}
	if err := json.Unmarshal(dt, &report); err != nil {
		return report, false, fmt.Errorf("the report: %w", err)
	}
	return report, true, nil
}

// runScanner runs our own program on the build platform with a root filesystem mounted, and returns the report it leaves. Not ok means that the exec failed.
func (b *build) runScanner(
	ctx context.Context, s *scanner, image llb.State, req scanRequest, name string, imports []client.CacheOptionsEntry,
) (report []byte, ok bool, err error) {
	request, err := json.Marshal(req)
	if err != nil {
		return nil, false, err
	}
	run := s.root.Run(append(slices.Clone(s.opts),
		llb.Args([]string{s.program, ScanCommand, string(request)}), llb.Dir("/"), llb.Network(llb.NetModeNone), llb.WithCustomName(name),
	)...)
	var content []llb.MountOption
	if caps := b.client.BuildOpts().LLBCaps; caps.Supports(pb.CapExecMountContentCache) == nil {
		content = append(content, llb.ContentCache(llb.MountContentCacheOff))
	}
	run.AddMount(scanImage, image, append(slices.Clone(content), llb.Readonly)...)
	def, err := run.AddMount(scanResult, image, content...).Marshal(ctx, llb.Platform(b.node().Native.OCI()))
	if err != nil {
		return nil, false, err
	}
	res, err := b.client.Solve(ctx, client.SolveRequest{Definition: again(def), CacheImports: imports, Evaluate: true})
	if err != nil && ctx.Err() == nil {
		return nil, false, nil // the file API says better what is wrong
	}
	if err != nil {
		return nil, false, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, false, err
	}
	report, err = readBounded(ctx, ref, scanReport, maxLooked)
	return report, err == nil, err
}

// readBounded reads a file of a result in parts.
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
			return nil, fmt.Errorf("%s holds more than %d MiB", name, limit>>20)
		}
	}
}

// again is a definition of something on top of what this request has solved already. A vertex that ignores the cache has been run by then; to ask
// for that once more would discard its cache mounts. What is on top of it then ignores the cache itself: what there is may be about an earlier run.
func again(def *llb.Definition) *pb.Definition {
	out := def.ToPB()
	ignored := false
	for _, m := range out.GetMetadata() {
		ignored = ignored || m.GetIgnoreCache()
		m.IgnoreCache = false
	}
	var last pb.Op
	if n := len(out.GetDef()); ignored && n > 0 && last.UnmarshalVT(out.GetDef()[n-1]) == nil && len(last.GetInputs()) == 1 {
		if m := out.GetMetadata()[last.GetInputs()[0].GetDigest()]; m != nil {
			m.IgnoreCache = true
		}
	}
	return out
}
