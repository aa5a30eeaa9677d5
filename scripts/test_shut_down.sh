#!/bin/sh
# Kills one or two logging nodes and their members at once: test_shut_down.sh 1|2
. "$(dirname "$(readlink -f -- "$0")")/env.sh"
case ${1:-} in
    1) exec "$python" -m scripts.cluster kill 1 ;;
    2) exec "$python" -m scripts.cluster kill 1 2 ;;
    *) echo "usage: test_shut_down.sh 1|2 (how many logging nodes to kill)" >&2; exit 2 ;;
esac
