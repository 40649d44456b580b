#!/usr/bin/env bash
# Postfix and Dovecot: SMTP with STARTTLS and implicit TLS, SASL through Dovecot, LMTP between them, POP3 and IMAP.
. "$(dirname "$0")/common.sh"

POSTFIX=$ROOT/postfix
DOVECOT=$ROOT/dovecot
USERS=(probe@example.com probe2@example.com probe3@example.com anna@example.com alerts@example.com
  truth{1..16}@example.com r{1..300}@example.com full@example.com grey@example.com)
SMTP=$((PORT_BASE + 25)) SMTPS=$((PORT_BASE + 465)) POP3=$((PORT_BASE + 110)) POP3S=$((PORT_BASE + 995))
IMAP=$((PORT_BASE + 143)) IMAPS=$((PORT_BASE + 993))

start_dovecot() {
  mkdir -p "$DOVECOT/run" "$DOVECOT/state" "$DOVECOT/mail"
  chmod 755 "$ROOT" "$DOVECOT" "$DOVECOT/run"
  chown mail:mail "$DOVECOT/mail"
  local user
  for user in "${USERS[@]}"; do printf '%s:{PLAIN}%s::::::\n' "$user" "$PASSWORD"; done >"$DOVECOT/users"
  chown root:dovecot "$DOVECOT/users"; chmod 640 "$DOVECOT/users"
  cat >"$DOVECOT/dovecot.conf" <<CONF
base_dir = $DOVECOT/run
state_dir = $DOVECOT/state
log_path = $DOVECOT/dovecot.log
listen = 127.0.0.1
hostname = mail.example.com
protocols = pop3 imap lmtp
ssl = yes
ssl_cert = <$ROOT/tls/server.pem
ssl_key = <$ROOT/tls/server.key
mail_location = maildir:~/Maildir
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
auth_mechanisms = plain login scram-sha-256
passdb {
  driver = passwd-file
  args = username_format=%u $DOVECOT/users
}
userdb {
  driver = static
  args = uid=mail gid=mail home=$DOVECOT/mail/%u
}
namespace inbox {
  inbox = yes
  mailbox Junk {
    auto = create
    special_use = \\Junk
  }
}
service auth {
  unix_listener postfix-auth {
    mode = 0600
    user = postfix
  }
}
service lmtp {
  unix_listener postfix-lmtp {
    mode = 0600
    user = postfix
  }
}
service pop3-login {
  inet_listener pop3 {
    port = $POP3
  }
  inet_listener pop3s {
    port = $POP3S
    ssl = yes
  }
}
service imap-login {
  inet_listener imap {
    port = $IMAP
  }
  inet_listener imaps {
    port = $IMAPS
    ssl = yes
  }
}
CONF
  dovecot -c "$DOVECOT/dovecot.conf" </dev/null >"$DOVECOT/start.log" 2>&1 || { cat "$DOVECOT/start.log" >&2; return 1; }
  # The number is written a moment after the command has returned.
  for _ in $(seq 50); do [ -s "$DOVECOT/run/master.pid" ] && break; sleep 0.1; done
  cp "$DOVECOT/run/master.pid" "$DOVECOT/pid"
}

start_postfix() {
  local conf=$POSTFIX/conf
  mkdir -p "$conf" "$POSTFIX/queue" "$POSTFIX/data"
  chmod 755 "$POSTFIX" "$conf" "$POSTFIX/queue"
  chown postfix "$POSTFIX/data"
  local user
  for user in "${USERS[@]}"; do echo "$user present"; done >"$conf/users"
  # What is for full@ is taken and comes back; what is for grey@ is refused at first, and taken from 2 s later on.
  echo 'full@example.com full' >"$conf/transport"
  echo 'grey@example.com greylisted' >"$conf/recipients"
  rm -rf "$POSTFIX/grey"; mkdir "$POSTFIX/grey"; chown nobody "$POSTFIX/grey"
  cat >"$conf/greylist" <<'SCRIPT'
#!/usr/bin/env bash
# A policy service for Postfix (SMTPD_POLICY_README) that rejects a sender until 2 s after its first
# attempt.
while read -r line; do
  case $line in
    sender=*) known=$1/${line#sender=} ;;
    '')
      [ -e "$known" ] || touch "$known"
      if [ $(($(date +%s) - $(stat -c %Y "$known"))) -ge 2 ]; then action=DUNNO; else action='DEFER 4.7.1 Greylisted, come back later'; fi
      printf 'action=%s\n\n' "$action" ;;
  esac
