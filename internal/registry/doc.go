// Package registry speaks the OCI distribution protocol (distribution-spec v1.1) to registries that may be slow, failing or hostile.
//
//	c := registry.New(registry.Options{})
//	repo, err := c.Repository(named)
//	desc, raw, err := repo.Manifest(ctx, "1.0")
//
// Hosts, mirrors, certificates and tokens are containerd's: hosts.toml and Docker's certs.d folders are read as containerd reads them. The
// requests are our own, because publishing counts them: a tag is read by one GET and moved by one PUT.
//
// # What every request holds to
//
//	tries                                6, within 120 s; Retry-After is waited for if it is at most 60 s, else the request fails at once
//	waiting for an answer                60 s; 10 min for the end of a blob's upload, which some registries hash before they answer
//	a body that stands still             less than 4 KiB in 30 s, sent or received
//	a manifest, an index, a list page    4 MiB
//	a token server's answer              128 KiB
//	an error's body                      64 KiB
//	pages of a list                      100
//	redirects                            5
//
// Credentials go to the host they are for and to the token server that it names, which has to speak TLS if the registry does. A redirect, an
// upload's Location or a token server may be on another host, but not at a private address and not over plain http, unless the registry
// is; credentials do not go along. Layers' urls are never followed. There is no fallback from TLS to plain http. Errors show no query strings
// and no secret that was sent.
package registry
