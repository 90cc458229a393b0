#!/bin/bash
# Runs a command at one end of a long link: link.sh [--delay MS] [--rate MBIT] [--loss PERCENT] [--] COMMAND…
# In its environment: LINK_NEAR and LINK_FAR, the addresses of both ends, and LINK_FAR_RUN, a prefix that runs a command at
# the far one. For example, 1 Gbit/s with 50 ms one way and 0.1 % loss:
#
#   link.sh --loss 0.1 bash -c '$LINK_FAR_RUN iperf3 -s -1 -D && sleep 0.3 && iperf3 -c $LINK_FAR'
here=$(cd "$(dirname "$0")" && pwd)
exec env PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" "$here/enter.sh" python3 -m lab link "$@"
