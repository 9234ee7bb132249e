#!/bin/sh
# Builds the program, and writes into it what machine it was built on.
set -e
export CGO_ENABLED=0
go build -ldflags "-X main.machine=$(uname -m)" -o /out/app .
