# Sourced by the other scripts: changes to the project's root and finds the Python of its virtual environment.
# Neither a symbolic link to the script nor the caller's environment changes what it does.
set -eu
called_from=$PWD
unset CDPATH PYTHONSAFEPATH PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONINSPECT PYTHONOPTIMIZE PYTHONWARNINGS
cd -- "$(dirname "$(readlink -f -- "$0")")/.."
python=.venv/bin/python
if [ ! -x "$python" ]; then
    echo "$(basename "$0"): there is no $PWD/.venv; run \`make install\` first" >&2
    exit 1
fi
url=${FACADE_URL:-http://localhost:5000/facade}
# Makes a path absolute; a relative one is relative to the caller's folder.
absolute() {
    case $1 in
        /*) echo "$1" ;;
        *) echo "$called_from/$1" ;;
    esac
}

replies=$(absolute "${REPLIES_DIR:-$PWD/scripts/logs}")
if [ -n "${THREEFOLD_CONFIG:-}" ]; then
    THREEFOLD_CONFIG=$(absolute "$THREEFOLD_CONFIG")
    export THREEFOLD_CONFIG
fi

# Appends a line with the time, and standard input, to a file in $REPLIES_DIR (default: scripts/logs).
append_reply() {
    mkdir -p "$replies"
    { echo "Logging time: $(date '+%d-%m-%Y %H:%M:%S')"; cat; echo; } >>"$replies/$1"
}
