# One image for both roles: /coordinator (the default) and /worker. Static
# binaries and nothing else: no shell, no user database, nothing to patch.
#
#   docker build -t registry.example.com/vlaring:dev .
#   make image IMAGE=registry.example.com/vlaring VERSION=v1.2.3     # amd64 and arm64, pushed
#
# The binaries are those of `make release` for the same commit and Go. Of the base only
# its Go and its certificates of authorities get into the image. To hold it to
# the byte: --build-arg GO=golang:1.26.8-bookworm@sha256:…
ARG GO=golang:1.26.8-bookworm
FROM --platform=$BUILDPLATFORM ${GO} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=
ARG COMMIT=
ARG DATE=
ENV CLI=github.com/vlaring/vlaring/internal/cli
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOTOOLCHAIN=local \
    go build -trimpath -buildvcs=false -o /out/ \
    -ldflags="-s -w -buildid= -X $CLI.version=$VERSION -X $CLI.commit=$COMMIT -X $CLI.date=$DATE" ./cmd/coordinator ./cmd/worker

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/coordinator /out/worker /
USER 65532:65532
ENTRYPOINT ["/coordinator"]
