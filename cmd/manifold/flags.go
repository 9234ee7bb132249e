package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildctl/build"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/spf13/pflag"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/platforms"
)

// buildFlags are the flags of "manifold build". Those that docker buildx build has keep its names and meaning.
type buildFlags struct {
	registryFlags
	runFlags

	call  string
	check bool
	debug bool

	builders     []string
	nodeFor      []string
	placement    builder.Placement
	optional     []string
	failFast     bool
	keepGoing    bool
	dryRun       bool
	cache        []string
	platforms    []string
	tags         []string
	targetTag    string
	files        []string
	stages       []string
	strategies   []string
	cacheMounts  []string
	accelerate   []string
	toolchains   string
	parallelism  int
	verify       []string
	except       []string
	tests        []string
	buildArgs    []string
	contexts     []string
	labels       []string
	annotations  []string
	secrets      []string
	ssh          []string
	cacheFrom    []string
	cacheTo      []string
	outputs      []string
	attest       []string
	sbom         string
	provenance   string
	push         bool
	load         bool
	pull         bool
	noCache      bool
	noCacheStage []string
	quiet        bool
	progress     string
	metadataFile string
	iidFile      string
}

// registerInput declares the flags that say what is built, and on which node.
func (f *buildFlags) registerInput(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringArrayVar(&f.platforms, "platform", nil, "platforms to build for, for example linux/amd64,linux/arm64 (\"local\" is the node's own)")
	fs.StringArrayVarP(&f.files, "file", "f", nil, "Dockerfile (- is standard input), or PLATFORM=Dockerfile (default CONTEXT/Dockerfile)")
	fs.StringArrayVar(&f.stages, "target", nil, "stage to build, or PLATFORM=stage (default the last one)")
	fs.StringArrayVar(&f.strategies, "strategy", nil, "how stages are run: auto, native, cross, accelerate or emulate, or PLATFORM=strategy")
	fs.StringArrayVar(&f.verify, "verify", nil, "what becomes of an image that is not for its platform: strict (refused), warn or off, or PLATFORM=off (default strict)")
	fs.StringArrayVar(&f.except, "verify-except", nil, "paths that may hold another machine's code, as in .dockerignore, or PLATFORM=GLOB")
	fs.StringArrayVar(&f.tests, "test", nil, "a command that has to pass in each target's image before it leaves the node, or PLATFORM=COMMAND")
	fs.StringArrayVar(&f.accelerate, "accelerate", nil, "call the build platform's compilers in stages that run on an emulated target: auto or off, or PLATFORM=off (default auto)")
	fs.StringVar(&f.toolchains, "toolchains", "", "repository of the tool chain images for gcc in such stages, or off (default "+frontend.Toolchains+")")
	fs.StringArrayVar(&f.cacheMounts, "cache-mounts", nil, "mount Go's build cache where a moved stage compiles: auto or off, or PLATFORM=off (default auto)")
	fs.IntVar(&f.parallelism, "max-parallelism", 0, "how many targets are built at once (default: the node's CPUs where they are compiled for, else all)")
	fs.StringArrayVar(&f.buildArgs, "build-arg", nil, "build argument NAME=VALUE, or PLATFORM:NAME=VALUE; NAME alone takes the environment's value")
	fs.StringArrayVar(&f.contexts, "build-context", nil, "further build context, name=path or name=URL")
	fs.StringArrayVar(&f.secrets, "secret", nil, "secret for the build, id=ID,src=FILE or id=ID,env=NAME")
	fs.StringArrayVar(&f.ssh, "ssh", nil, "SSH agent or keys for the build, default or ID=SOCKET or ID=KEY")
	fs.BoolVar(&f.noCache, "no-cache", false, "do not use the cache")
	fs.StringArrayVar(&f.noCacheStage, "no-cache-filter", nil, "do not use the cache for these stages")
	fs.BoolVar(&f.pull, "pull", false, "ask the registry for base images even if the node has them")
	fs.StringArrayVar(&f.cacheFrom, "cache-from", nil, "cache to read, for example type=registry,ref=app:cache")
	f.runFlags.register(fs)
	fs.StringArrayVar(&f.builders, "builder", nil, builderUsage)
	fs.StringArrayVar(&f.nodeFor, "node-for", nil, "the node for some targets, by its name: linux/arm64=arm1")
	fs.StringVar(&f.progress, "progress", os.Getenv("BUILDKIT_PROGRESS"), "progress: auto, tty, plain, rawjson or quiet")
}

