# Go builds, tests and runs all of this by itself (README.md). Here is what is published.
VERSION ?= $(shell git describe --tags --always --abbrev=12)
IMAGE ?= registry.example.com/vlaring

# Archives, lists of what is built in, and checksums, into dist/: the same bytes for the same commit and Go.
release:
	go run ./tools/release --version $(VERSION)

# One image for linux/amd64 and linux/arm64.
image:
	docker buildx build --platform linux/amd64,linux/arm64 -t $(IMAGE):$(VERSION) --build-arg VERSION=$(VERSION) \
		--build-arg COMMIT=$$(git rev-parse HEAD) --build-arg DATE=$$(TZ=UTC git show -s --date=format-local:%Y-%m-%d --format=%cd HEAD) --push .

.PHONY: release image
