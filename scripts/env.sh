# Sourced by the other scripts: goes to the project's root and finds the Python of its virtual environment.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
if [ ! -x "$python" ]; then
    echo "$(basename "$0"): there is no $PWD/.venv; run \`make install\` first" >&2
    exit 1
fi
url=${FACADE_URL:-http://localhost:5000/facade}
replies=${REPLIES_DIR:-scripts/logs}

# Appends a heading with the time, then standard input, to a file in scripts/logs.
append_reply() {
    mkdir -p "$replies"
    { echo "Logging time: $(date '+%d-%m-%Y %H:%M:%S')"; cat; echo; } >>"$replies/$1"
}
