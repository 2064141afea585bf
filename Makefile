# Every target is listed by `make help`; what they do lives in scripts/.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD = CGO_ENABLED=0 go build -trimpath -ldflags='-s -w -X main.version=$(VERSION)'
PROGRAMS = ./registrator ./confgen ./examples/web

# Tests that need real parts stand behind build tags: "real" for those with a
# Consul server, HAProxy, nginx or a Docker Engine, "cluster" for those on
# scripts/cluster. What is left out is left out by name, never skipped.
TAGS = real,cluster
PACKAGES ?= ./...
TIMEOUT ?= 40m
# How many times longer than a test alone would, tests wait for what must come.
PATIENCE ?= 4
CONSUL = FAIRWAY_CONSUL="$$(scripts/get-consul)"
PROXIES = FAIRWAY_PROXIES="$$(scripts/get-proxies)"

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## static binaries of this machine's kind in bin/
	$(BUILD) -o bin/ $(PROGRAMS)

ARCHS ?= amd64 arm64

.PHONY: build-linux
build-linux: $(ARCHS:%=build-linux-%) ## static binaries for the images in bin/linux-*/ (ARCHS="amd64 arm64")

build-linux-%:
	@mkdir -p bin/linux-$*
	GOOS=linux GOARCH=$* $(BUILD) -o bin/linux-$*/ $(PROGRAMS)

.PHONY: images
images: build-linux ## fairway/registrator, fairway/confgen and fairway/web, each under 25 MB (ARCHS)
	scripts/setup docker dockerd iptables ip curl setsid flock
	scripts/engine up
	env $$(scripts/engine env) scripts/images $(ARCHS:%=linux/%)

.PHONY: demo
demo: ## show it all on this machine (PORT=8080); SWARM=1: on a Swarm of four nodes
	scripts/setup
	SWARM=$(SWARM) scripts/demo

.PHONY: demo-down
demo-down: ## remove every trace of the demo
	SWARM=$(SWARM) scripts/demo down

.PHONY: test
test: ## everything, on real parts; installs what is missing (Debian or Ubuntu, root)
	scripts/setup
	@# Once, before packages that put the programs into images run side by side. -count=1: Go does not know that
	@# tests run programs that were built elsewhere, and would call an old result theirs.
	@$(MAKE) --no-print-directory build-linux ARCHS="$$(go env GOARCH)"
	FAIRWAY_PATIENCE=$(PATIENCE) $(CONSUL) $(PROXIES) go test -count=1 -race -tags $(TAGS) -timeout $(TIMEOUT) $(PACKAGES)

.PHONY: test-quick
test-quick: ## pure, time and wire tests; needs Go only
	go test -timeout 5m $(PACKAGES)

DURATION ?= 30m

.PHONY: soak
soak: ## random trouble for DURATION=30m, the catalog held against the engine; SEED=… repeats the choices
	scripts/setup
	$(CONSUL) SOAK_DURATION="$(DURATION)" SOAK_SEED="$(SEED)" go test -count=1 -tags soak -v -timeout 24h ./internal/soak

TIMES ?= 20

.PHONY: faults
faults: ## the tests in which Consul, Docker, a node or registrator fails, TIMES=20 times in a row
	scripts/setup
	$(CONSUL) go test -race -tags $(TAGS) -timeout 4h -count=$(TIMES) ./registrator/liveness
	$(CONSUL) go test -race -tags $(TAGS) -timeout 4h -count=$(TIMES) -run 'Outages|awayAtTheStart|Refusals|Ownership|Exit|ACL_C106' ./registrator

.PHONY: bench
bench: ## how fast a new container answers, beside other tools where they are on PATH (PATTERN=…)
	scripts/setup
	$(CONSUL) scripts/bench $(PATTERN)

.PHONY: lint
lint: ## golangci-lint for Go, shellcheck for the scripts
	scripts/setup shellcheck flock
	"$$(scripts/build-tool lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint)" run
	grep -rlIE --exclude-dir=testdata '^#!/bin/(ba)?sh' scripts .ci | xargs shellcheck -x -P SCRIPTDIR

.PHONY: cover
cover: ## test coverage of all packages: cover.out and cover.html
	scripts/setup
	FAIRWAY_PATIENCE=$(PATIENCE) $(CONSUL) $(PROXIES) go test -count=1 -tags $(TAGS) -timeout $(TIMEOUT) -coverpkg=./... -coverprofile=cover.out $(PACKAGES)
	go tool cover -html=cover.out -o cover.html
	go tool cover -func=cover.out | tail -1

.PHONY: docs
docs: ## write the flag reference from the programs' flags
	go generate ./...

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin cover.out cover.html
