package sandbox

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// cratePackages are Debian's packages of crates that others published, from serde and tokio to SQLite with its build script; each comes with the crates that it
// depends on.
const cratePackages = "librust-anyhow-dev librust-async-trait-dev librust-clap-4-dev librust-clap-derive-dev librust-regex-dev librust-rusqlite-dev librust-serde-derive-dev " +
	"librust-serde-dev librust-serde-json-dev librust-thiserror-dev librust-tokio-dev librust-tokio-macros-dev"

// Crates is a folder of Rust crates that cargo takes as a directory source (The Cargo Book, Source Replacement). They are fetched once for each machine.
func Crates(ctx context.Context) (string, error) {
	key, err := keyOf(nil, "crates-1", cratePackages)
	if err != nil {
		return "", err
	}
	dir, err := kept("crates", key, func(into string) error {
		sayf("fetching Rust crates from Debian")
		work, err := os.MkdirTemp("", "manifold-crates-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(work) }()
		a := apt{dir: work, lists: filepath.Join(work, "lists"), arch: "amd64", suite: "trixie"}
		debs, err := a.withDependencies(ctx, strings.Fields(cratePackages)...)
		if err != nil {
			return err
		}
		crates := make([]string, 0, len(debs))
		for _, deb := range debs {
			if strings.HasPrefix(filepath.Base(deb), "librust-") {
				crates = append(crates, deb)
			}
		}
		return unpackDebs(ctx, crates, into)
	})
	return filepath.Join(dir, "usr/share/cargo/registry"), err
}
