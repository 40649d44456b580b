#!/usr/bin/env bash
# FTP servers:
# - ProFTPD with plain FTP, explicit TLS (1.2 and 1.3), explicit TLS 1.2 only, and implicit TLS. Its
#   folder "dropbox" accepts files but shows none; "closed/reports" is in a folder that can't be entered.
# - vsftpd with explicit TLS. Its PASV replies contain a wrong address.
# - Both again on 127.0.0.2, except for implicit TLS. Their data ports are free on 127.0.0.1, so that a
#   proxy there can intercept all connections.
# - Pure-FTPd without names that start with a dot (-x), without removing or overwriting files (-K), and
#   without UTF-8.
# ProFTPD and vsftpd require a data connection to reuse the control connection's TLS session.
. "$(dirname "$0")/common.sh"

FTP=$ROOT/ftp
VSFTPD=$ROOT/vsftpd VSFTPD_PORT=$((PORT_BASE + 23))
VSFTPD_PACKAGE=$ROOT/vsftpd-package
FAR_VSFTPD=$ROOT/vsftpd-far FAR=$((PORT_BASE + 27)) FAR_TLS12=$((PORT_BASE + 28)) FAR_VSFTPD_PORT=$((PORT_BASE + 29))
PURE=$ROOT/pure PURE_PACKAGE=$ROOT/pure-package PURE_PORT=$((PORT_BASE + 24)) KEEPING=$((PORT_BASE + 25))
EXPLICIT=$((PORT_BASE + 21)) TLS12=$((PORT_BASE + 22)) IMPLICIT=$((PORT_BASE + 990))

