#!/usr/bin/env bash
# Samba: shares over SMB 2 and 3, including one that requires encryption, one that vetoes temporary
# names, a drop box, and a DFS root with links to another share, to a folder in it, and to a missing
# server.
. "$(dirname "$0")/common.sh"

SAMBA=$ROOT/samba
SMB=$((PORT_BASE + 445))
# A user that exists on every Debian owns the files; clients log in as "reports".
UNIX_USER=backup

start_servers() {
  need smbd smbpasswd -- samba
  mkdir -p "$SAMBA"/{private,lock,state,cache,run,files,secret,readonly,veto,drop,dfs}
  chmod 755 "$ROOT" "$SAMBA"
  chown $UNIX_USER "$SAMBA/files" "$SAMBA/secret" "$SAMBA/veto"
  # Clients may write to the drop box, but can neither list nor read it.
  chmod 733 "$SAMBA/drop"
  mkdir -p "$SAMBA/files/deep"; chown $UNIX_USER "$SAMBA/files/deep"
  ln -sfn "msdfs:localhost\\reports" "$SAMBA/dfs/link"
  ln -sfn "msdfs:localhost\\reports\\deep" "$SAMBA/dfs/deeper"
  ln -sfn "msdfs:no-such-server.invalid\\reports" "$SAMBA/dfs/lost"
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
  host msdfs = yes
[reports]
  path = $SAMBA/files
  read only = no
[secret]
  path = $SAMBA/secret
  read only = no
  smb encrypt = required
[veto]
  path = $SAMBA/veto
  read only = no
  veto files = /.*/*.part/
[drop]
  path = $SAMBA/drop
  read only = no
  inherit owner = unix only
  create mask = 0622
  force create mode = 0622
[dfs]
  path = $SAMBA/dfs
  read only = no
  msdfs root = yes
[readonly]
  path = $SAMBA/readonly
  read only = yes
CONF
  printf '%s\n%s\n' "$PASSWORD" "$PASSWORD" | smbpasswd -c "$SAMBA/smb.conf" -s -a $UNIX_USER >/dev/null
  smbd -s "$SAMBA/smb.conf" -D </dev/null >"$SAMBA/start.log" 2>&1 || { cat "$SAMBA/start.log" >&2; return 1; }
  listening $SMB
  cp "$SAMBA/run/smbd.pid" "$SAMBA/pid"
  environment share "SMB_PORT=$SMB" SHARE=reports ENCRYPTED_SHARE=secret READONLY_SHARE=readonly VETO_SHARE=veto DROP_SHARE=drop DFS_SHARE=dfs "VETO_FOLDER=$SAMBA/veto" "DROP_FOLDER=$SAMBA/drop" USER=reports DOMAIN=MAILQOS \
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
