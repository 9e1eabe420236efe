#!/usr/bin/env bash
# Ask for a model, wait until it is ready, and let it go: with curl.
#   URL=http://localhost:8082 KEY=… ./models.sh llama3.2 1b
set -euo pipefail
URL=${URL:-http://localhost:8082}
api() { curl --silent --show-error --fail-with-body --header "X-API-Key: $KEY" "$@"; }

# 201 comes at once. A second time it is 409, with the reason in the body.
api --json "{\"name\": \"$1\", \"tag\": \"$2\"}" "$URL/api/v1/models"
echo

# Each change is one event; `data:` is the model as GET shows it.
api --no-buffer "$URL/api/v1/models/$1-$2/events" | while read -r line; do
    case $line in
        data:*'"ready":true'*) echo "$1:$2 is ready"; break ;;
        data:*'"stalled":true'*) echo "$1:$2 needs you: $line"; break ;;
        data:*) echo "${line#data: }" ;;
    esac
done || true # curl does not like it when nobody reads on

api "$URL/api/v1/models?state=Ready"
echo
api --request DELETE "$URL/api/v1/models/$1-$2"
