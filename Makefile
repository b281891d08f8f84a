# Every target installs what it needs first. `make help` lists them.
SHELL := /bin/sh
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
export NODE_NO_WARNINGS := 1
NPM := npm --no-update-notifier --no-fund --no-audit --loglevel=error
.DEFAULT_GOAL := help
.PHONY: help demo test unit integration chart test-cluster hostile fuzz conformance coverage bench generate verify accept-slice e2e accept-operator accept-identity accept-identity-sample accept-ssh accept-ssh-sample campaign cluster cluster-down image clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

node_modules/.installed: package.json package-lock.json .npmrc
	@echo "Installing packages (about 30 s the first time) ..."
	@$(NPM) ci
	@touch $@

demo: node_modules/.installed ## Tell the whole story on this machine; KEEP=1 leaves it running to try by hand
	@scripts/tools.sh demo
	@node scripts/demo/main.ts

test: node_modules/.installed ## Unit, integration, hostile, chart and cluster tests against real servers
	@scripts/tools.sh test
	@node scripts/test.ts unit integration hostile chart cluster

unit: node_modules/.installed ## Unit tests alone (seconds)
	@node scripts/test.ts unit

integration: node_modules/.installed ## Integration tests against real servers
	@scripts/tools.sh test
	@node scripts/test.ts integration

chart: node_modules/.installed ## The Helm chart under Helm 3 and Helm 4
	@node scripts/test.ts chart

test-cluster: node_modules/.installed ## Tests against a real Kubernetes API server; builds one if need be (Go, some minutes once)
	@scripts/tools.sh test
	@scripts/cluster/binaries.sh control >/dev/null
	@node scripts/test.ts cluster

hostile: node_modules/.installed ## Attempts to leak, bypass and break
	@scripts/tools.sh test
	@node scripts/test.ts hostile

fuzz: node_modules/.installed ## Fuzzing with a seeded sample; FUZZ_RUNS=100000 for more
	@node scripts/test.ts fuzz

conformance: node_modules/.installed ## Other people's drivers and clients through the gateway
	@scripts/tools.sh conformance
	@node scripts/test.ts conformance

coverage: node_modules/.installed ## Line coverage of the policy engine and the PostgreSQL protocol
	@scripts/tools.sh test
	@node scripts/coverage.ts

bench: node_modules/.installed ## Measure against direct and peers; writes docs/performance.md. BENCH_SECONDS, BENCH_ROUNDS
	@scripts/tools.sh bench
	@node test/bench/main.ts

generate: node_modules/.installed ## Rewrite everything that is generated: CRDs, reference
	@node scripts/generate.ts

verify: node_modules/.installed ## What must hold before a change lands: generated files, lint, types, tests
	@node scripts/generate.ts --check
	@npm run --silent lint
	@npm run --silent types
	@$(MAKE) --no-print-directory test

accept-slice: node_modules/.installed ## Run every acceptance criterion of the PostgreSQL slice, one line each
	@scripts/tools.sh conformance
	@scripts/tools.sh bench
	@node test/acceptance/slice.ts

e2e: node_modules/.installed ## The first access, end to end on a Kubernetes of this machine's own (root)
	@node test/acceptance/operator.ts story

accept-operator: node_modules/.installed ## Run every acceptance criterion of the operator, one line each (root)
	@node test/acceptance/operator.ts

accept-identity: node_modules/.installed ## Run every acceptance criterion of identity and approvals, one line each (Java 17; root for psql 18)
	@scripts/tools.sh conformance
	@scripts/tools.sh identity
	@node test/acceptance/identity.ts

accept-identity-sample: node_modules/.installed ## What of accept-identity runs in four minutes; Keycloak where it can be had
	@scripts/cluster/binaries.sh control >/dev/null
	@if scripts/tools.sh keycloak; then keycloak=idp; else echo 'skipped: what needs Keycloak'; fi; \
	  ACCEPT_TRIALS=$(or $(ACCEPT_TRIALS),12) ACCEPT_SECONDS=150 node test/acceptance/identity.ts tokens approvals breakglass $$keycloak

accept-ssh: node_modules/.installed ## Run every acceptance criterion of SSH, one line each (root for its cluster)
	@scripts/tools.sh ssh
	@node test/acceptance/ssh.ts

accept-ssh-sample: node_modules/.installed ## What of accept-ssh needs neither a quiet machine nor long: three minutes
	@scripts/tools.sh ssh
	@ACCEPT_TRIALS=$(or $(ACCEPT_TRIALS),3) ACCEPT_MB=$(or $(ACCEPT_MB),16) node test/acceptance/ssh.ts openssh clients auth commands

campaign: node_modules/.installed ## The slow suites at full size, by hand
	@FUZZ_RUNS=20000 $(MAKE) --no-print-directory fuzz
	@ACCEPT_FULL=1 $(MAKE) --no-print-directory accept-slice
	@BENCH_SECONDS=10 BENCH_ROUNDS=5 $(MAKE) --no-print-directory bench

cluster: node_modules/.installed ## A Kubernetes on this machine; SIZE=control for its API alone. eval "$$(make -s cluster)" uses it
	@node scripts/cluster/up.ts --size $(or $(SIZE),node) $(if $(CLUSTER_FOLDER),--folder $(CLUSTER_FOLDER))

cluster-down: node_modules/.installed ## End that cluster and all its pods
	@node scripts/cluster/down.ts $(if $(CLUSTER_FOLDER),--folder $(CLUSTER_FOLDER))

image: node_modules/.installed ## Build image/out/*.oci.tar; ARCH=amd64, arm64 or all
	@node image/build.ts $(if $(ARCH),--architecture $(ARCH))

clean: ## Remove installed packages and build output
	@rm -rf node_modules dist coverage
