#!/usr/bin/env bash
# Ask for a model, wait until it is ready, and delete it again: with curl 7.84 or later.
#   URL=http://localhost:8082 KEY=… ./models.sh llama3.2 1b
set -euo pipefail
URL=${URL:-http://localhost:8082}
if [ $# -ne 2 ] || [ -z "${KEY:-}" ]; then
    echo "usage: URL=$URL KEY=<key of the API> $0 <name> <tag>" >&2
    exit 2
fi
api() { curl --silent --show-error --fail-with-body --header "X-API-Key: $KEY" "$@"; }

# 201 comes at once, and its Location ends with the name of the object: a readable one, which may differ
# from <name>-<tag>. A second time it is 409, with the reason in the body.
answer=$(api --write-out '\n%header{location}' --json "{\"name\": \"$1\", \"tag\": \"$2\"}" "$URL/api/v1/models") || {
    echo "$answer" >&2
    exit 1
}
echo "${answer%$'\n'*}"
object=${answer##*/}

# Each change is one event; `data:` is the model as GET shows it. A closed pipe ends this curl, and it
# would report that as an error, so it is silent.
while read -r line; do
    case $line in
        data:*'"ready":true'*) echo "$1:$2 is ready"; break ;;
        data:*'"stalled":true'*) echo "$1:$2 needs you: $line"; break ;;
        data:*) echo "${line#data: }" ;;
    esac
done < <(curl --silent --no-buffer --header "X-API-Key: $KEY" "$URL/api/v1/models/$object/events")

api "$URL/api/v1/models?state=Ready"
echo
api --request DELETE "$URL/api/v1/models/$object"
