package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Registry is a strict registry: a manifest is taken only if its repository holds what it names, blobs belong to repositories, and tags change in one
// step.
type Registry struct {
	// NoReferrers: it has no referrers API. NoMount: it answers a mount with this status; 0 means it mounts.
	NoReferrers bool
	NoMount     int
	// NoTagDelete: it deletes manifests by their digest only, as distribution before version 3.
	NoTagDelete bool
	// TagsAtOnce is how many tags a page of the list holds at most; 0 means as many as are asked for.
	TagsAtOnce int

	mu    sync.Mutex
	repos map[string]*repository
	next  int
}

type repository struct {
	blobs     map[digest.Digest][]byte
	manifests map[digest.Digest]manifest
	tags      map[string]digest.Digest
	uploads   map[string]bool
}

type manifest struct {
	mediaType string
	raw       []byte
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{repos: map[string]*repository{}} }

func (r *Registry) repo(name string) *repository {
	if r.repos[name] == nil {
		r.repos[name] = &repository{map[digest.Digest][]byte{}, map[digest.Digest]manifest{}, map[string]digest.Digest{}, map[string]bool{}}
	}
	return r.repos[name]
}

// Tag is what a tag names, "" if there is none.
func (r *Registry) Tag(repo, tag string) digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.repo(repo).tags[tag]
}

// Tags are all tags of a repository.
func (r *Registry) Tags(repo string) map[string]digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.repo(repo).tags)
}

// Raw is a manifest's bytes, nil if it is not there.
func (r *Registry) Raw(repo string, d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.repo(repo).manifests[d].raw
}

// PutBlob stores a blob, PutManifest a manifest, unchecked, and tags it if tag is not "".
func (r *Registry) PutBlob(repo string, mediaType string, raw []byte) ocispec.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := digest.FromBytes(raw)
	r.repo(repo).blobs[d] = raw
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

// PutManifest stores a manifest.
func (r *Registry) PutManifest(repo, tag, mediaType string, raw []byte) ocispec.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := digest.FromBytes(raw)
	r.repo(repo).manifests[d] = manifest{mediaType, raw}
	if tag != "" {
		r.repo(repo).tags[tag] = d
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

// Drop removes a blob or a manifest.
func (r *Registry) Drop(repo string, d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.repo(repo).blobs, d)
	delete(r.repo(repo).manifests, d)
}

// Complete returns an error unless everything that a digest stands for is in the repository.
func (r *Registry) Complete(repo string, d digest.Digest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.repo(repo).complete(d)
}

func (p *repository) complete(d digest.Digest) error {
	m, ok := p.manifests[d]
	if !ok {
		return fmt.Errorf("manifest %s is not there", d)
	}
	if digest.FromBytes(m.raw) != d {
		return fmt.Errorf("manifest %s has other bytes", d)
	}
	return p.needs(m.raw, func(d digest.Digest) error { return p.complete(d) })
}

// needs checks what a manifest names.
func (p *repository) needs(raw []byte, child func(digest.Digest) error) error {
	var doc struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Config    *ocispec.Descriptor  `json:"config"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return err
	}
	for _, m := range doc.Manifests {
		if err := child(m.Digest); err != nil {
			return err
		}
	}
	blobs := doc.Layers
	if doc.Config != nil {
		blobs = append(blobs, *doc.Config)
	}
	for _, b := range blobs {
		if int64(len(p.blobs[b.Digest])) != b.Size {
			return fmt.Errorf("blob %s is not there", b.Digest)
		}
	}
	return nil
}

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	if !ok || path == "" {
		return
	}
	for _, kind := range []string{"/blobs/uploads/", "/blobs/", "/manifests/", "/referrers/", "/tags/list"} {
		name, object, ok := strings.Cut(path, kind)
		if !ok {
			continue
		}
		switch kind {
		case "/blobs/uploads/":
			r.upload(w, req, name, object)
		case "/blobs/":
			r.blob(w, req, name, digest.Digest(object))
		case "/manifests/":
			r.manifest(w, req, name, object)
		case "/referrers/":
			r.referrers(w, name, digest.Digest(object))
		case "/tags/list":
			r.list(w, req, name)
		}
		return
	}
	http.NotFound(w, req)
}

// list answers with tags, in pages (distribution-spec, "Listing Tags").
func (r *Registry) list(w http.ResponseWriter, req *http.Request, name string) {
	tags := slices.Sorted(maps.Keys(r.Tags(name)))
	if len(tags) == 0 {
		fail(w, http.StatusNotFound, "NAME_UNKNOWN", "no such repository")
		return
	}
	if last := req.URL.Query().Get("last"); last != "" {
		tags = slices.DeleteFunc(tags, func(tag string) bool { return tag <= last })
	}
	n, err := strconv.Atoi(req.URL.Query().Get("n"))
	if err != nil || r.TagsAtOnce > 0 && n > r.TagsAtOnce {
		n = max(r.TagsAtOnce, 1)
	}
	if n < len(tags) {
		tags = tags[:n]
		w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?n=%d&last=%s>; rel="next"`, name, n, tags[n-1]))
	}
	_, _ = w.Write(Encode(map[string]any{"name": name, "tags": tags}))
}

