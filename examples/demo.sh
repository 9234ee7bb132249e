# The demo: run it with make demo. BUILDKIT_HOST is a private BuildKit, REGISTRY a registry on loopback.
set -eu
cd "$(dirname "$0")/01-hello"
image=$REGISTRY/demo/hello:1.0
platforms=linux/amd64,linux/arm64,linux/arm/v7,linux/ppc64le,linux/s390x

step() { printf '\n$ %s\n' "$*"; "$@"; }

# run executes an image's entrypoint as the kernel does it: natively, or through QEMU's handler.
run() {
	root=$(mktemp -d)
	crane export --platform "$2" "$1" - | tar -x -C "$root"
	printf '%-14s ' "$2"
	chroot "$root" /bin/hello
	rm -r "$root"
}

step cat Dockerfile
step manifold nodes
step manifold plan --platform "$platforms" .
step manifold build --platform "$platforms" --test /bin/hello -t "$image" --push .
step manifold verify "$image"
step manifold inspect "$image"
printf '\n# Each platform'\''s image, run on this machine:\n'
for p in $(echo "$platforms" | tr , ' '); do run "$image" "$p"; done
