package main

import (
	"errors"
	"io"
	"os"
	"slices"

	"github.com/containerd/console"
	"github.com/spf13/pflag"

	"github.com/manifold-build/manifold/index"
)

// registryFlags say how registries are reached. Every command that reads or writes one has them.
type registryFlags struct {
	insecure  bool
	plainHTTP bool
	certsDirs []string
	trusted   []string
}

func (f *registryFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.insecure, "insecure", false, "accept any TLS certificate of a registry")
	fs.BoolVar(&f.plainHTTP, "plain-http", false, "speak plain http to registries (loopback addresses are spoken to so anyway)")
	fs.StringArrayVar(&f.certsDirs, "certs-dir", nil, "folder with a folder for each registry, with hosts.toml or *.crt (default certs.d of containerd and Docker)")
	fs.StringArrayVar(&f.trusted, "trusted-host", nil, "host at a private address that a registry may send us to, for example its storage")
}

// client is the one of the command.
func (f *registryFlags) client(s streams) *index.Client {
	opt := index.ClientOptions{Stdout: s.out, Insecure: f.insecure, CertsDirs: slices.Clone(f.certsDirs), Trusted: slices.Clone(f.trusted)}
	if f.plainHTTP {
		opt.PlainHTTP = func(string) (bool, error) { return true, nil }
	}
	return index.NewClient(opt)
}

// result is where the result of a command goes that publishes under names: standard error, if standard output carries an archive. No terminal is sent one.
func (s streams) result(names []string) (io.Writer, error) {
	if !slices.ContainsFunc(names, index.IsStream) {
		return s.out, nil
	}
	if f, ok := s.out.(*os.File); ok {
		if _, err := console.ConsoleFromFile(f); err == nil {
			return nil, errors.New("an archive is not written to a terminal: send standard output to a file or a pipe")
		}
	}
	return s.err, nil
}
