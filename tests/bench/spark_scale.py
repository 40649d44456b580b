"""Measures the processor time of workers on a cluster of Apache Spark, by the number of shards, and compares the output.

Usage: spark_scale.py CLIENT WORKER LAKE WORK_FOLDER [SHARDS ...]

    cargo build --release --package mailqos-analytics --features spark
    cargo build --release --package mailqos-bench --bin lake_of
    target/release/lake_of --samples 21 --data /tmp/lake-21
    pip install pyspark
    python3 tests/bench/spark_scale.py target/release/mailqos-analytics target/release/mailqos-analytics /tmp/lake-21 /tmp/scale 1 2 4 8

Starts a cluster with two executors of one core each by tests/real/spark_cluster.sh, with the running Python. CLIENT asks, and
executors run WORKER, which may be the same program. Each question is asked twice, and the lower processor time counts. For
comparison, the same question without Spark. The limit is +10 % for each doubling.
"""

import os
import pathlib
import resource
import subprocess
import sys
import time

CLIENT, WORKER, LAKE, WORK = (os.path.abspath(path) for path in sys.argv[1:5])
SHARDS = [int(number) for number in sys.argv[5:]] or [1, 2, 4, 8]
RUNS = 2
PORT = 22400
LIMIT = 1.1
SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "real" / "spark_cluster.sh"
QUESTIONS = {"by total": ["--by", "total"], "by day": ["--by", "day"]}


def stats(program, more):
    command = [program, "--config", os.path.join(WORK, "mailqos.toml"), "stats", "--data", LAKE, "--from", "2025-01-01", "--to", "2026-01-01", "--timezone", "UTC", "--format", "csv", *more]
    # Named by the environment, the number of threads is that of a worker's task.
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "RAYON_NUM_THREADS": "1", "SPARK_CONNECT_AUTHENTICATE_TOKEN": "scale"}
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, env=environment, cwd=WORK)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, time.monotonic() - begun, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def processor_seconds(log):
    """Sums the lines `USER SYSTEM` of all workers."""
    return sum(sum(map(float, line.split())) for line in log.read_text().splitlines()) if log.exists() else 0.0


def main():
    os.makedirs(WORK, exist_ok=True)
    log, program = pathlib.Path(WORK, "processor"), pathlib.Path(WORK, "worker")
    program.write_text(f'#!/bin/bash\nTIMEFORMAT="%U %S"\n{{ time {WORKER} "$@" 2>&3; }} 3>&2 2>>{log}\n')
    program.chmod(0o755)
    config = pathlib.Path(WORK, "mailqos.toml")
    config.write_text(f'site = "scale"\n[engine]\nconnect = "sc://127.0.0.1:{PORT}"\nworker = "{program}"\n')
    cluster, token = os.path.join(WORK, "cluster"), {**os.environ, "SPARK_CONNECT_AUTHENTICATE_TOKEN": "scale"}
    too_much = False
    try:
        subprocess.run(["bash", SCRIPT, "start", sys.executable, cluster, str(PORT), "2"], check=True, env=token)
        for name, question in QUESTIONS.items():
            expected, seconds, here = min((stats(CLIENT if CLIENT == WORKER else WORKER, question) for _ in range(RUNS)), key=lambda run: run[2])
            print(f"{name:9} without Spark: {seconds:6.1f} s, {here:6.1f} s of processor time, {len(expected)} bytes", flush=True)
            last = None
            for shards in SHARDS:
                best = None
                for _ in range(RUNS):
                    log.unlink(missing_ok=True)
                    output, seconds, client = stats(CLIENT, ["--engine", "spark", "--shards", str(shards), *question])
                    if output != expected:
                        sys.exit(f"{name}, {shards} shards: another output")
                    spent = processor_seconds(log)
                    best = min(best or (spent, seconds, client), (spent, seconds, client))
                spent, seconds, client = best
                growth = spent / last if last else 1.0
                too_much |= growth > LIMIT
                print(
                    f"{name:9} {shards:3} shards: {seconds:6.1f} s, workers {spent:6.1f} s of processor time ({growth:.2f}), client {client:.1f} s",
                    flush=True,
                )
                last = spent
    finally:
        subprocess.run(["bash", SCRIPT, "stop", cluster], check=False)
    if too_much:
        sys.exit(f"more than {LIMIT} times the processor time for twice the shards")


main()