// register declares all flags of "manifold build".
func (f *buildFlags) register(fs *pflag.FlagSet) {
	f.registerInput(fs)
	fs.StringArrayVarP(&f.tags, "tag", "t", nil, "name of the result, for example ghcr.io/app/app:1.0; may be repeated")
	fs.BoolVar(&f.dryRun, "dry-run", false, "show what would run where, and build nothing")
	fs.StringVar(&f.call, "call", "build", "what is done with the Dockerfile: build, check, outline or targets; with ,format=json for programs")
	fs.BoolVar(&f.check, "check", false, "shorthand for --call=check: look for mistakes in the Dockerfile, and build nothing")
	fs.BoolVarP(&f.debug, "debug", "D", false, "print what libraries log, and where an error came from")
	fs.BoolVar(&f.keepGoing, "keep-going", true, "build the other targets to their end when one has failed, and report all that did")
	fs.BoolVar(&f.failFast, "fail-fast", false, "end the build when the first target has failed")
	fs.StringArrayVar(&f.optional, "optional", nil, "targets that may be missing from the result if they fail, as linux/riscv64; the index says so")
	fs.StringArrayVar(&f.cache, "cache", nil, "cache in a registry that is read and written, for example app:cache")
	fs.StringVar(&f.targetTag, "target-tag", "", "template of further tags, one for each target, for example '{{.Tag}}-{{.Arch}}'")
	fs.StringArrayVar(&f.labels, "label", nil, "label of every image, NAME=VALUE")
	fs.StringArrayVar(&f.annotations, "annotation", nil, "annotation, [TYPE[PLATFORM]:]NAME=VALUE; TYPE is manifest, index, manifest-descriptor or index-descriptor")
	fs.StringArrayVar(&f.cacheTo, "cache-to", nil, "cache to write, for example type=registry,ref=app:cache,mode=max")
	fs.StringArrayVarP(&f.outputs, "output", "o", nil, "where the result goes, for example type=oci,dest=app.tar; a path alone is type=local")
	fs.BoolVar(&f.push, "push", false, "publish the result under its tags")
	fs.BoolVar(&f.load, "load", false, "load the result into Docker, Podman or containerd: of several targets the image for this machine")
	fs.StringArrayVar(&f.attest, "attest", nil, "attestation, type=sbom or type=provenance with parameters")
	fs.StringVar(&f.sbom, "sbom", "", "shorthand for --attest type=sbom: true, false or parameters")
	fs.StringVar(&f.provenance, "provenance", "", "shorthand for --attest type=provenance: true, false or parameters (default false: it makes every index different)")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print only the result")
	fs.StringVar(&f.metadataFile, "metadata-file", "", "write the result as JSON to this file")
	f.registryFlags.register(fs)
	fs.StringVar(&f.iidFile, "iidfile", "", "write the image's ID to this file: its config's digest, or the digest of an index")
}

// request translates the flags. It asks nothing of a node.
func (f *buildFlags) request(dir string) (builder.Request, error) {
	r := builder.Request{
		Context: dir, Tags: f.tags, TargetTag: f.targetTag, Push: f.push, Pull: f.pull, NoCache: f.noCache,
		NoCacheStages: f.noCacheStage, MaxParallelism: f.parallelism, Toolchains: f.toolchains,
	}
	if err := builder.CheckContext(dir); err != nil {
		return r, err
	}
	if err := f.nodes(&r); err != nil {
		return r, err
	}
	if f.parallelism < 0 {
		return r, fmt.Errorf("--max-parallelism is how many targets are built at once, not %d", f.parallelism)
	}
	var err error
	if r.Targets, err = f.targets(); err != nil {
		return r, err
	}
	if err := f.overrides(&r); err != nil {
		return r, err
	}
	if r.BuildArgs, err = arguments(f.buildArgs); err != nil {
		return r, err
	}
	if err := proxies(r.BuildArgs); err != nil {
		return r, err
	}
	if err := f.write(&r); err != nil {
		return r, err
	}
	if r.Labels, err = labels(f.labels); err != nil {
		return r, err
	}
	if r.Contexts, err = pairs("--build-context", f.contexts); err != nil {
		return r, err
	}
	if r.Annotations, err = annotations(f.annotations); err != nil {
		return r, err
	}
	if r.Attest, err = f.attestations(); err != nil {
		return r, err
	}
	if r.Outputs, err = outputs(f.outputs); err != nil {
		return r, err
	}
	if len(f.ssh) == 0 && isGitSSH(dir) {
		f.ssh = []string{"default"} // as docker buildx does
	}
	if r.Session, err = f.session(); err != nil {
		return r, err
	}
	from, to := slices.Concat(f.cacheFrom, f.cache), slices.Clone(f.cacheTo)
	for _, ref := range f.cache {
		to = append(to, "type=registry,mode=max,image-manifest=true,oci-mediatypes=true,ref="+ref)
	}
	if r.CacheFrom, err = build.ParseImportCache(longCache(from)); err != nil {
		return r, fmt.Errorf("--cache-from: %w", err)
	}
	if r.CacheTo, err = build.ParseExportCache(longCache(to)); err != nil {
		return r, fmt.Errorf("--cache-to: %w", err)
	}
	return r, nil
}

