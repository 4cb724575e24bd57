# podplumb. `make` alone lists the targets. The two that matter: `sudo make demo` and `sudo make test`.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS   += --no-print-directory --no-builtin-rules

GO            := $(CURDIR)/.ci/go# finds the toolchain where sudo's PATH does not reach
BUILD         := $(CURDIR)/.build
MODULES       := ./... ./examples/... ./internal/compat/...
FUZZTIME      := 5s
BENCH         := .
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help demo test setup vet unit kernel vm vm-older vm-all user bench bench-vm lint cover fuzz-smoke golden clean root

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: root | $(BUILD) ## build a two-node cluster on this machine, prove it with packets, take it down; DEMO='-keep' and other flags go to it
	@$(GO) build -C examples -o $(BUILD)/cluster ./cluster
	@$(BUILD)/cluster $(DEMO)

test: root setup | $(BUILD) ## everything: unit and kernel tests on this kernel, in the guest and without root; then nothing may be left in the kernel
	@.ci/left save $(BUILD)/left
	@trap 'chown -R --reference=. $(BUILD)' EXIT; status=0; .ci/test vet host+older user+guest settle || status=1; .ci/left check $(BUILD)/left || status=1; exit $$status

setup: ## install the programs that the tests call, with apt-get, as far as they are missing
	@.ci/setup

vet: ## go vet; the library for darwin and windows too
	$(GO) vet $(MODULES)
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...

unit: ## all tests as whoever you are; those that need more than you have are skipped
	$(GO) test $(MODULES)

kernel: root ## the tests on this kernel, with the race detector
	@.ci/test host

vm: ## the tests that the last `make kernel` left to the guest
	@.ci/test guest

vm-older: ## the kernel tests of nftables, veth, vxlan, nat and policy on the guest's older kernel; PODPLUMB_VM_KERNEL and PODPLUMB_VM_VERSION name another
	@.ci/test older

vm-all: ## the kernel tests of all packages in the guest
	@.ci/test everything-in-guest

user: ## the kernel tests without root
	@.ci/test user

bench: ## benchmarks of all packages; each gives its ratio to a peer or to the kernel's floor. BENCH=regexp selects
	$(GO) test -run '^$$' -bench '$(BENCH)' -p 1 -timeout 60m $(MODULES) | grep -v -e '^PASS$$' -e 'no test files'

bench-vm: ## the benchmarks of IPVS, in the guest
	@.ci/test bench-in-guest

lint: ## golangci-lint, in all modules
	$(GO) run $(GOLANGCI_LINT) run ./...
	cd examples && $(GO) run $(GOLANGCI_LINT) run ./...
	cd internal/compat && $(GO) run $(GOLANGCI_LINT) run ./...

cover: | $(BUILD) ## coverage by package, and of the library in all
	$(GO) test -coverprofile=$(BUILD)/cover.out ./... | grep -v 'no test files'
	@$(GO) tool cover -func=$(BUILD)/cover.out | tail -n 1

fuzz-smoke: ## every fuzz target for $(FUZZTIME)
	@grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u | while read -r dir; do \
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$dir/*_test.go | while read -r target; do \
			echo "$$dir $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$dir </dev/null; \
		done; \
	done

golden: ## rewrite the expected files of the golden tests and the lists of the exported API; read the diff
	$(GO) test ./internal/rules -update
	@grep -rl --include='*_test.go' 'internal/golden"' . | xargs -n 1 dirname | sort -u | grep -v -e internal/golden -e internal/rules | xargs -I {} $(GO) test {} -update

clean: ## remove what was built here
	rm -rf $(BUILD)

$(BUILD):
	@mkdir $@ && chown --reference=. $@

root:
	@[ "$$(id -u)" = 0 ] || { echo "This makes network namespaces in the kernel and needs root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }
