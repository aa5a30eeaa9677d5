#!/bin/sh
# Starts the whole cluster, and waits until it is ready: launch.sh [--engine embedded]
. "$(dirname "$(readlink -f -- "$0")")/env.sh"
exec "$python" -m scripts.cluster "$@" up
