#!/bin/sh
# Ships what a program writes: pipe.sh PROGRAM [ARGUMENT...]. Its lines are stored as they come; if no facade answers,
# the pipe waits for one for up to ten minutes. FACADE_URL may name several facades, FACADE_TOKEN a token.
# THREEFOLD_CLIENT is the client: `threefold` of an installed package, or scripts/threefold of a checkout.
"$@" 2>&1 | "${THREEFOLD_CLIENT:-threefold}" send --retry 10m --field "program=$1" --field "host=$(hostname)" >/dev/null
