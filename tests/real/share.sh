#!/usr/bin/env bash
# Samba: shares over SMB 2 and 3, one of them with encryption demanded.
. "$(dirname "$0")/common.sh"

SAMBA=$ROOT/samba
SMB=$((PORT_BASE + 445))
# A user of every Debian that owns the files; people log in as "reports".
UNIX_USER=backup

start_servers() {
  need smbd smbpasswd -- samba
  mkdir -p "$SAMBA"/{private,lock,state,cache,run,files,secret,readonly}
  chmod 755 "$ROOT" "$SAMBA"
  chown $UNIX_USER "$SAMBA/files" "$SAMBA/secret"
  chmod 555 "$SAMBA/readonly"
  echo "$UNIX_USER = reports" >"$SAMBA/usermap"
  cat >"$SAMBA/smb.conf" <<CONF
[global]
  workgroup = MAILQOS
  netbios name = FILES
  server role = standalone server
  smb ports = $SMB
  interfaces = 127.0.0.1
  bind interfaces only = yes
  disable netbios = yes
  server min protocol = SMB2_10
  server signing = mandatory
  username map = $SAMBA/usermap
  passdb backend = tdbsam:$SAMBA/private/passdb.tdb
  private dir = $SAMBA/private
  lock directory = $SAMBA/lock
  state directory = $SAMBA/state
  cache directory = $SAMBA/cache
  pid directory = $SAMBA/run
  ncalrpc dir = $SAMBA/run/ncalrpc
  log file = $SAMBA/smbd.log
  load printers = no
  printing = bsd
  disable spoolss = yes
  map to guest = never
[reports]
  path = $SAMBA/files
  read only = no
[secret]
  path = $SAMBA/secret
  read only = no
  smb encrypt = required
[readonly]
  path = $SAMBA/readonly
  read only = yes
CONF
  printf '%s\n%s\n' "$PASSWORD" "$PASSWORD" | smbpasswd -c "$SAMBA/smb.conf" -s -a $UNIX_USER >/dev/null
  smbd -s "$SAMBA/smb.conf" -D </dev/null >"$SAMBA/start.log" 2>&1 || { cat "$SAMBA/start.log" >&2; return 1; }
  listening $SMB
  cp "$SAMBA/run/smbd.pid" "$SAMBA/pid"
  environment share "SMB_PORT=$SMB" SHARE=reports ENCRYPTED_SHARE=secret READONLY_SHARE=readonly USER=reports DOMAIN=MAILQOS \
    "PASSWORD=$PASSWORD" "FOLDER=$SAMBA/files" "ENCRYPTED_FOLDER=$SAMBA/secret" "LOG=$SAMBA/smbd.log"
}

stop_servers() {
  rm -f "$ROOT/share.env"
  end "$SAMBA/pid"
}

status_servers() {
  if alive "$SAMBA/pid"; then echo "$SAMBA/pid: running"; else echo "$SAMBA/pid: not running"; return 1; fi
}

main "$@"