start_servers() {
  need proftpd /usr/lib/proftpd/mod_tls.so -- proftpd-core proftpd-mod-crypto
  mkdir -p "$FTP/files" "$FTP/run"
  chmod 755 "$ROOT" "$FTP"
  mkdir -p "$FTP/files/dropbox" "$FTP/files/closed/reports"
  chown nobody:nogroup "$FTP/files" "$FTP/files/dropbox" "$FTP/files/closed" "$FTP/files/closed/reports"
  printf 'reports:%s:%s:%s:reports:%s:/bin/false\n' "$(openssl passwd -6 "$PASSWORD")" "$(id -u nobody)" "$(id -g nobody)" \
    "$FTP/files" >"$FTP/users"
  chmod 600 "$FTP/users"
  host() { # PORT TLSProtocol FIRST_DATA_PORT TLSOptions
    cat <<CONF
  Port $1
  AuthOrder mod_auth_file.c
  AuthUserFile $FTP/users
  RequireValidShell off
  DefaultRoot ~
  AllowOverwrite on
  AllowStoreRestart on
  AllowRetrieveRestart on
  PassivePorts $3 $(($3 + 9))
  TLSEngine on
  TLSRequired off
  TLSProtocol $2
  TLSRSACertificateFile $ROOT/tls/server.rsa.pem
  TLSRSACertificateKeyFile $ROOT/tls/server.rsa.key
  TLSVerifyClient off
  $4
  <Directory ~/dropbox>
    <Limit READ DIRS DELE RNFR RNTO SIZE MDTM>
      DenyAll
    </Limit>
    <Limit CWD XCWD CDUP>
      AllowAll
    </Limit>
  </Directory>
  <Directory ~/closed>
    <Limit CWD XCWD MKD XMKD>
      DenyAll
    </Limit>
  </Directory>
  <Directory ~/closed/reports>
    <Limit CWD XCWD MKD XMKD>
      AllowAll
    </Limit>
  </Directory>
CONF
  }
  rsa_certificate
  cat >"$FTP/proftpd.conf" <<CONF
ModulePath /usr/lib/proftpd
LoadModule mod_tls.c
ServerName mailqos
ServerType standalone
DefaultAddress 127.0.0.1
SocketBindTight on
UseIPv6 off
UseReverseDNS off
User nobody
Group nogroup
PidFile $FTP/pid
ScoreboardFile $FTP/run/scoreboard
DelayTable none
SystemLog $FTP/proftpd.log
TransferLog $FTP/transfer.log
TLSLog $FTP/tls.log
ControlsEngine off
$(host $EXPLICIT "TLSv1.2 TLSv1.3" $((PORT_BASE + 200)) "")
<VirtualHost 127.0.0.1>
$(host $TLS12 TLSv1.2 $((PORT_BASE + 210)) "")
</VirtualHost>
<VirtualHost 127.0.0.1>
$(host $IMPLICIT "TLSv1.2 TLSv1.3" $((PORT_BASE + 220)) "TLSOptions UseImplicitSSL")
</VirtualHost>
<VirtualHost 127.0.0.2>
$(host $FAR "TLSv1.2 TLSv1.3" $((PORT_BASE + 230)) "")
</VirtualHost>
<VirtualHost 127.0.0.2>
$(host $FAR_TLS12 TLSv1.2 $((PORT_BASE + 230)) "")
</VirtualHost>
CONF
  proftpd -c "$FTP/proftpd.conf" </dev/null >"$FTP/start.log" 2>&1 || { cat "$FTP/start.log" >&2; return 1; }
  unpack_vsftpd
  start_vsftpd "$VSFTPD" 127.0.0.1 "$VSFTPD_PORT" $((PORT_BASE + 300))
  start_vsftpd "$FAR_VSFTPD" 127.0.0.2 "$FAR_VSFTPD_PORT" $((PORT_BASE + 310))
  unpack_pure
  start_pure "$PURE/plain" "$PURE_PORT" $((PORT_BASE + 320)) -x
  start_pure "$PURE/keeping" "$KEEPING" $((PORT_BASE + 330)) -K -r
  listening $EXPLICIT $TLS12 $IMPLICIT $VSFTPD_PORT $PURE_PORT $KEEPING
  environment ftp "FTP_PORT=$EXPLICIT" "FTP_TLS12_PORT=$TLS12" "FTPS_PORT=$IMPLICIT" USER=reports "PASSWORD=$PASSWORD" \
    "FOLDER=$FTP/files" "LOG=$FTP/proftpd.log" "VSFTPD_PORT=$VSFTPD_PORT" "VSFTPD_FOLDER=$VSFTPD/files" \
    "FAR_PORT=$FAR" "FAR_TLS12_PORT=$FAR_TLS12" "FAR_DATA=$((PORT_BASE + 230))-$((PORT_BASE + 239))" \
    "FAR_VSFTPD_PORT=$FAR_VSFTPD_PORT" "FAR_VSFTPD_DATA=$((PORT_BASE + 310))-$((PORT_BASE + 319))" \
    "PURE_PORT=$PURE_PORT" "PURE_FOLDER=$PURE/plain/files" "KEEPING_PORT=$KEEPING" "KEEPING_FOLDER=$PURE/keeping/files" \
    "FAR_VSFTPD_FOLDER=$FAR_VSFTPD/files" "FAR_VSFTPD_LOG=$FAR_VSFTPD/vsftpd.log"
}

# Debian's packages of vsftpd and ProFTPD conflict, so this one is only unpacked.
unpack_vsftpd() {
  [ ! -x "$VSFTPD_PACKAGE/usr/sbin/vsftpd" ] || return 0
  need /usr/lib/*/libwrap.so.0 -- libwrap0 libcap2 libpam0g
  mkdir -p "$VSFTPD_PACKAGE"
  cd "$VSFTPD_PACKAGE" || exit 1
  apt-get download -qq vsftpd >download.log 2>&1 || { apt-get update -qq >/dev/null 2>&1; apt-get download -qq vsftpd >download.log 2>&1; } ||
    { cat download.log >&2; fail "could not download vsftpd"; }
  dpkg -x vsftpd_*.deb .
  cd - >/dev/null || exit 1
}

# It conflicts with ProFTPD, too.
unpack_pure() {
  [ ! -x "$PURE_PACKAGE/usr/sbin/pure-ftpd" ] || return 0
  need /usr/lib/*/libsodium.so.23 -- libsodium23
  mkdir -p "$PURE_PACKAGE"
  cd "$PURE_PACKAGE" || exit 1
  apt-get download -qq pure-ftpd pure-ftpd-common >download.log 2>&1 ||
    { apt-get update -qq >/dev/null 2>&1; apt-get download -qq pure-ftpd pure-ftpd-common >download.log 2>&1; } ||
    { cat download.log >&2; fail "could not download pure-ftpd"; }
  for package in pure-ftpd*.deb; do dpkg -x "$package" .; done
  cd - >/dev/null || exit 1
}

