package index

import (
	"errors"

	"github.com/containerd/errdefs"

	"github.com/manifold-build/manifold/internal/registry"
)

// What a program can tell of an error by [errors.Is]. Whoever answered so, the registry, a mirror or a token server, is in the [StatusError] that is wrapped.
var (
	// ErrNotFound is wrapped by the error of a reference that the registry does not know.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized is wrapped where credentials are missing or are not accepted (status 401). It is containerd's error of that meaning.
	ErrUnauthorized = errdefs.ErrUnauthenticated
	// ErrDenied is wrapped where credentials do not suffice (status 403). It is containerd's error of that meaning.
	ErrDenied = errdefs.ErrPermissionDenied
	// ErrTooManyRequests is wrapped where a registry still asks to come back later after all tries (status 429). It is containerd's error of that meaning.
	ErrTooManyRequests = errdefs.ErrResourceExhausted
)

type (
	// StatusError is an answer of a registry, or of its token server, that is no success.
	StatusError = registry.StatusError
	// PolicyError is a request that is not sent, because of where a registry sends us.
	PolicyError = registry.PolicyError
	// ContentError is content that is not what its descriptor says.
	ContentError = registry.ContentError
)
