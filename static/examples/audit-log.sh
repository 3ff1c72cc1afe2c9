#!/usr/bin/env bash
# Prints every record of the audit log, the newest first: one JSON object per line.
# Needs curl and jq. Set BAILIWICK_URL (https://bailiwick.example.org) and BAILIWICK_KEY (<id>:<secret>).
set -euo pipefail

next=""
while true; do
    # --retry waits as long as Retry-After says when there were too many requests. The key goes in by a file
    # descriptor: arguments are seen by everybody on the machine.
    page=$(curl --silent --show-error --fail --retry 5 --get "$BAILIWICK_URL/api/logs" \
        --header @<(printf 'Authorization: ApiKey %s' "$BAILIWICK_KEY") \
        --header "Api-Version: v1" \
        --data limit=500 --data-urlencode "cursor=$next")
    jq --compact-output '.logs[]' <<<"$page"
    next=$(jq --raw-output '.next // empty' <<<"$page")
    [ -n "$next" ] || break
done