done
SCRIPT
  printf '#!/bin/sh\ncat >/dev/null\necho 5.2.2 the mailbox is full\nexit 67\n' >"$conf/full"
  chmod 755 "$conf/greylist" "$conf/full"
  cat >"$conf/main.cf" <<CONF
compatibility_level = 3.6
queue_directory = $POSTFIX/queue
data_directory = $POSTFIX/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = $POSTFIX/postfix.log
maillog_file_prefixes = /
multi_instance_enable = no
syslog_name = mailqos-postfix
myhostname = mail.example.com
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
local_recipient_maps =
alias_maps =
virtual_mailbox_domains = example.com
virtual_mailbox_maps = texthash:$conf/users
virtual_transport = lmtp:unix:$DOVECOT/run/postfix-lmtp
smtpd_tls_cert_file = $ROOT/tls/server.pem
smtpd_tls_key_file = $ROOT/tls/server.key
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_received_header = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = $DOVECOT/run/postfix-auth
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access texthash:$conf/recipients, permit_sasl_authenticated, reject
smtpd_restriction_classes = greylisted
greylisted = check_policy_service unix:private/greylist
transport_maps = texthash:$conf/transport
message_size_limit = 51200000
smtpd_recipient_limit = 100
minimal_backoff_time = 10s
maximal_backoff_time = 20s
queue_run_delay = 10s
CONF
  cat >"$conf/master.cf" <<CONF
127.0.0.1:$SMTP  inet n - n - - smtpd
127.0.0.1:$SMTPS inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
lmtp      unix - - n - - lmtp
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
full      unix - n n - - pipe flags=q user=nobody argv=$conf/full
greylist  unix - n n - 0 spawn user=nobody argv=$conf/greylist $POSTFIX/grey
CONF
  MAIL_CONFIG=$conf postfix -c "$conf" start </dev/null >"$POSTFIX/start.log" 2>&1 || { cat "$POSTFIX/start.log" >&2; return 1; }
  for _ in $(seq 50); do [ -s "$POSTFIX/queue/pid/master.pid" ] && break; sleep 0.1; done
  tr -d ' ' <"$POSTFIX/queue/pid/master.pid" >"$POSTFIX/pid"
}

start_servers() {
  need postfix dovecot /usr/lib/dovecot/pop3 /usr/lib/dovecot/imap /usr/lib/dovecot/lmtp -- \
    postfix dovecot-core dovecot-pop3d dovecot-imapd dovecot-lmtpd
  start_dovecot
  start_postfix
  listening $SMTP $SMTPS $POP3 $POP3S $IMAP $IMAPS
  environment mail "SMTP_PORT=$SMTP" "SMTPS_PORT=$SMTPS" "POP3_PORT=$POP3" "POP3S_PORT=$POP3S" "IMAP_PORT=$IMAP" \
    "IMAPS_PORT=$IMAPS" "USER=probe@example.com" "PASSWORD=$PASSWORD" "DOVECOT_CONF=$DOVECOT/dovecot.conf" \
    "MAIL_FOLDER=$DOVECOT/mail" "LOG=$POSTFIX/postfix.log"
}

stop_servers() {
  rm -f "$ROOT/mail.env"
  end "$POSTFIX/pid"
  end "$DOVECOT/pid"
}

status_servers() {
  local pidfile state=0
  for pidfile in "$POSTFIX/pid" "$DOVECOT/pid"; do
    if alive "$pidfile"; then echo "$pidfile: running"; else echo "$pidfile: not running"; state=1; fi
  done
  return $state
}

main "$@"
