#!/bin/bash
# natlab.sh classify|punch|pairs|table|moves|carry|shell|link …: --help says more. README.md says what each is for.
here=$(cd "$(dirname "$0")" && pwd)
exec env PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" "$here/enter.sh" python3 -m lab "$@"
