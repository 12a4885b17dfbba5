#!/bin/sh
# Writes the events behind a cursor to standard output, one line of JSON each, and keeps the cursor.
#   HOLDFAST_URL=… HOLDFAST_TOKEN=… pull.sh CURSOR_FILE [FILTER]
set -eu
file=$1
filter=${2:-}
cursor=$(cat "$file" 2>/dev/null || true)
while :; do
    # The token is given by a file descriptor, so that the list of processes does not show it.
    page=$(printf 'header = "Authorization: Bearer %s"\n' "$HOLDFAST_TOKEN" |
        curl --silent --show-error --fail --config - \
            "$HOLDFAST_URL/v1/alerts?limit=1000${cursor:+&cursor=$cursor}${filter:+&$filter}")
    printf '%s' "$page" | jq -c '.data[]'
    cursor=$(printf '%s' "$page" | jq -r .next_cursor)
    # Whole or not at all, and only once the events are written.
    printf '%s' "$cursor" > "$file.new"
    mv "$file.new" "$file"
    [ "$(printf '%s' "$page" | jq .has_more)" = true ] || break
done
