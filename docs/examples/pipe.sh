#!/bin/sh
# Ships what a program writes: pipe.sh PROGRAM [ARGUMENT...]. Its lines are stored as they come, and its exit status is
# that of the program. If no facade answers, the pipe waits for one for up to ten minutes; then the program can write no
# more, and ends like one whose reader has left. FACADE_URL may name several facades, FACADE_TOKEN a token, FACADE_CLIENT
# the client: `threefold` of an installed package, or scripts/threefold of a checkout.
status=$({
    { "$@" 2>&1 3>&-; echo $? >&3; } |
        "${FACADE_CLIENT:-threefold}" send --retry 10m --field "program=$1" --field "host=$(hostname)" >/dev/null 3>&-
} 3>&1)
exit "${status:-1}"
