#!/bin/sh
# SIGKILLs logging nodes by number, with their Hazelcast members: kill_node.sh N [N...]
. "$(dirname "$0")/env.sh"
exec "$python" -m scripts.cluster kill "$@"
