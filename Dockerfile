# Builds the frontend image for every platform it is published for, by itself: manifold build . (see make image)
#
# manifold: platforms=linux/amd64,linux/arm64,linux/arm/v7,linux/ppc64le,linux/s390x,linux/riscv64
# manifold: strategy=cross
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY platforms platforms
COPY internal internal
COPY verify verify
COPY frontend frontend
COPY cmd/manifold-frontend cmd/manifold-frontend
COPY cmd/manifold-accel cmd/manifold-accel
ARG GOARCH
ARG VERSION=dev
# digests of the tool chain images, "trixie-arm64=sha256:…,…"; what is not there is taken by its tag
ARG TOOLCHAIN_PINS
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X main.version=$VERSION -X github.com/manifold-build/manifold/frontend.toolchainPins=$TOOLCHAIN_PINS" -o /out/ ./cmd/manifold-frontend ./cmd/manifold-accel

FROM scratch
LABEL moby.buildkit.frontend.network.none="true" \
      moby.buildkit.frontend.caps="moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring,moby.buildkit.frontend.contexts.zstd" \
      org.opencontainers.image.title="Manifold" \
      org.opencontainers.image.description="Dockerfile frontend for multi-platform images" \
      org.opencontainers.image.source="https://github.com/manifold-build/manifold" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /bin/
ENTRYPOINT ["/bin/manifold-frontend"]
