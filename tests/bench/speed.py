"""Measures `mailqos-analytics stats` on large lakes against other engines, the same figures from the same files.

Usage: speed.py MAILQOS_ANALYTICS LAKE_OF WORK_FOLDER [MILLIONS ...]

    cargo build --release --package mailqos-analytics
    cargo build --release --package mailqos-bench --bin lake_of
    pip install duckdb polars
    python3 tests/bench/speed.py target/release/mailqos-analytics target/release/lake_of /tmp/lakes 2 21 105

LAKE_OF writes a lake of so many million samples where there is none yet. Each engine is a process of its own with two
threads, started anew; of three runs the fastest counts. `stats` is measured from its start to its end, the others without the
start of Python and its modules. All write CSV. The limit is the bare decoding of the same columns by polars. `stats` makes
more figures than the others: outages, coverage, confidence intervals, delivered percentiles.
"""

import os
import subprocess
import sys
import time

ANALYTICS, LAKE_OF, WORK = sys.argv[1:4]
MILLIONS = [float(m) for m in sys.argv[4:]] or [2.0, 21.0]
RUNS = 3
METRICS = ["round_trip", "smtp_connect", "smtp_send", "pickup_connect", "pickup_login", "pickup_receive"]
QS = [0.5, 0.9, 0.95, 0.99]
THREADS = {"POLARS_MAX_THREADS": "2", "RAYON_NUM_THREADS": "2"}

DUCKDB = """
import duckdb, sys, time
begun = time.monotonic()
lake, by = sys.argv[1:3]
metrics, qs = {metrics!r}, {qs!r}
bucket = "date_trunc('day', started_at)" if by == "day" else "NULL"
columns = ", ".join(
    f"count({{m}}_us), min({{m}}_us) / 1000.0, avg({{m}}_us) / 1000.0, max({{m}}_us) / 1000.0, quantile_cont({{m}}_us, {{qs}})" for m in metrics)
outcomes = ", ".join(f"count(*) FILTER (outcome = '{{o}}')" for o in ("ok", "late", "lost", "smtp_failed", "pickup_failed"))
db = duckdb.connect()
db.execute("SET threads = 2; SET TimeZone = 'UTC'; SET enable_progress_bar = false")
db.execute(f"COPY (SELECT site, monitor, {{bucket}} AS bucket, count(*), {{outcomes}}, {{columns}} "
           f"FROM read_parquet('{{lake}}/samples/*/*/samples.parquet', hive_partitioning = true) "
           f"WHERE outcome <> 'not_tested' AND excluded IS NULL GROUP BY ALL ORDER BY ALL) TO '/dev/null' (FORMAT csv)")
"""
POLARS = """
import polars as pl, sys, time
begun = time.monotonic()
lake, by = sys.argv[1:3]
metrics, qs = {metrics!r}, {qs!r}
frame = pl.scan_parquet(f"{{lake}}/samples/*/*/samples.parquet", hive_partitioning=True)
frame = frame.filter((pl.col("outcome") != "not_tested") & pl.col("excluded").is_null())
keys = ["site", "monitor"] + ([pl.col("started_at").dt.truncate("1d").alias("bucket")] if by == "day" else [])
figures = [(pl.col("outcome") == o).sum().alias(o) for o in ("ok", "late", "lost", "smtp_failed", "pickup_failed")]
for m in metrics:
    column = pl.col(f"{{m}}_us")
    figures += [column.count().alias(f"{{m}}_count"), column.min().alias(f"{{m}}_min"), column.mean().alias(f"{{m}}_mean"), column.max().alias(f"{{m}}_max")]
    figures += [column.quantile(q, interpolation="linear").alias(f"{{m}}_{{q}}") for q in qs]
frame.group_by(keys).agg(figures).sort(["site", "monitor"] + (["bucket"] if by == "day" else [])).collect().write_csv("/dev/null")
"""
DECODING = """
import polars as pl, sys, glob, time
from concurrent.futures import ThreadPoolExecutor
begun = time.monotonic()
lake, metrics = sys.argv[1], {metrics!r}
columns = ["monitor", "started_at", "outcome"] + [f"{{m}}_us" for m in metrics]
def rows(path):
    return pl.read_parquet(path, columns=columns, parallel="none", hive_partitioning=False).height
with ThreadPoolExecutor(2) as pool:
    sum(pool.map(rows, glob.glob(f"{{lake}}/samples/*/*/samples.parquet")))
"""


def measured(command, runs=RUNS):
    """Wall time in seconds of the fastest run, and the peak memory in MB."""
    best, memory = None, 0
    for _ in range(runs):
        begun = time.monotonic()
        own = command[0] == sys.executable
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE if own else subprocess.DEVNULL, env={**os.environ, **THREADS}, text=True
        )
        said = process.stdout.read() if own else ""
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            return None, usage.ru_maxrss / 1024
        taken = float(said.split()[-1]) if own else taken
        best = taken if best is None else min(best, taken)
        memory = max(memory, usage.ru_maxrss / 1024)
    return best, memory


def python(script, *arguments):
    script = script.format(metrics=METRICS, qs=QS) + "print(time.monotonic() - begun)\n"
    return [sys.executable, "-c", script, *arguments]


for millions in MILLIONS:
    lake = os.path.join(WORK, f"lake-{millions:g}")
    if not os.path.isdir(lake):
        subprocess.run([LAKE_OF, "--samples", str(millions), "--data", lake], check=True)
    sum(len(open(os.path.join(folder, name), "rb").read()) for folder, _, names in os.walk(lake) for name in names)
    decoding, _ = measured(python(DECODING, lake))
    for by in ("total", "day"):
        stats = [ANALYTICS, "stats", "--data", lake, "--from", "2025-01-01", "--to", "2026-01-01", "--by", by, "--format", "csv"]
        ours, memory = measured(stats)
        if ours is None:
            sys.exit("stats failed")
        print(f"{millions:g} M samples, by {by}: stats {ours:.2f} s, {memory:.0f} MB", flush=True)
        others = [("bare decoding", decoding, None), ("DuckDB", *measured(python(DUCKDB, lake, by)))]
        if millions <= 30 and "NO_POLARS" not in os.environ:
            others.append(("polars expressions", *measured(python(POLARS, lake, by), 1)))
        for name, taken, peak in others:
            if taken is None:
                print(f"    {name:<20} failed" + (f" at {peak:.0f} MB" if peak else ""))
                continue
            note = f", {peak:.0f} MB" if peak else ""
            print(f"    {name:<20} {taken:6.2f} s{note}: stats takes {ours / taken:.2f} times as long", flush=True)