func (r *Registry) upload(w http.ResponseWriter, req *http.Request, name, session string) {
	switch req.Method {
	case http.MethodPost:
		r.mu.Lock()
		defer r.mu.Unlock()
		p := r.repo(name)
		if mount := digest.Digest(req.URL.Query().Get("mount")); mount != "" && r.NoMount == 0 {
			if raw, ok := r.repo(req.URL.Query().Get("from")).blobs[mount]; ok {
				p.blobs[mount] = raw
				w.WriteHeader(http.StatusCreated)
				return
			}
		} else if mount != "" && r.NoMount != http.StatusAccepted {
			w.WriteHeader(r.NoMount)
			return
		}
		r.next++
		id := strconv.Itoa(r.next)
		p.uploads[id] = true
		w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id+"?state=x")
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		raw, err := io.ReadAll(req.Body)
		d := digest.Digest(req.URL.Query().Get("digest"))
		r.mu.Lock()
		defer r.mu.Unlock()
		p := r.repo(name)
		if !p.uploads[session] {
			fail(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload")
			return
		}
		delete(p.uploads, session)
		if err != nil || digest.FromBytes(raw) != d {
			fail(w, http.StatusBadRequest, "DIGEST_INVALID", "the digest does not match")
			return
		}
		p.blobs[d] = raw
		w.WriteHeader(http.StatusCreated)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// Encode is JSON of a value that has one.
func Encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}}))
}

func (r *Registry) blob(w http.ResponseWriter, req *http.Request, name string, d digest.Digest) {
	r.mu.Lock()
	raw, ok := r.repo(name).blobs[d]
	r.mu.Unlock()
	if !ok {
		fail(w, http.StatusNotFound, "BLOB_UNKNOWN", "no such blob")
		return
	}
	var from int64
	if _, err := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-", &from); err == nil && from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(raw)-1, len(raw)))
		w.Header().Set("Content-Length", strconv.Itoa(len(raw)-int(from)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(raw[from:])
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(http.StatusOK)
	if req.Method == http.MethodGet {
		_, _ = io.Copy(w, bytes.NewReader(raw))
	}
}

func (r *Registry) manifest(w http.ResponseWriter, req *http.Request, name, object string) {
	if req.Method == http.MethodPut {
		r.put(w, req, name, object)
		return
	}
	r.mu.Lock()
	p := r.repo(name)
	d := digest.Digest(object)
	if !strings.Contains(object, ":") {
		d = p.tags[object]
	}
	m, ok := p.manifests[d]
	if ok && req.Method == http.MethodDelete {
		p.remove(object, r.NoTagDelete, w)
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	if !ok {
		fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "no such manifest")
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Length", strconv.Itoa(len(m.raw)))
	w.WriteHeader(http.StatusOK)
	if req.Method == http.MethodGet {
		_, _ = w.Write(m.raw)
	}
}

// remove deletes a tag, or a manifest with its tags.
func (p *repository) remove(object string, noTags bool, w http.ResponseWriter) {
	switch byDigest := strings.Contains(object, ":"); {
	case byDigest:
		delete(p.manifests, digest.Digest(object))
		maps.DeleteFunc(p.tags, func(_ string, d digest.Digest) bool { return d.String() == object })
	case noTags:
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	default:
		delete(p.tags, object)
	}
	w.WriteHeader(http.StatusAccepted)
}

func (r *Registry) put(w http.ResponseWriter, req *http.Request, name, object string) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	d := digest.FromBytes(raw)
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.repo(name)
	err = p.needs(raw, func(d digest.Digest) error {
		if _, ok := p.manifests[d]; !ok {
			return fmt.Errorf("manifest %s is not there", d)
		}
		return nil
	})
	switch {
	case err != nil:
		fail(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", err.Error())
		return
	case strings.Contains(object, ":") && object != d.String():
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", "the digest does not match")
		return
	}
	p.manifests[d] = manifest{req.Header.Get("Content-Type"), raw}
	if !strings.Contains(object, ":") {
		p.tags[object] = d
	}
	var doc struct {
		Subject *ocispec.Descriptor `json:"subject"`
	}
	if json.Unmarshal(raw, &doc) == nil && doc.Subject != nil && !r.NoReferrers {
		w.Header().Set("Oci-Subject", doc.Subject.Digest.String())
	}
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
}

func (r *Registry) referrers(w http.ResponseWriter, name string, subject digest.Digest) {
	if r.NoReferrers {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	list := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	for d, m := range r.repo(name).manifests {
		var doc struct {
			ArtifactType string              `json:"artifactType"`
			Subject      *ocispec.Descriptor `json:"subject"`
		}
		if json.Unmarshal(m.raw, &doc) == nil && doc.Subject != nil && doc.Subject.Digest == subject {
			list.Manifests = append(list.Manifests, ocispec.Descriptor{MediaType: m.mediaType, Digest: d, Size: int64(len(m.raw)), ArtifactType: doc.ArtifactType})
		}
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	_, _ = w.Write(Encode(list))
}
