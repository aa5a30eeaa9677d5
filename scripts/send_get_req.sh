#!/bin/sh
# Reads all messages, prints the reply, and appends it to scripts/logs/get_replies.log.
. "$(dirname "$(readlink -f -- "$0")")/env.sh"
reply=$(mktemp)
trap 'rm -f "$reply"' EXIT
status=0
curl --disable --noproxy '*' --silent --show-error --fail-with-body --max-time 60 --output "$reply" \
    ${FACADE_TOKEN:+--header "Authorization: Bearer $FACADE_TOKEN"} "$url" || status=$?
cat "$reply"
echo
append_reply get_replies.log <"$reply"
exit $status
