#!/bin/sh
# Starts the whole cluster and returns when it is ready.
. "$(dirname "$0")/env.sh"
exec "$python" -m scripts.cluster up
