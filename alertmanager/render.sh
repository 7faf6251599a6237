#!/bin/sh
# Puts the SMTP settings of the environment into the configuration and becomes the given command.
# alertmanager.yml is a complete configuration by itself, so that amtool can check it as it is; each
# marked line has a default that is replaced here. Plain sh and sed: all that the official image holds.
set -eu

escaped() { printf '%s' "$1" | sed -e "s/'/''/g" -e 's/[\&|]/\\&/g'; }

sed \
  -e "s|^\( *smtp_smarthost:\).*|\1 '$(escaped "$SMTP_SMARTHOST")'|" \
  -e "s|^\( *smtp_from:\).*|\1 '$(escaped "$SMTP_FROM")'|" \
  -e "s|^\( *smtp_auth_username:\).*|\1 '$(escaped "$SMTP_USERNAME")'|" \
  -e "s|^\( *smtp_require_tls:\).*|\1 $(escaped "$SMTP_REQUIRE_TLS")|" \
  -e "s|^\( *- to:\).*|\1 '$(escaped "$ALERT_EMAIL_TO")'|" \
  /etc/alertmanager/alertmanager.yml >/tmp/alertmanager.yml

exec "$@"
