#!/bin/sh
# Kills logging nodes and their Hazelcast members with SIGKILL: kill_node.sh N [N...]
. "$(dirname "$(readlink -f -- "$0")")/env.sh"
exec "$python" -m scripts.cluster kill "$@"
