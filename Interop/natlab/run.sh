#!/bin/bash
# Which path a system gets between two NATs: run.sh [--pairs A,B …] [--runs N] [--transport udp|tcp|both] [--system NAME]
# [--json FILE]. All common kinds in both orders, if no pairs are given. --help says more.
exec "$(dirname "$0")/natlab.sh" pairs "$@"