// nodes reads the flags that say where targets are built, and which may fail.
func (f *buildFlags) nodes(r *builder.Request) error {
	f.placement = builder.Placement{}
	for _, v := range f.nodeFor {
		scope, name, ok := strings.Cut(v, "=")
		p, err := platforms.ParsePattern(scope)
		if err == nil && (!ok || name == "") {
			err = errors.New("it is written PLATFORM=NODE")
		}
		if err != nil {
			return fmt.Errorf("--node-for %s: %w", v, err)
		}
		f.placement.Pins = append(f.placement.Pins, builder.Pin{Pattern: p, Node: name})
	}
	for _, v := range f.optional {
		for scope := range strings.SplitSeq(v, ",") {
			p, err := platforms.ParsePattern(scope)
			if err != nil {
				return fmt.Errorf("--optional %s: %w", v, err)
			}
			r.Optional = append(r.Optional, p)
		}
	}
	r.FailFast = f.failFast || !f.keepGoing
	return nil
}

// local is the keyword for the node's own platform.
const local = "local"

// targets reads --platform but for the keyword local, which only the node can explain.
func (f *buildFlags) targets() ([]platforms.Platform, error) {
	if usual := os.Getenv("DOCKER_DEFAULT_PLATFORM"); len(f.platforms) == 0 && usual != "" {
		f.platforms = []string{usual}
	}
	names := strings.Join(f.platforms, ",")
	if slices.Contains(strings.Split(names, ","), local) {
		return nil, nil
	}
	return platforms.ParseList(names)
}

// local puts the node's own platform where --platform says local.
func (f *buildFlags) local(r *builder.Request, node *builder.Node) error {
	names := strings.Split(strings.Join(f.platforms, ","), ",")
	for i, name := range names {
		if name == local {
			names[i] = node.Host.Native.String()
		}
	}
	var err error
	r.Targets, err = platforms.ParseList(strings.Join(names, ","))
	return err
}

// arguments reads --build-arg. A name without a value takes the environment's, and is left out where that has none.
// SOURCE_DATE_EPOCH is passed on from the environment, as docker buildx does.
func arguments(list []string) (map[string]string, error) {
	out := map[string]string{}
	if epoch, ok := os.LookupEnv("SOURCE_DATE_EPOCH"); ok {
		out["SOURCE_DATE_EPOCH"] = epoch
	}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if name == "" {
			return nil, fmt.Errorf("--build-arg %q has no name", s)
		}
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				continue
			}
		}
		out[name] = value
	}
	return out, nil
}

// labels reads --label. A name alone is an empty label.
func labels(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		name, value, _ := strings.Cut(s, "=")
		if name == "" {
			return nil, fmt.Errorf("--label %q has no name", s)
		}
		out[name] = value
	}
	return out, nil
}

func pairs(flag string, list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s %q is not written name=value", flag, s)
		}
		out[name] = value
	}
	return out, nil
}

// annotations reads --annotation into the keys of BuildKit's exporters.
func annotations(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--annotation %q is not written [TYPE[PLATFORM]:]name=value", s)
		}
		types, name, ok := strings.Cut(key, ":")
		if !ok {
			out["annotation."+key] = value
			continue
		}
		for t := range strings.SplitSeq(types, ",") {
			kind, platform, _ := strings.Cut(strings.TrimSuffix(t, "]"), "[")
			if !slices.Contains([]string{"manifest", "index", "manifest-descriptor", "index-descriptor"}, kind) {
				return nil, fmt.Errorf("--annotation %q: unknown type %q, it is manifest, index, manifest-descriptor or index-descriptor", s, kind)
			}
			if platform != "" {
				p, err := platforms.Parse(platform)
				if err != nil {
					return nil, fmt.Errorf("--annotation %q: %w", s, err)
				}
				kind += "[" + p.String() + "]"
			}
			out["annotation-"+kind+"."+name] = value
		}
	}
	return out, nil
}

