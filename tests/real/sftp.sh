#!/usr/bin/env bash
# OpenSSH: SFTP with a key, into a separate folder. Two further ports have servers that reject listing,
# renaming and removing, and only renaming.
. "$(dirname "$0")/common.sh"

SSH=$ROOT/ssh
SFTP=$((PORT_BASE + 222)) DROP=$((PORT_BASE + 223)) FIXED=$((PORT_BASE + 224))

start_servers() {
  need sshd /usr/lib/openssh/sftp-server -- openssh-server openssh-sftp-server
  mkdir -p "$SSH/files" "$SSH/drop" "$SSH/fixed" /run/sshd
  [ -e "$SSH/host_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$SSH/host_key"
  [ -e "$SSH/user_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$SSH/user_key"
  cp "$SSH/user_key.pub" "$SSH/authorized_keys"
  cat >"$SSH/sshd_config" <<CONF
Port $SFTP
Port $DROP
Port $FIXED
ListenAddress 127.0.0.1
HostKey $SSH/host_key
PidFile $SSH/pid
AuthorizedKeysFile $SSH/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
Match LocalPort $DROP
  ForceCommand internal-sftp -d $SSH/drop -P read,stat,lstat,fstat,opendir,readdir,remove,rename,posix-rename,realpath
Match LocalPort $FIXED
  ForceCommand internal-sftp -d $SSH/fixed -P rename,posix-rename
Match LocalPort $SFTP
  ForceCommand internal-sftp -d $SSH/files
CONF
  "$(command -v sshd)" -f "$SSH/sshd_config" -E "$SSH/sshd.log" </dev/null >"$SSH/start.log" 2>&1 || { cat "$SSH/start.log" >&2; return 1; }
  listening $SFTP $DROP $FIXED
  environment sftp "SFTP_PORT=$SFTP" "USER=$(id -un)" "DROP_PORT=$DROP" "DROP_FOLDER=$SSH/drop" "FIXED_PORT=$FIXED" "FIXED_FOLDER=$SSH/fixed" "KEY_FILE=$SSH/user_key" "FOLDER=$SSH/files" \
    "HOST_KEY=$(cut -d ' ' -f 1,2 "$SSH/host_key.pub")" "LOG=$SSH/sshd.log"
}

stop_servers() {
  rm -f "$ROOT/sftp.env"
  end "$SSH/pid"
}

status_servers() {
  if alive "$SSH/pid"; then echo "$SSH/pid: running"; else echo "$SSH/pid: not running"; return 1; fi
}

main "$@"