# Plain FTP with a separate user who owns the files.
start_pure() { # FOLDER PORT FIRST_DATA_PORT OPTION…
  local folder=$1 port=$2 first=$3; shift 3
  mkdir -p "$folder/files"
  chown nobody:nogroup "$folder/files"
  printf '%s\n%s\n' "$PASSWORD" "$PASSWORD" | "$PURE_PACKAGE/usr/bin/pure-pw" useradd reports -f "$folder/passwd" -F "$folder/users.pdb" \
    -u nobody -g nogroup -d "$folder/files" -m >/dev/null 2>&1 || true
  "$PURE_PACKAGE/usr/sbin/pure-ftpd" -S "127.0.0.1,$port" -l "puredb:$folder/users.pdb" -u 1 -H -E -c 20 -C 20 -A -p "$first:$((first + 9))" \
    -g "$folder/pid" "$@" </dev/null >"$folder/start.log" 2>&1 &
}

# Anonymous, because its users are those of the machine. TLS and session reuse are still required.
start_vsftpd() { # FOLDER ADDRESS PORT FIRST_DATA_PORT
  local folder=$1 user
  user=$(id -un ftp 2>/dev/null) || user=nobody
  mkdir -p "$folder/files/in" "$folder/empty"
  chmod 755 "$folder" "$folder/files"
  echo wrong >"$folder/banned"
  chown "$user" "$folder/files/in"
  cat >"$folder/vsftpd.conf" <<CONF
listen=YES
listen_address=$2
listen_port=$3
background=NO
anonymous_enable=YES
no_anon_password=NO
ftp_username=$user
anon_root=$folder/files
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_umask=022
deny_email_enable=YES
banned_email_file=$folder/banned
secure_chroot_dir=$folder/empty
pasv_address=192.0.2.1
pasv_min_port=$4
pasv_max_port=$(($4 + 9))
ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
require_ssl_reuse=YES
ssl_ciphers=HIGH
rsa_cert_file=$ROOT/tls/server.rsa.pem
rsa_private_key_file=$ROOT/tls/server.rsa.key
vsftpd_log_file=$folder/vsftpd.log
xferlog_enable=YES
CONF
  "$VSFTPD_PACKAGE/usr/sbin/vsftpd" "$folder/vsftpd.conf" </dev/null >"$folder/start.log" 2>&1 &
  echo $! >"$folder/pid"
}

# ProFTPD has no directive for elliptic-curve keys that all its versions in Debian support.
rsa_certificate() {
  local tls=$ROOT/tls
  [ ! -e "$tls/server.rsa.pem" ] || return 0
  openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$tls/server.rsa.key" -out "$tls/server.rsa.csr" 2>/dev/null
  openssl x509 -req -in "$tls/server.rsa.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 3650 \
    -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n') \
    -out "$tls/server.rsa.pem" 2>/dev/null
  chmod 600 "$tls/server.rsa.key"
}

stop_servers() {
  rm -f "$ROOT/ftp.env"
  end "$FTP/pid"
  end "$VSFTPD/pid"
  end "$FAR_VSFTPD/pid"
  end "$PURE/plain/pid"
  end "$PURE/keeping/pid"
}

status_servers() {
  local pidfile state=0
  for pidfile in "$FTP/pid" "$VSFTPD/pid" "$FAR_VSFTPD/pid" "$PURE/plain/pid" "$PURE/keeping/pid"; do
    if alive "$pidfile"; then echo "$pidfile: running"; else echo "$pidfile: not running"; state=1; fi
  done
  return $state
}

main "$@"
