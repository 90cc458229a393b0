#!/bin/bash
# Everything that has to pass before a change lands, from a bare clone, on two cores in well under 45 minutes.
# Steps run one after the other; each is a script that can be run by itself.
set -euo pipefail
cd "$(dirname "$0")/.."

export CI=true
export MARTLET_STRICT=1          # our warnings are errors
export SWIFT_BACKTRACE=enable=no # a crash ends the process instead of printing for a minute
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 skipped=0

step() {
    local name=$1 began=$SECONDS
    shift
    echo "== $name"
    "$@" || {
        echo "== $name failed after $((SECONDS - began)) s: $*"
        echo "$passed passed, $((failed + 1)) failed, $skipped skipped"
        exit 1
    }
    echo "== $name: $((SECONDS - began)) s"
}

# The release binary runs without a Swift toolchain and carries neither libcurl nor FoundationNetworking.
check_binary() {
    local libraries
    libraries=$(ldd .build/release/martlet)
    if grep -E 'FoundationNetworking|libcurl|libswift|libFoundation' <<<"$libraries"; then
        echo "the release binary must not link these"
        return 1
    fi
    .build/release/martlet --help >/dev/null
}

# Swift Testing's closing lines look like: Test run with 12 tests in 3 suites passed after 0.1 seconds.
unit_tests() {
    # They take two minutes; a test that hangs is not waited for.
    timeout --signal=ABRT 900 swift test --skip-build --disable-xctest 2>&1 | tee "$logs/test"
    [ "${PIPESTATUS[0]}" = 0 ] || return 1
    passed=$((passed + $(sed -nE 's/.*Test run with ([0-9]+) tests?.* passed.*/\1/p' "$logs/test" | awk '{ n += $1 } END { print n + 0 }')))
    skipped=$((skipped + $(grep -cE '(Test|Suite) .* skipped' "$logs/test" || true)))
}

# pytest NAME SCRIPT: pytest's closing line looks like: 82 passed, 1 skipped in 78.94s
pytest() {
    "$2" 2>&1 | tee "$logs/$1"
    [ "${PIPESTATUS[0]}" = 0 ] || return 1
    local count word
    for word in passed skipped; do
        count=$(tail -n 1 "$logs/$1" | grep -oE "[0-9]+ $word" | grep -oE '[0-9]+' || true)
        declare -g "$word=$((${!word} + ${count:-0}))"
    done
}

examples() {
    [ -f Examples/Package.swift ] || return 0
    swift build --package-path Examples
}

fuzz() {
    Fuzz/run.sh "${FUZZ_SECONDS:-10}" 2>&1 | tee "$logs/fuzz"
    [ "${PIPESTATUS[0]}" = 0 ] || return 1
    local count
    count=$(sed -nE 's/^fuzz: ([0-9]+) passed.*/\1/p' "$logs/fuzz")
    passed=$((passed + ${count:-0}))
}

step "set-up" Scripts/setup.sh --interop --natlab
step "lint" Scripts/lint.sh
step "build, warnings are errors" swift build --build-tests
step "tests" unit_tests
step "release build" swift build -c release --static-swift-stdlib --product martlet
step "release binary" check_binary
step "examples" examples
step "interop" pytest interop Interop/run.sh
step "behind NATs" pytest natlab Interop/natlab/test.sh
step "fuzz" fuzz

echo "== all of it: $SECONDS s"
grep 'Test run with' "$logs/test" | tail -n 1
tail -n 1 "$logs/interop"
tail -n 1 "$logs/natlab"
echo "$passed passed, $failed failed, $skipped skipped"
