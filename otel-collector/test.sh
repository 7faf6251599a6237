#!/bin/bash
# Plants personal data and secrets in logs and spans and looks for them in what the Collector passes on.
# Every line of tests/planted.txt must be gone, every line of tests/kept.txt must have come through.
# Needs docker and curl; OTEL_COLLECTOR_IMAGE names the image. Prints `N passed, N failed`.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
image=${OTEL_COLLECTOR_IMAGE:?set OTEL_COLLECTOR_IMAGE, or run ./stack test}
container=$(docker run -d --user 10001:10001 --read-only --cap-drop ALL \
  --tmpfs /var/lib/otel-collector:uid=10001,gid=10001 --publish 127.0.0.1::4318 \
  --volume "$here:/etc/otel-collector:ro" --env 'TRACE_EXPORTERS=[debug]' --entrypoint /otelcol-contrib \
  "$image" --config=/etc/otel-collector/config.yaml --config=/etc/otel-collector/tests/print.yaml)
trap 'docker rm -f "$container" >/dev/null' EXIT
address=$(docker port "$container" 4318/tcp | head -n 1)

send() { # send SIGNAL DOCUMENT
  curl -sS --fail --max-time 5 --retry 20 --retry-delay 1 --retry-all-errors -o /dev/null \
    -H 'content-type: application/json' --data-binary "$2" "http://$address/v1/$1"
}

string() { printf '{"key":"%s","value":{"stringValue":"%s"}}' "$1" "$2"; }

# The same text everywhere that a record or a span can carry one.
plant() {
  local text=$1 resource attributes now
  now=$(date +%s)000000000
  resource="\"resource\":{\"attributes\":[$(string service.name planter),$(string note "$text")]}"
  attributes="[$(string note "before $text after"),$(string password by-key-1),$(string http.request.header.authorization by-key-2)"
  attributes+=",{\"key\":\"nested\",\"value\":{\"kvlistValue\":{\"values\":[$(string inner "$text")]}}}]"
  send logs "{\"resourceLogs\":[{$resource,\"scopeLogs\":[{\"logRecords\":[
    {\"timeUnixNano\":\"$now\",\"body\":{\"stringValue\":\"body $text end\"},\"attributes\":$attributes}]}]}]}"
  send traces "{\"resourceSpans\":[{$resource,\"scopeSpans\":[{\"spans\":[
    {\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee19b7ec3c1b174\",\"name\":\"span $text\",\"kind\":2,
     \"startTimeUnixNano\":\"$now\",\"endTimeUnixNano\":\"$now\",\"attributes\":$attributes,
     \"status\":{\"code\":2,\"message\":\"failed with $text\"},
     \"events\":[{\"timeUnixNano\":\"$now\",\"name\":\"event $text\",\"attributes\":$attributes}]}]}]}]}"
}

texts=()
while IFS= read -r text; do texts+=("$text"); done < <(cat "$here/tests/planted.txt" "$here/tests/kept.txt")
for text in "${texts[@]}"; do plant "$text"; done
plant the-last-one
for _ in $(seq 50); do
  output=$(docker logs "$container" 2>&1)
  [ "$(grep -c 'Name *: span the-last-one' <<<"$output")" -gt 0 ] && grep -q 'body the-last-one end' <<<"$output" && break
  sleep 0.2
done

passed=0
failed=0
result() { # result OK NAME
  if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && printf 'FAILED %s\n' "$2"; fi
}
gone() {
  local found=0
  grep -qF -- "$1" <<<"$output" && found=1
  result "$found" "found again: $1"
  [ "$found" = 0 ] || grep -F -m 3 -- "$1" <<<"$output"
}
while IFS= read -r text; do gone "$text"; done <"$here/tests/planted.txt"
gone hunter2
gone by-key-1
gone by-key-2
gone lifted.
while IFS= read -r text; do
  # body, and the attributes of record and span; the name and the status of the span
  count=$(grep -cF -- "$text" <<<"$output" || true)
  result "$([ "$count" -ge 8 ] && echo 0 || echo 1)" "came through $count times only: $text"
done <"$here/tests/kept.txt"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
