#!/bin/sh
# Stops the whole cluster after a confirmation; kill.sh -y does not ask.
. "$(dirname "$(readlink -f -- "$0")")/env.sh"
if [ "${1:-}" != "-y" ]; then
    printf 'Stop the whole cluster? [y/n] '
    read -r answer || answer=n
    case $answer in
        y | Y | yes) ;;
        *) echo "nothing was stopped"; exit 1 ;;
    esac
fi
exec "$python" -m scripts.cluster down
