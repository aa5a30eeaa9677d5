#!/bin/sh
# Sends records with curl alone. The keys make it safe to repeat the batch until the status is 2xx: curl repeats it
# after 408, 429 and 5xx, and after a broken connection. A key is remembered for a day, so each run has its own.
url="${FACADE_URL:-http://127.0.0.1:5000}/v1/messages"
run="$(hostname)-$(date +%s)-$$"
curl --silent --show-error --fail-with-body --retry 10 --retry-all-errors --retry-max-time 60 \
    -H 'Content-Type: application/x-ndjson' --data-binary @- "$url" <<EOF
{"msg":"backup begins","key":"$run-1","fields":{"level":"info","job":"backup"}}
{"msg":"backup ends","key":"$run-2","fields":{"level":"info","job":"backup","seconds":12.5}}
EOF
