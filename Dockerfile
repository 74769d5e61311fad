# One image for both roles: /coordinator (the default) and /worker. Static
# binaries and nothing else: no shell, no user database, nothing to patch.
#
#   docker build -t registry.example.com/vlaring:dev .
#   docker buildx build --platform linux/amd64,linux/arm64 -t registry.example.com/vlaring:dev --push .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags="-s -w" -o /out/ ./cmd/coordinator ./cmd/worker

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/coordinator /out/worker /
USER 65532:65532
ENTRYPOINT ["/coordinator"]
