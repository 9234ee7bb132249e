package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// What cannot be moved: nobody knows what a script does.
const (
	scripted = `FROM golang:1.26 AS build
WORKDIR /src
COPY . .
RUN sh build.sh

FROM busybox:1.35
COPY --from=build /out/app /bin/app
`
	compiling = "set -e\nuname -m\nexport CGO_ENABLED=0\ngo build -o /out/app .\n"
	// idle is done by the shell and its tools, under emulation whoever builds.
	idle = "set -e\nuname -m\ni=0\nwhile [ $i -lt 20000 ]; do i=$((i+1)); done\nfind /usr/local/go/src -name '*.go' | sort | xargs cat | sha256sum\nmkdir -p /out\ntouch /out/app\n"
)

// What C compilers do most of.
const (
	withC = `FROM golang:1.26-trixie AS build
WORKDIR /src
ENV GOFLAGS=-mod=mod GONOSUMDB=*
COPY . .
RUN go build -o /out/app .

FROM debian:12
COPY --from=build /out/app /bin/app
`
	sqlite = `package main

import (
	"database/sql"
	"fmt"

	_ "github.com/mattn/go-sqlite3"
)

func main() {
	db, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		panic(err)
	}
	var version string
	fmt.Println(db.QueryRow("select sqlite_version()").Scan(&version), version)
}
`
)

// What cargo users have: an argument parser, JSON, an asynchronous run time and the macros of each.
const (
	withCrates = `FROM rust:1.85-trixie AS build
ENV G_SLICE=always-malloc
WORKDIR /src
COPY . .
RUN cargo build --release --offline

FROM debian:12
COPY --from=build /src/target/release/app /bin/app
`
	cratesToml = `[package]
name = "app"
version = "0.1.0"
edition = "2021"

[dependencies]
anyhow = "1"
async-trait = "0.1"
clap = { version = "4", features = ["derive"] }
regex = "1"
serde = { version = "1", features = ["derive"] }
serde_json = "1"
thiserror = "2"
tokio = { version = "1", features = ["macros", "rt"] }
`
	cratesConfig = "[source.crates-io]\nreplace-with = \"debian\"\n[source.debian]\ndirectory = \"crates\"\n"
	cratesMain   = `use clap::Parser;
use serde::{Deserialize, Serialize};

#[derive(Parser, Serialize, Deserialize, Debug)]
struct Args {
    #[arg(long, default_value = "a")]
    name: String,
}

#[derive(thiserror::Error, Debug)]
enum Bad {
    #[error("bad {0}")]
    Name(String),
}

#[async_trait::async_trait]
trait Check {
    async fn check(&self) -> Result<(), Bad>;
}

#[async_trait::async_trait]
impl Check for Args {
    async fn check(&self) -> Result<(), Bad> {
        match regex::Regex::new("^[a-z]+$").unwrap().is_match(&self.name) {
            true => Ok(()),
            false => Err(Bad::Name(self.name.clone())),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Args = serde_json::from_str(&serde_json::to_string(&Args::parse())?)?;
    Ok(args.check().await?)
}
`
)

// crates is a folder that builds a program of crates that others published.
func crates(ctx context.Context, b *sandbox.Bench) (string, error) {
	dir, err := folder(b, map[string]string{"Dockerfile": withCrates, "Cargo.toml": cratesToml, ".cargo/config.toml": cratesConfig, "src/main.rs": cratesMain})
	if err != nil {
		return "", err
	}
	from, err := sandbox.Crates(ctx)
	if err != nil {
		return "", err
	}
	return dir, os.CopyFS(filepath.Join(dir, "crates"), os.DirFS(from))
}

// project is a folder that builds what others wrote.
func project(ctx context.Context, b *sandbox.Bench, name, commands, result string) (string, error) {
	dir, err := folder(b, map[string]string{
		"Dockerfile": "FROM gcc:14-trixie AS build\nWORKDIR /src\nCOPY src .\nRUN " + commands + "\nFROM debian:12\nCOPY --from=build /src/" + result + " /usr/lib/\n",
	})
	if err != nil {
		return "", err
	}
	return dir, sandbox.UnpackSource(ctx, name, filepath.Join(dir, "src"))
}

// stopEmulation is when an emulated build is stopped: crates take it an hour.
const stopEmulation = 15 * time.Minute

// accelerated prepares the figures of strategy=accelerate.
func accelerated(ctx context.Context, b *sandbox.Bench, _ *regexp.Regexp) ([]figure, error) {
	const goMod = "module example.com/app\n\ngo 1.26\n"
	compiles, err := folder(b, map[string]string{"Dockerfile": scripted, "build.sh": compiling, "go.mod": goMod, "main.go": program})
	if err != nil {
		return nil, err
	}
	rests, err := folder(b, map[string]string{"Dockerfile": scripted, "build.sh": idle})
	if err != nil {
		return nil, err
	}
	c, err := project(ctx, b, "zlib", "./configure && make libz.so.1.3.1 libz.a", "libz.so.1.3.1")
	if err != nil {
		return nil, err
	}
	const heavy = "for i in 1 2 3; do printf '#include <fmt/chrono.h>\\n#include <fmt/ranges.h>\\n#include <fmt/color.h>\\n#include <fmt/std.h>\\nstd::string f%s(std::tm t, std::vector<int> v) { return fmt::format(\"{:%%F} {}\", t, v); }\\n' $i >src/part$i.cc; done; " +
		"for f in src/format src/os src/part1 src/part2 src/part3; do g++ -g -O2 -std=c++20 -fPIC -Iinclude -c $f.cc || exit 1; done; g++ -shared -o libfmt.so *.o"
	cc, err := project(ctx, b, "fmt", heavy, "libfmt.so")
	if err != nil {
		return nil, err
	}
	cgo, err := folder(b, map[string]string{"Dockerfile": withC, "go.mod": "module example.com/app\n\ngo 1.26\n\nrequire github.com/mattn/go-sqlite3 v1.14.32\n", "main.go": sqlite})
	if err != nil {
		return nil, err
	}
	rust, err := crates(ctx, b)
	if err != nil {
		return nil, err
	}
	var out []figure
	for _, w := range []struct {
		name, dir string
		faster    float64
	}{
		{"Go in a script that asks uname", compiles, 4}, {"Go with cgo and SQLite's C", cgo, 5},
		{"C: zlib, configure and make", c, 2.5}, {"C++: {fmt} and files that use most of it", cc, 5},
		{"Rust: crates with macros, release", rust, 4},
	} {
		arm64 := ours("linux/arm64", w.dir)
		out = append(out,
			figure{
				name: w.name + ", arm64, cold", rounds: 1, most: 1 / w.faster, stop: stopEmulation,
				ours: cold(b, "manifold", arm64...), theirs: cold(b, "reference frontend", reference("linux/arm64", w.dir)...),
			},
			figure{
				name: w.name + ", arm64 accelerated against native amd64, cold", rounds: 1, most: 2.5,
				ours: cold(b, "arm64", arm64...), theirs: cold(b, "amd64", ours(native, w.dir)...),
			})
	}
	return append(out, figure{
		name: "a script that compiles nothing, arm64, cold", rounds: 5, most: 1.02,
		ours: cold(b, "accelerate", ours("linux/arm64", rests)...), theirs: cold(b, "emulate", append(ours("linux/arm64", rests), "--accelerate=off")...),
	}), nil
}
