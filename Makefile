# Everything here needs Go, git and root; what else is missing is built or installed on the way.
SANDBOX = go run ./integration/cmd/sandbox

.PHONY: cluster docs help toolchains demo test unit race lint vuln conformance bench differential corpus gate-corpus nightly image fuzz

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-12s %s\n", $$1, $$2}'

demo: ## build an example for five platforms on a private BuildKit, publish it, run each image
	@$(SANDBOX) sh examples/demo.sh

test: ## every test, the stories with real daemons included
	@$(SANDBOX) true
	REQUIRE_DAEMON=1 go test -timeout 70m ./...

unit: ## the tests that need no daemon
	go test $$(go list ./... | grep -v /integration)

race: ## the planner's and the frontend's tests with the race detector
	go test -race -short ./frontend/...

lint: ## go vet, golangci-lint and actionlint as pinned in tools/lint
	go vet ./...
	go tool -modfile=tools/lint/go.mod golangci-lint run ./...
	go tool -modfile=tools/lint/go.mod actionlint

vuln: ## known vulnerabilities; asks the Go vulnerability database
	go tool -modfile=tools/lint/go.mod govulncheck ./...

docs: ## write the command reference and the man pages
	UPDATE=1 go test ./cmd/manifold -run TestDocs -count 1

conformance: ## BuildKit's own Dockerfile tests against our frontend, compared with the reference
	go run ./integration/conformance

bench: ## our figures beside the alternatives', in one run
	go run ./integration/bench

toolchains: ## make the tool chain images, an OCI layout for each in toolchain-images
	go run ./integration/cmd/toolchains toolchain-images

image: ## build the frontend image for every platform with itself, into manifold-image.tar
	$(SANDBOX) manifold build --progress=plain -o type=oci,dest=manifold-image.tar .

fuzz: ## each fuzz target for a minute
	go test ./platforms -run '^$$' -fuzz FuzzParse -fuzztime 1m
	go test ./platforms -run '^$$' -fuzz FuzzPattern -fuzztime 1m
	go test ./frontend/dockerfile -run '^$$' -fuzz FuzzParse -fuzztime 1m
	go test ./frontend/dockerfile/source -run '^$$' -fuzz FuzzRun -fuzztime 1m
	go test ./index -run '^$$' -fuzz FuzzParseSpec -fuzztime 1m -fuzzminimizetime 1s
	go test ./index -run '^$$' -fuzz FuzzParseAnnotation -fuzztime 1m
	go test ./verify -run '^$$' -fuzz FuzzCode -fuzztime 1m
	go test ./verify -run '^$$' -fuzz FuzzLayer -fuzztime 1m -fuzzminimizetime 1s

differential: ## every differential case, built moved and emulated, and every story
	MANIFOLD_DIFFERENTIAL=all REQUIRE_DAEMON=1 go test -tags nightly -timeout 360m ./integration -run 'TestMovedIsWhatEmulationMakes|TestSourcesAreBuilt|TestProjectsAreBuilt|TestAccelerated|TestSameBytes|TestStories'

cluster: ## stories in a real Kubernetes, which is compiled first (some ten minutes, once)
	@$(SANDBOX) true
	REQUIRE_DAEMON=1 go test -tags cluster -timeout 90m ./integration -run TestCluster -v

gate-corpus: ## the gate's verdicts on images of Debian's packages, whole and broken, against the recorded ones
	@$(SANDBOX) true
	go run ./integration/gate

corpus: ## plan every Dockerfile below DIR, with reasons, counts and times
	@go run ./integration/cmd/corpus $(DIR)

nightly: differential gate-corpus ## what is slow: every differential case, and 100,000 scripts against real shells
	MANIFOLD_SCRIPTS=100000 MANIFOLD_SEED=$$(date +%Y%m%d) go test -timeout 12h ./frontend/dockerfile/script -run "Test.*AgainstShells"
