# shellcheck shell=bash disable=SC2034
# Functions shared by the scripts of the real servers: packages, certificates, ports, process ids.
# Source this file.
#
# Each server has its own folder under $ROOT, listens on 127.0.0.1 only, and writes NAME.env with the
# addresses, accounts and files that a test needs, as KEY=VALUE lines.

set -euo pipefail

# Folder for everything. MAILQOS_REAL_SERVERS passes the same folder to the end-to-end tests.
ROOT=${MAILQOS_REAL_SERVERS:-/tmp/mailqos-real}
# Base of all ports, below the range that Linux assigns to outgoing connections (from 32768), which
# could already be in use.
PORT_BASE=${MAILQOS_REAL_PORT_BASE:-22000}
# Password of every test account, with all characters that a careless client mishandles.
PASSWORD='pass "word\ß 1'
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
fail() { say "$*"; exit 1; }

# need PROGRAM… -- PACKAGE…: installs the packages if a program is missing.
need() {
  local programs=() program missing=
  while [ "$1" != -- ]; do programs+=("$1"); shift; done
  shift
  for program in "${programs[@]}"; do command -v "$program" >/dev/null || [ -e "$program" ] || missing=$program; done
  [ -n "$missing" ] || return 0
  [ "$(id -u)" = 0 ] || fail "$missing is missing; install as root: apt-get install $*"
  # Debian starts a service as it installs it; ours are started from private folders only.
  local policy=/usr/sbin/policy-rc.d mine=
  if [ ! -e $policy ]; then mine=yes; printf '#!/bin/sh\nexit 101\n' > $policy; chmod 755 $policy; fi
  echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections 2>/dev/null || true
  local try done=
  for try in 1 2 3; do
    say "installing $* (try $try)"
    if apt-get -o DPkg::Lock::Timeout=300 update -qq >/dev/null 2>&1 &&
      DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" >"$ROOT/apt.log" 2>&1 </dev/null; then
      done=yes; break
    fi
    sleep $((try * 5))
  done
  [ -z "$mine" ] || rm -f $policy
  [ -n "$done" ] || { tail -n 20 "$ROOT/apt.log" >&2; fail "could not install $*"; }
}

# Creates a private certificate authority and a certificate for localhost, once.
certificates() {
  local tls=$ROOT/tls
  [ ! -e "$tls/server.pem" ] || return 0
  need openssl -- openssl
  mkdir -p "$tls"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=mailqos test authority' \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout "$tls/ca.key" -out "$tls/ca.pem" 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
    -keyout "$tls/server.key" -out "$tls/server.csr" 2>/dev/null
  openssl x509 -req -in "$tls/server.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 3650 \
    -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n') \
    -out "$tls/server.pem.new" 2>/dev/null
  chmod 600 "$tls"/*.key
  mv "$tls/server.pem.new" "$tls/server.pem"
}

# alive PIDFILE: succeeds if the recorded process is running.
alive() { [ -s "$1" ] && kill -0 "$(tr -d ' \n' <"$1")" 2>/dev/null; }

# end PIDFILE: stops the recorded process, with SIGTERM and then with SIGKILL.
end() {
  alive "$1" || { rm -f "$1"; return 0; }
  local pid; pid=$(tr -d ' \n' <"$1")
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$1"
}

# listening PORT…: waits until each port accepts connections.
listening() {
  local port
  for port in "$@"; do
    for _ in $(seq 100); do
      if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
      sleep 0.1
    done
    fail "nothing listens on port $port"
  done
}

# environment NAME KEY=VALUE…: publishes values for tests.
environment() {
  local name=$1; shift
  printf '%s\n' "$@" "CA_FILE=$ROOT/tls/ca.pem" >"$ROOT/$name.env.new"
  mv "$ROOT/$name.env.new" "$ROOT/$name.env"
}

# main VERB: calls the start, stop or status function of the script.
main() {
  mkdir -p "$ROOT"
  case ${1:-} in
    start) stop_servers; certificates; start_servers; say "ready: $ROOT" ;;
    stop) stop_servers ;;
    status) status_servers ;;
    *) echo "usage: $0 start|stop|status   (folder: MAILQOS_REAL_SERVERS, now $ROOT)" >&2; exit 2 ;;
  esac
}
