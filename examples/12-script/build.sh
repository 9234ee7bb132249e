#!/bin/sh
# build.sh NAME... compiles each program
set -e
cd "$(dirname "$0")"
export CGO_ENABLED=0
for name in "$@"; do
	go build -trimpath -o "/out/$name" .
done