// attestations reads --attest and its two shorthands. The last word on a type wins; false takes it out.
func (f *buildFlags) attestations() (map[string]string, error) {
	all := slices.Clone(f.attest)
	for kind, v := range map[string]string{"sbom": f.sbom, "provenance": f.provenance} {
		switch b, err := strconv.ParseBool(v); {
		case v == "":
		case err != nil:
			all = append(all, "type="+kind+","+v)
		default:
			all = append(all, fmt.Sprintf("type=%s,disabled=%t", kind, !b))
		}
	}
	out := map[string]string{}
	for _, s := range all {
		fields, err := csvvalue.Fields(s, nil)
		if err != nil {
			return nil, fmt.Errorf("--attest %q: %w", s, err)
		}
		kind, off, params := "", false, []string{}
		for _, field := range fields {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "type":
				kind = value
			case "disabled":
				if off, err = strconv.ParseBool(value); err != nil {
					return nil, fmt.Errorf("--attest %q: disabled=%q is neither true nor false", s, value)
				}
			default:
				params = append(params, field)
			}
		}
		if kind == "" {
			return nil, fmt.Errorf("--attest %q names no type, sbom or provenance", s)
		}
		out[kind] = strings.Join(params, ",")
		if off {
			delete(out, kind)
		}
	}
	return out, nil
}

// outputs reads --output: a path is type=local, "-" is a tar archive on standard output.
func outputs(list []string) ([]builder.Output, error) {
	var out []builder.Output
	for _, s := range list {
		fields, err := csvvalue.Fields(s, nil)
		if err != nil {
			return nil, fmt.Errorf("--output %q: %w", s, err)
		}
		if len(fields) == 1 && !strings.HasPrefix(s, "type=") {
			kind := client.ExporterLocal
			if s == "-" {
				kind = client.ExporterTar
			}
			out = append(out, builder.Output{Type: kind, Dest: s})
			continue
		}
		o := builder.Output{Attrs: map[string]string{}}
		for _, field := range fields {
			key, value, ok := strings.Cut(field, "=")
			if !ok {
				return nil, fmt.Errorf("--output %q: %q is not written name=value", s, field)
			}
			switch strings.ToLower(key) {
			case "type":
				o.Type = value
			case "dest":
				o.Dest = value
			default:
				o.Attrs[strings.ToLower(key)] = value
			}
		}
		if o.Type == "" {
			return nil, fmt.Errorf("--output %q names no type", s)
		}
		out = append(out, o)
	}
	return out, nil
}

// toStdout reports whether standard output belongs to an archive.
func (f *buildFlags) toStdout() bool {
	list, err := outputs(f.outputs)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(list, func(o builder.Output) bool {
		archive := o.Type == client.ExporterTar || o.Type == client.ExporterOCI || o.Type == client.ExporterDocker
		return archive && (o.Dest == "" || o.Dest == "-")
	})
}

// session serves the secrets and SSH agents that the flags name.
func (f *buildFlags) session() ([]session.Attachable, error) {
	var out []session.Attachable
	if len(f.secrets) > 0 {
		secrets, err := build.ParseSecret(f.secrets)
		if err != nil {
			return nil, fmt.Errorf("--secret: %w", err)
		}
		out = append(out, secrets)
	}
	if len(f.ssh) > 0 {
		agents, err := build.ParseSSH(f.ssh)
		if err != nil {
			return nil, fmt.Errorf("--ssh: %w", err)
		}
		provider, err := sshprovider.NewSSHAgentProvider(agents)
		if err != nil {
			return nil, fmt.Errorf("--ssh: %w", err)
		}
		out = append(out, provider)
	}
	return out, nil
}

// longCache spells out the shorthand for a cache in a registry, a reference alone.
func longCache(list []string) []string {
	out := slices.Clone(list)
	for i, s := range out {
		if !strings.Contains(s, "=") {
			out[i] = "type=registry,ref=" + s
		}
	}
	return out
}
