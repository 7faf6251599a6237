#!/bin/sh
# Tests this folder with amtool: the configuration, as committed and as rendered with odd SMTP settings;
# each route of tests/routes.txt; each pair of tests/inhibitions.txt; each template against tests/templates/*.expected.
# Runs inside the Alertmanager image, which holds amtool and a shell:
#   docker run --rm --network none -v "$PWD/alertmanager:/etc/alertmanager:ro" --tmpfs /tmp \
#     --entrypoint /bin/sh "$ALERTMANAGER_IMAGE" /etc/alertmanager/test.sh
# Prints `N passed, N failed`. `test.sh --print` shows what the templates give, to look at and to keep.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
config=$here/alertmanager.yml
passed=0
failed=0

check() { # check NAME WANTED GOT
  if [ "$2" = "$3" ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED %s\n  wanted: %s\n  got:    %s\n' "$1" "$2" "$3"
  fi
}

render_templates() { # render_templates DATA
  for name in subject channel colour link text html; do
    printf -- '--- %s\n' "$name"
    amtool template render --template.glob="$here/templates/*.tmpl" --template.data="$1" \
      --template.type="$([ "$name" = html ] && echo html || echo text)" \
      --template.text="{{ template \"selfheal.$name\" . }}"
    echo
  done
}

if [ "${1:-}" = --print ]; then
  for data in "$here"/tests/templates/*.json; do
    printf '=== %s\n' "${data##*/}"
    render_templates "$data"
  done
  exit 0
fi

check 'the committed configuration' valid "$(amtool check-config "$config" >/tmp/out 2>&1 && echo valid || cat /tmp/out)"

SMTP_SMARTHOST="mail.example.org:587" SMTP_FROM="o'neil|a&b@example.org" SMTP_USERNAME='do\main' \
  SMTP_REQUIRE_TLS=true ALERT_EMAIL_TO='a@example.org, b@example.org' sh "$here/render.sh" true
check 'the rendered configuration' valid "$(amtool check-config /tmp/alertmanager.yml >/tmp/out 2>&1 && echo valid || cat /tmp/out)"
check 'a rendered address' "  smtp_from: 'o''neil|a&b@example.org'" "$(grep smtp_from: /tmp/alertmanager.yml)"
check 'a rendered user' "  smtp_auth_username: 'do\\main'" "$(grep smtp_auth_username: /tmp/alertmanager.yml)"
check 'the rendered addressee' 1 "$(grep -c "to: 'a@example.org, b@example.org'" /tmp/alertmanager.yml)"

while IFS= read -r line; do
  case $line in '' | '#'*) continue ;; esac
  labels=${line%% => *}
  # shellcheck disable=SC2086 # one word a label is wanted
  check "$labels" "${line##* => }" "$(amtool config routes test --config.file="$config" $labels 2>/dev/null)"
done <"$here/tests/routes.txt"

# A fresh server for each pair: alerts of one would inhibit those of another.
server=http://127.0.0.1:19093
while IFS= read -r line; do
  case $line in '' | '#'*) continue ;; esac
  source=${line%% | *}
  target=${line#* | }
  wanted=${target##* => }
  target=${target%% => *}
  alertmanager --config.file=/tmp/alertmanager.yml --storage.path=/tmp/data --cluster.listen-address= \
    --web.listen-address=127.0.0.1:19093 --log.level=error 2>/dev/null &
  pid=$!
  tries=50
  until wget -q -O /dev/null "$server/-/ready" 2>/dev/null || [ "$tries" -eq 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
  done
  # shellcheck disable=SC2086 # one word a label is wanted
  amtool alert add --alertmanager.url="$server" $source
  # shellcheck disable=SC2086
  amtool alert add --alertmanager.url="$server" $target
  # shellcheck disable=SC2086
  if [ -n "$(amtool alert query --alertmanager.url="$server" -o json --inhibited $target | grep -o '"inhibitedBy":\["')" ]; then
    got=inhibited
  else
    got=active
  fi
  check "$line" "$wanted" "$got"
  kill "$pid" && wait "$pid" || true
  rm -rf /tmp/data
done <"$here/tests/inhibitions.txt"

for data in "$here"/tests/templates/*.json; do
  check "template with ${data##*/}" "$(cat "${data%.json}.expected")" "$(render_templates "$data" 2>&1)"
done

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
