#!/usr/bin/env bash
# A cluster of Apache Spark on one machine, from the Python package pyspark alone: a master, workers
# with one core each (an executor is a separate Java process), and a Spark Connect server. Nothing
# listens beyond 127.0.0.1. Needs Java 17 or later.
#
# usage: spark_cluster.sh start PYTHON FOLDER PORT [WORKERS]   PORT and the following WORKERS + 2
#        spark_cluster.sh stop FOLDER
#        spark_cluster.sh stop-connect FOLDER
#        spark_cluster.sh start-connect FOLDER
#
# SPARK_EXTRA has further options for spark-submit. The token is read from the environment variable
# SPARK_CONNECT_AUTHENTICATE_TOKEN.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
verb=$1

# listening NAME PORT: waits until a server accepts connections. Starting Java takes minutes on a busy
# machine.
listening() {
  for _ in $(seq 600); do
    (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null && return 0
    kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null || break
    sleep 0.5
  done
  echo "$1 does not listen on port $2" >&2
  tail -n 20 "$folder"/*.log >&2
  return 1
}

# start NAME PROGRAM ARGUMENT…: starts a server as the leader of a new session.
start() {
  local name=$1; shift
  setsid "$@" >>"$folder/$name.log" 2>&1 </dev/null &
  echo $! >"$folder/$name.pid"
}

# end NAME: stops the session of a server, first with SIGTERM.
end() {
  local pid
  pid=$(cat "$folder/$1.pid" 2>/dev/null) || return 0
  kill -TERM -- "-$pid" 2>/dev/null || true
  for _ in $(seq 40); do kill -0 -- "-$pid" 2>/dev/null || break; sleep 0.25; done
  kill -KILL -- "-$pid" 2>/dev/null || true
  rm -f "$folder/$1.pid"
}

start_connect() {
  local extra=()
  read -r -a extra <<<"${SPARK_EXTRA:-}"
  start connect "$SPARK_HOME/bin/spark-submit" --class org.apache.spark.sql.connect.service.SparkConnectServer \
    --name mailqos-connect --master "spark://127.0.0.1:$((port + 1))" --driver-memory 768m --executor-memory 768m \
    --conf spark.connect.grpc.binding.address=127.0.0.1 --conf "spark.connect.grpc.binding.port=$port" \
    --conf spark.driver.host=127.0.0.1 --conf spark.driver.bindAddress=127.0.0.1 --conf spark.ui.enabled=false \
    --conf "spark.sql.warehouse.dir=$folder/warehouse" ${extra[@]+"${extra[@]}"} spark-internal
  listening connect "$port"
}

case $verb in
start)
  python=$2 folder=$3 port=$4 workers=${5:-2}
  mkdir -p "$folder"
  folder=$(cd "$folder" && pwd)
  SPARK_HOME=$("$python" -c 'import os, pyspark; print(os.path.dirname(pyspark.__file__))')
  printf '%s\n' "port=$port" "workers=$workers" "python=$(printf %q "$python")" "SPARK_HOME=$(printf %q "$SPARK_HOME")" \
    "SPARK_EXTRA=$(printf %q "${SPARK_EXTRA:-}")" >"$folder/settings"
  ;;
*)
  folder=$(cd "$2" && pwd)
  # shellcheck disable=SC1091
  . "$folder/settings"
  ;;
esac
export SPARK_HOME SPARK_LOCAL_IP=127.0.0.1 SPARK_NO_DAEMONIZE=1
export SPARK_WORKER_DIR=$folder/work SPARK_LOCAL_DIRS=$folder/local PYSPARK_PYTHON=$python
cd "$folder"

case $verb in
start)
  start master env SPARK_DAEMON_MEMORY=192m "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.master.Master \
    --host 127.0.0.1 --port $((port + 1)) --webui-port $((port + 2))
  listening master $((port + 1))
  for n in $(seq "$workers"); do
    start "worker$n" env SPARK_DAEMON_MEMORY=192m "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.worker.Worker \
      --host 127.0.0.1 --cores 1 --memory 1g --webui-port $((port + 2 + n)) "spark://127.0.0.1:$((port + 1))"
  done
  start_connect
  ;;
start-connect) start_connect ;;
stop-connect) end connect ;;
stop)
  end connect
  for n in $(seq "$workers"); do end "worker$n"; done
  end master
  ;;
*)
  sed -n '2,13p' "$here" >&2
  exit 2
  ;;
esac
