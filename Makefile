# Gatehouse. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BINARIES := gatehouse gatehouse-cloud compound-sim
gatehouse_MAIN := ./edge/cmd/gatehouse
gatehouse-cloud_MAIN := ./cloud/cmd/gatehouse-cloud
compound-sim_MAIN := ./drivers/sim/cmd/compound-sim
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '-s -w'

# Debian packages that the tests use as independent peers, and a command that
# works only when the package is there.
PEERS := gcc libc6-dev python3-pymodbus python3-serial-asyncio mbpoll socat mosquitto
gcc_HERE := command -v gcc
libc6-dev_HERE := test -e /usr/include/stdio.h
python3-serial-asyncio_HERE := /usr/bin/python3 -c 'import serial_asyncio'
python3-pymodbus_HERE := /usr/bin/python3 -c 'import pymodbus'
mbpoll_HERE := command -v mbpoll
socat_HERE := command -v socat
mosquitto_HERE := PATH=$$PATH:/usr/sbin command -v mosquitto

.PHONY: help build release demo peers test lint bench fuzz torture proto clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

build: ## build the three programs into bin/, static
	@mkdir -p bin
	@$(foreach b,$(BINARIES),echo "bin/$(b)"; $(GOBUILD) -o bin/$(b) $($(b)_MAIN);)

release: ## cross-build for linux amd64, arm64 and armv7 into dist/
	@for arch in amd64 arm64 arm; do \
	  mkdir -p dist/linux-$$arch; \
	  $(foreach b,$(BINARIES),echo "dist/linux-$$arch/$(b)"; GOOS=linux GOARCH=$$arch GOARM=7 $(GOBUILD) -o dist/linux-$$arch/$(b) $($(b)_MAIN);) \
	done

demo: build ## run a simulated compound, a gateway and a cloud, and watch alarms arrive (DEMO_SECONDS=40 stops by itself)
	@go build -o bin/demo ./cloud/e2e/demo
	@exec bin/demo

peers: # install what the tests talk to; named failure with a hint when that is not possible
	@missing=""; \
	$(foreach p,$(PEERS),{ $($(p)_HERE); } >/dev/null 2>&1 || missing="$$missing $(p)";) \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "make test: missing on this machine:$$missing"; \
	  echo "  install them with: sudo apt-get install$$missing"; exit 1; \
	fi; \
	echo "installing$$missing"; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing >/dev/null

test: peers ## run every test with the race detector, then the parsers of field protocols on random bytes
	go test -race -timeout 10m ./...
	@$(MAKE) --no-print-directory fuzz FUZZDIR='protocol/[^w]' FUZZTIME=3s # all but wire

lint: ## gofmt, vet, staticcheck (import rules are a test)
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt needed:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

bench: build peers ## measure beside a reference; prints a table, writes bench/results.json
	@mkdir -p bench
	go run ./cloud/e2e/bench

fuzz: ## every fuzz target below FUZZDIR (all) for FUZZTIME each (60s)
	@for pkg in $$(git grep -l '^func Fuzz' -- '$(FUZZDIR)*_test.go' | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$pkg/*_test.go | sed 's/func //'); do \
	    echo "== $$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $${FUZZTIME:-60s} ./$$pkg; \
	  done; \
	done

torture: peers ## the long forms of the kill and fault tests (about half an hour)
	GATEHOUSE_TORTURE=1 go test -timeout 60m -count=1 -run 'Kill|Torture' ./...

proto: ## regenerate protocol/wire/wirepb (needs protoc)
	@mkdir -p bin && go build -o bin/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
	PATH=$$PWD/bin:$$PATH protoc --go_out=. --go_opt=module=gatehouse protocol/wire/wire.proto

clean: ## remove what was built
	rm -rf bin dist bench
