#!/bin/bash
# Formatting, and the rules of the house that a compiler does not know.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
complain() {
    echo "lint: $*" >&2
    failed=1
}

# Generated code is left as its generator made it.
mapfile -t files < <(git ls-files --cached --others --exclude-standard -- '*.swift' ':!*.pb.swift')
swift format lint --strict --parallel "${files[@]}" || complain "swift format has complaints; 'make format' repairs most of them"

# Foundation brings some 20 MB of resident memory, and FoundationNetworking libcurl: no library module may import it.
# (SwiftProtobuf itself uses FoundationEssentials; that one is known.)
libraries=$(git ls-files --cached --others --exclude-standard -- 'Sources/Martlet*/*.swift' ':!*.pb.swift')
if found=$(grep -nE '^[[:space:]]*(@[A-Za-z_]+[[:space:]]+)*((public|package|internal|private|fileprivate)[[:space:]]+)?import[[:space:]]+((class|struct|func|enum|var|protocol|typealias|let)[[:space:]]+)?Foundation' \
    $libraries /dev/null); then
    echo "$found" >&2
    complain "library modules do without Foundation"
fi

# Machines take bytes, time and randomness as arguments: the event loop is known to the runtime and the node's driver only.
sans_io=$(git ls-files --cached --others --exclude-standard -- 'Sources/Martlet'{Core,Identity,Connection,Swarm,Reachability,Simulation}'/*.swift')
if found=$(grep -nE '^[[:space:]]*((public|package|internal|private)[[:space:]]+)?import[[:space:]]+(MartletRuntime|CLibuv|Dispatch)' $sans_io /dev/null); then
    echo "$found" >&2
    complain "protocol machines know no event loop"
fi

for script in $(git ls-files --cached --others --exclude-standard -- '*.sh' .ci/run); do
    bash -n "$script" || complain "$script does not parse"
    [ -x "$script" ] || complain "$script is not executable"
done

exit $failed
