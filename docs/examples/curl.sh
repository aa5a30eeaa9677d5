#!/bin/sh
# Sends records with curl alone. The keys make it safe to repeat the batch until the status is 2xx: curl repeats it after
# 408, 429 and 5xx, and after a broken connection.
url="${FACADE_URL:-http://127.0.0.1:5000}/v1/messages"
curl --silent --show-error --fail-with-body --retry 10 --retry-all-errors --retry-max-time 60 \
    -H 'Content-Type: application/x-ndjson' --data-binary @- "$url" <<EOF
{"msg":"backup begins","key":"backup-$$-1","fields":{"level":"info","job":"backup"}}
{"msg":"backup ends","key":"backup-$$-2","fields":{"level":"info","job":"backup","seconds":12.5}}
EOF
