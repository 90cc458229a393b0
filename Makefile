# Short names for what one does with Martlet. Every target installs by itself what it needs and lacks.
#   make build | test | demo | interop | natlab | bench | fuzz | lint | ci | clean

SWIFT_BUILD := swift build $(SWIFT_FLAGS)
RELEASE := -c release --static-swift-stdlib
SECONDS_PER_TARGET ?= 20

.PHONY: build test demo interop natlab bench fuzz lint format ci clean setup

build: setup
	$(SWIFT_BUILD) $(RELEASE) --product martlet
	@echo "built .build/release/martlet"

test: setup
	swift test --disable-xctest $(SWIFT_FLAGS)

demo: build
	Scripts/setup.sh --demo
	Scripts/demo.sh

# Against rust-libp2p (Lattica), go-libp2p (p2pd) and py-libp2p, in both directions.
# Then behind NATs of every kind, in namespaces: a selection of what `natlab` does.
interop: build
	Scripts/setup.sh --interop --natlab
	Interop/run.sh
	Interop/natlab/test.sh

# Every pair of NATs: what is possible, which path Martlet gets; fetches and calls while paths change. Needs root; 20 minutes.
natlab: build
	Scripts/setup.sh --interop --natlab
	$(SWIFT_BUILD) $(RELEASE) --product interop-node
	Interop/natlab/natlab.sh classify
	Interop/natlab/natlab.sh punch
	Interop/natlab/natlab.sh moves
	Interop/natlab/run.sh --jobs 4

bench: build
	Scripts/setup.sh --interop
	Benchmarks/run.sh

fuzz: setup
	Fuzz/run.sh $(SECONDS_PER_TARGET)

lint:
	Scripts/lint.sh

format:
	swift format format --in-place --parallel --recursive Sources Tests Examples Fuzz Interop Package.swift

ci:
	Scripts/ci.sh

setup:
	@Scripts/setup.sh

clean:
	rm -rf .build Fuzz/.build Examples/.build Interop/Node/.build
