#!/bin/sh
# Posts msg1 to msg10 and appends the replies to scripts/logs/post_replies.log; exits with 1 if one of them failed.
. "$(dirname "$(readlink -f -- "$0")")/env.sh"
failed=0
reply=$(mktemp)
trap 'rm -f "$reply"' EXIT
for number in 1 2 3 4 5 6 7 8 9 10; do
    if curl --disable --noproxy '*' --silent --show-error --fail-with-body --max-time 15 --output "$reply" \
        ${FACADE_TOKEN:+--header "Authorization: Bearer $FACADE_TOKEN"} \
        --header 'Content-Type: application/json' --data "{\"msg\": \"msg$number\"}" "$url"; then
        echo "Sent: msg$number - SUCCESS"
    else
        echo "Sent: msg$number - FAILED"
        failed=1
    fi
    append_reply post_replies.log <"$reply"
    : >"$reply"
done
exit $failed
