package frontend

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"sync"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// Pins are what names stand for: the digest of each image, the commit of each git reference, the content of each URL, as the first build found it that
// asked. The builds of one image on several nodes share them, so that all are made of the same. The zero value holds none.
type Pins struct {
	mu     sync.Mutex
	images map[string]digest.Digest
	// sources are what git and http sources stand for, by identifier and attributes.
	sources map[string]*sourcePin
}

// first returns the digest that a name was first found to stand for; it is this one if nobody asked before.
func (p *Pins) first(name string, found digest.Digest) digest.Digest {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.images == nil {
		p.images = map[string]digest.Digest{}
	}
	if _, ok := p.images[name]; !ok {
		p.images[name] = found
	}
	return p.images[name]
}

// sourcePin is what one source stands for.
type sourcePin struct {
	turn   chan struct{} // holds one token: who has it asks
	known  bool
	policy *spb.Rule // nil if the source says it itself, or BuildKit does not tell
}

// source returns what a source stands for, which is asked for until somebody was answered.
func (p *Pins) source(ctx context.Context, c client.Client, op *pb.SourceOp) *spb.Rule {
	dt, err := json.Marshal(op)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	if p.sources == nil {
		p.sources = map[string]*sourcePin{}
	}
	pin, ok := p.sources[string(dt)]
	if !ok {
		pin = &sourcePin{turn: make(chan struct{}, 1)}
		p.sources[string(dt)] = pin
	}
	p.mu.Unlock()
	select {
	case pin.turn <- struct{}{}:
		defer func() { <-pin.turn }()
	case <-ctx.Done():
		return nil
	}
	if !pin.known {
		rule, err := askSource(ctx, c, op)
		pin.policy, pin.known = rule, err == nil
	}
	return pin.policy
}

// Pinned is a gateway client that has git and http sources be what the pins say, by source policies, which BuildKit applies.
func (p *Pins) Pinned(c client.Client) client.Client { return withPins{c, p} }

type withPins struct {
	client.Client

	pins *Pins
}

// Solve solves a definition with its sources pinned.
func (c withPins) Solve(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	policy := &spb.Policy{Version: 1}
	for _, dt := range req.Definition.GetDef() {
		var op pb.Op
		if err := proto.Unmarshal(dt, &op); err != nil || op.GetSource() == nil {
			continue
		}
		if rule := c.pins.source(ctx, c.Client, op.GetSource()); rule != nil {
			policy.Rules = append(policy.Rules, rule)
		}
	}
	if len(policy.GetRules()) > 0 {
		req.SourcePolicies = append(req.SourcePolicies, policy)
	}
	return c.Client.Solve(ctx, req)
}

// The schemes of sources that are not named by what they hold, and the attributes that say it (BuildKit's package solver/pb).
const (
	schemeGit  = "git://"
	schemeHTTP = "http"
)

// askSource asks the node what a git or http source stands for. Nil if it is another source, says it itself, or BuildKit does not tell: then each node
// finds out for itself, as it would have.
func askSource(ctx context.Context, c client.Client, op *pb.SourceOp) (*spb.Rule, error) {
	id := op.GetIdentifier()
	isGit, isHTTP := strings.HasPrefix(id, schemeGit), strings.HasPrefix(id, schemeHTTP)
	if !isGit && !isHTTP || op.GetAttrs()[pb.AttrGitChecksum] != "" || op.GetAttrs()[pb.AttrHTTPChecksum] != "" {
		return nil, nil //nolint:nilnil // as above
	}
	answer, err := c.ResolveSourceMetadata(ctx, op, sourceresolver.Opt{})
	if err != nil {
		return nil, err
	}
	attrs := map[string]string{}
	switch {
	case isGit && answer.Git != nil && cmp.Or(answer.Git.CommitChecksum, answer.Git.Checksum) != "":
		attrs[pb.AttrGitChecksum] = cmp.Or(answer.Git.CommitChecksum, answer.Git.Checksum)
	case isHTTP && answer.HTTP != nil && answer.HTTP.Digest != "":
		attrs[pb.AttrHTTPChecksum] = answer.HTTP.Digest.String()
	default:
		return nil, nil //nolint:nilnil // as above
	}
	return &spb.Rule{
		Action:   spb.PolicyAction_CONVERT,
		Selector: &spb.Selector{Identifier: id, MatchType: spb.MatchType_EXACT},
		Updates:  &spb.Update{Identifier: id, Attrs: attrs},
	}, nil
}
