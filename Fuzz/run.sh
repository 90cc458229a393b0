#!/bin/bash
# Fuzzes for a bounded time: Fuzz/run.sh SECONDS [TARGET…]
# Each target first replays its seeds (Corpus/) and everything that ever failed (FailCases/), then searches on from there.
# An input that fails is left in FailCases/TARGET: commit it with the repair. SECONDS = 0 only replays.
# What the search finds on the way is kept in .build/corpus, outside the repository.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-20}
shift || true
if [ $# -gt 0 ]; then
    targets=("$@")
else
    mapfile -t targets < <(cd Sources && printf '%s\n' Fuzz*/ | tr -d /)
fi

# A crash is expected to stop at once: Swift's backtracer would hold the process for a minute.
export SWIFT_BACKTRACE=enable=no
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0:allocator_may_return_null=1}

# The manifest lists the folders it finds; a cached one would not know of a new folder.
swift build --manifest-cache none -c release --sanitize=address -Xswiftc -sanitize=fuzzer -Xswiftc -enforce-exclusivity=checked
binaries=.build/release

failed=()
for target in "${targets[@]}"; do
    mkdir -p "Corpus/$target" "FailCases/$target" ".build/corpus/$target"
    log=.build/$target.log
    inputs=$(find "Corpus/$target" "FailCases/$target" -type f ! -name README.md | wc -l)
    # libFuzzer replays every file of its corpus folders before it searches.
    mode=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536)
    [ "$seconds" != 0 ] || mode+=(-runs=0)
    if "$binaries/$target" "${mode[@]}" -artifact_prefix="FailCases/$target/" -print_final_stats=1 \
        ".build/corpus/$target" "Corpus/$target" "FailCases/$target" >"$log" 2>&1 </dev/null; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "fuzz: $target: $inputs files replayed, ${runs:-0} inputs tried, none failed"
    else
        failed+=("$target")
        tail -n 40 "$log"
        echo "fuzz: $target: FAILED (the whole log is Fuzz/$log)"
    fi
    rmdir --ignore-fail-on-non-empty "FailCases/$target" "Corpus/$target"
done

echo "fuzz: $((${#targets[@]} - ${#failed[@]})) passed, ${#failed[@]} failed"
[ ${#failed[@]} = 0 ]
