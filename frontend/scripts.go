package frontend

import (
	"bytes"
	"context"
	"io/fs"
	"strings"
	"sync"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/frontend/dockerfile"
)

// maxScript bounds what is read of a script in the build context, in bytes.
const maxScript = 256 << 10

// script is the text of the first of a probe's files that the build context holds. It has failed if there is none, or if that is no script.
func (b *build) script(ctx context.Context, g *group, p dockerfile.Probe) (text string, failed bool) {
	key := strings.Join(p.Files(), "\n")
	g.scriptsMu.Lock()
	read := g.scripts[key]
	if read == nil {
		if g.scripts == nil {
			g.scripts = map[string]func() (string, bool){}
		}
		read = sync.OnceValues(func() (string, bool) { return b.readScript(ctx, g, p.Files()) })
		g.scripts[key] = read
	}
	g.scriptsMu.Unlock()
	return read()
}

// readScript asks the build context for files, and for no others: they are kept apart from what a build has of it.
func (b *build) readScript(ctx context.Context, g *group, names []string) (text string, failed bool) {
	st, err := g.ui.MainContext(ctx, llb.FollowPaths(names), llb.SharedKeyHint("manifold-scripts"), dockerui.WithInternalName("load "+names[len(names)-1]))
	if err != nil {
		return "", true
	}
	def, err := st.Marshal(ctx)
	if err != nil {
		return "", true
	}
	res, err := b.client.Solve(ctx, client.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return "", true
	}
	ref, err := res.SingleRef()
	if err != nil || ref == nil {
		return "", true
	}
	for _, name := range names {
		info, err := ref.StatFile(ctx, client.StatRequest{Path: name})
		if err != nil {
			continue
		}
		if !fs.FileMode(info.GetMode()).IsRegular() || info.GetSize() > maxScript {
			return "", true
		}
		dt, err := ref.ReadFile(ctx, client.ReadRequest{Filename: name})
		return scriptText(dt, err)
	}
	return "", true
}

// scriptText is the text of a file that is read; it has failed if that cannot be a script.
func scriptText(dt []byte, err error) (text string, failed bool) {
	if err != nil || len(dt) == 0 || bytes.IndexByte(dt, 0) >= 0 {
		return "", true
	}
	return string(dt), false
}

// answerScripts answers what plans ask for of a build context that is a folder of this machine, and reports whether they ask for anything.
func (b *build) answerScripts(context fs.FS) bool {
	asked := false
	for _, g := range b.planned() {
		for _, p := range g.plan(b).Probes {
			if p.Kind == dockerfile.ProbeScript {
				text, failed := localScript(context, p.Files())
				g.planner.Answer(dockerfile.Answer{Probe: p, Text: text, Failed: failed})
				asked = true
			}
		}
	}
	return asked
}

// localScript is [build.script] for a build context that is a folder of this machine.
func localScript(context fs.FS, names []string) (text string, failed bool) {
	for _, name := range names {
		info, err := fs.Stat(context, name)
		if err != nil {
			continue
		}
		if !info.Mode().IsRegular() || info.Size() > maxScript {
			return "", true
		}
		return scriptText(fs.ReadFile(context, name))
	}
	return "", true
}
