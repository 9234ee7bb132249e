package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/tonistiigi/fsutil"

	"github.com/manifold-build/manifold/platforms"
)

// The names under which the context and the Dockerfile's folder are offered to the frontend, and the options that
// this package sets. Strings cross the border to the gateway in this file only.
const (
	localContext    = "context"
	localDockerfile = "dockerfile"
	defaultFilename = "Dockerfile"
)

var httpURL = regexp.MustCompile(`^https?://`)

// prepare fills a solve's options with all that the frontend reads.
func (r Request) prepare(opt *client.SolveOpt) error {
	attrs := map[string]string{}
	maps.Copy(attrs, r.Options)
	opt.FrontendAttrs = attrs
	opt.LocalMounts = map[string]fsutil.FS{}
	opt.OCIStores = map[string]content.Store{}
	if err := r.prepareContext(opt); err != nil {
		return err
	}
	if err := r.prepareContexts(opt); err != nil {
		return err
	}
	if len(r.Targets) > 0 {
		attrs["platform"] = platforms.Format(r.Targets)
	}
	if r.Stage != "" {
		attrs["target"] = r.Stage
	}
	if r.Strategy != platforms.Auto {
		attrs["manifold:strategy"] = r.Strategy.String()
	}
	for _, o := range r.PerTarget {
		scope := o.Pattern.String() + ":"
		if o.Stage != "" {
			attrs[scope+"target"] = o.Stage
		}
		if o.Strategy != platforms.Auto {
			attrs[scope+"manifold:strategy"] = o.Strategy.String()
		}
	}
	for prefix, values := range map[string]map[string]string{"build-arg:": r.BuildArgs, "label:": r.Labels, "attest:": r.Attest} {
		for k, v := range values {
			attrs[prefix+k] = v
		}
	}
	switch {
	case r.NoCache:
		attrs["no-cache"] = ""
	case len(r.NoCacheStages) > 0:
		attrs["no-cache"] = strings.Join(r.NoCacheStages, ",")
	}
	if r.Pull {
		attrs["image-resolve-mode"] = "pull"
	}
	opt.CacheExports, opt.CacheImports = r.CacheTo, r.CacheFrom
	return nil
}

// isRemote reports whether a context is a URL that BuildKit fetches itself.
func isRemote(context string) bool {
	if httpURL.MatchString(context) {
		return true
	}
	_, isGit, err := dfgitutil.ParseGitRef(context)
	return isGit && err == nil
}

// prepareContext offers the context and the folder that holds the Dockerfiles.
func (r Request) prepareContext(opt *client.SolveOpt) error {
	dir := r.Context
	if dir == "" {
		dir = "."
	}
	if isRemote(dir) {
		opt.FrontendAttrs["context"] = dir
		return r.setFilenames(opt, "")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(abs); err != nil || !info.IsDir() {
		return fmt.Errorf("the build context %q is not a folder", r.Context)
	}
	root, err := r.dockerfileRoot(abs)
	if err != nil {
		return err
	}
	for name, path := range map[string]string{localContext: abs, localDockerfile: root} {
		if opt.LocalMounts[name], err = fsutil.NewFS(path); err != nil {
			return fmt.Errorf("%s %s: %w", name, path, err)
		}
	}
	// BuildKit sends only what changed since the last build whose session had the same key.
	sum := sha256.Sum256([]byte(abs))
	opt.SharedKey = "manifold-" + hex.EncodeToString(sum[:8])
	return r.setFilenames(opt, root)
}

// setFilenames names the Dockerfiles, relative to the folder root; as they are if root is empty.
func (r Request) setFilenames(opt *client.SolveOpt, root string) error {
	set := func(key, path string) error {
		if path == "" {
			return nil
		}
		if root != "" {
			abs, err := filepath.Abs(path)
			if err != nil {
				return err
			}
			if _, err := os.Stat(abs); err != nil {
				return fmt.Errorf("the Dockerfile %q cannot be read: %w", path, err)
			}
			if path, err = filepath.Rel(root, abs); err != nil {
				return err
			}
		}
		opt.FrontendAttrs[key] = filepath.ToSlash(path)
		return nil
	}
	if err := set("filename", r.Dockerfile); err != nil {
		return err
	}
	for _, o := range r.PerTarget {
		if err := set(o.Pattern.String()+":filename", o.Dockerfile); err != nil {
			return err
		}
	}
	return nil
}

// dockerfileRoot is the folder that holds every Dockerfile of the request, the context if it names none.
func (r Request) dockerfileRoot(context string) (string, error) {
	paths := []string{}
	if r.Dockerfile != "" {
		paths = append(paths, r.Dockerfile)
	}
	for _, o := range r.PerTarget {
		if o.Dockerfile != "" {
			paths = append(paths, o.Dockerfile)
		}
	}
	if r.Dockerfile == "" && !r.everyTargetHasDockerfile() {
		if _, err := os.Stat(filepath.Join(context, defaultFilename)); err == nil || len(paths) == 0 {
			paths = append(paths, filepath.Join(context, defaultFilename))
		}
	}
	root := ""
	for _, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return "", err
		}
		dir := filepath.Dir(abs)
		if root == "" {
			root = dir
		}
		for !within(root, dir) {
			root = filepath.Dir(root)
		}
	}
	return root, nil
}

func (r Request) everyTargetHasDockerfile() bool {
	for _, t := range r.Targets {
		found := false
		for _, o := range r.PerTarget {
			found = found || o.Dockerfile != "" && o.Pattern.Match(t)
		}
		if !found {
			return false
		}
	}
	return len(r.Targets) > 0
}

// within reports whether the folder dir is root or below it.
func within(root, dir string) bool {
	rel, err := filepath.Rel(root, dir)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// prepareContexts offers the named contexts.
func (r Request) prepareContexts(opt *client.SolveOpt) error {
	for name, value := range r.Contexts {
		key := "context:" + name
		switch {
		case strings.HasPrefix(value, "docker-image://"), strings.HasPrefix(value, "target:"), isRemote(value):
			opt.FrontendAttrs[key] = value
		case strings.HasPrefix(value, "oci-layout://"):
			if err := ociLayout(opt, key, name, strings.TrimPrefix(value, "oci-layout://")); err != nil {
				return fmt.Errorf("build context %s: %w", name, err)
			}
		default:
			info, err := os.Stat(value)
			if err != nil || !info.IsDir() {
				return fmt.Errorf("build context %s: %q is neither a folder nor a docker-image://, oci-layout://, git or https URL", name, value)
			}
			fs, err := fsutil.NewFS(value)
			if err != nil {
				return fmt.Errorf("build context %s: %w", name, err)
			}
			opt.LocalMounts[name] = fs
			opt.FrontendAttrs[key] = "local:" + name
		}
	}
	return nil
}

// ociLayout offers an OCI image layout, DIR[:TAG][@DIGEST], as a named context.
func ociLayout(opt *client.SolveOpt, key, name, spec string) error {
	dir, digest, _ := strings.Cut(spec, "@")
	tag := "latest"
	if i := strings.LastIndex(dir, ":"); i > strings.LastIndex(dir, "/") {
		dir, tag = dir[:i], dir[i+1:]
	}
	store, err := local.NewStore(dir)
	if err != nil {
		return err
	}
	id := "manifold-" + name
	opt.OCIStores[id] = store
	ref := "oci-layout://" + id + ":" + tag
	if digest != "" {
		ref = "oci-layout://" + id + "@" + digest
	}
	opt.FrontendAttrs[key] = ref
	return nil
}
