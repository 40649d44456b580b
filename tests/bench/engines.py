"""Opens a lake with DuckDB, pyarrow and Apache Spark and compares what they count and sum with `mailqos-analytics stats`.

Usage: engines.py LAKE MAILQOS_ANALYTICS. The columns are those of the contract; every figure is computed anew here.
"""

import datetime
import json
import math
import subprocess
import sys

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyspark
from pyspark.sql import SparkSession

LAKE, ANALYTICS = sys.argv[1], sys.argv[2]
FROM, TO = "2000-01-01", "2100-01-01"
COLUMNS = {
    "monitor": pa.string(),
    "started_at": pa.timestamp("us", tz="UTC"),
    "outcome": pa.string(),
    "stage": pa.string(),
    "error": pa.string(),
    "smtp_connect_us": pa.int64(),
    "smtp_send_us": pa.int64(),
    "pickup_connect_us": pa.int64(),
    "pickup_login_us": pa.int64(),
    "pickup_receive_us": pa.int64(),
    "round_trip_us": pa.int64(),
    "round_trip_error_us": pa.int64(),
}
METRICS = ["round_trip", "smtp_connect", "smtp_send", "pickup_connect", "pickup_login", "pickup_receive"]
OUTCOMES = ["ok", "late", "lost", "smtp_failed", "pickup_failed", "not_tested"]


def same(what, ours, theirs):
    if ours is None or theirs is None:
        equal = ours is None and theirs is None
    elif isinstance(theirs, float):
        equal = abs(ours - theirs) <= 1e-9 * max(1.0, abs(theirs))
    else:
        equal = ours == theirs
    if not equal:
        sys.exit(f"{what}: stats says {ours}, the other engine {theirs}")


dataset = ds.dataset(f"{LAKE}/samples", partitioning="hive", format="parquet")
for name, kind in COLUMNS.items():
    found = dataset.schema.field(name).type
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_large_string(found) or pa.types.is_string_view(found):
        found = pa.string()
    if found != kind:
        sys.exit(f"pyarrow reads {name} as {found}, the contract says {kind}")

db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
db.execute(
    f"CREATE VIEW samples AS SELECT * FROM read_parquet('{LAKE}/samples/*/*/samples.parquet', hive_partitioning = true, union_by_name = true)"
)
rows = db.execute("SELECT count(*) FROM samples").fetchone()[0]
same("rows", dataset.count_rows(), rows)
doubles = db.execute("SELECT count(*) FROM (SELECT site, monitor, started_at FROM samples GROUP BY ALL HAVING count(*) > 1)")
same("doubles", doubles.fetchone()[0], 0)
names = {row[0] for row in db.execute("DESCRIBE samples").fetchall()}
counted = "outcome <> 'not_tested'" + (" AND excluded IS NULL" if "excluded" in names else "")

command = [ANALYTICS, "stats", "--data", LAKE, "--from", FROM, "--to", TO, "--timezone", "UTC", "--by", "total", "--full", "--format", "json"]
stats = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
monitors = db.execute("SELECT DISTINCT site, monitor FROM samples ORDER BY site, monitor").fetchall()
same("monitors", [(s["site"], s["monitor"]) for s in stats], monitors)

figures = 0
for entry in stats:
    key = [entry["site"], entry["monitor"]]
    where = f"site = ? AND monitor = ? AND {counted}"
    same(f"{key} tests", entry["tests"], db.execute(f"SELECT count(*) FROM samples WHERE {where}", key).fetchone()[0])
    for outcome in OUTCOMES[:-1]:
        count = db.execute(f"SELECT count(*) FROM samples WHERE {where} AND outcome = '{outcome}'", key).fetchone()[0]
        same(f"{key} {outcome}", entry[outcome], count)
        figures += 1
    not_tested = db.execute("SELECT count(*) FROM samples WHERE site = ? AND monitor = ? AND outcome = 'not_tested'", key)
    same(f"{key} not_tested", entry["not_tested"], not_tested.fetchone()[0])
    availability = db.execute(f"SELECT count(*) FILTER (outcome = 'ok') / nullif(count(*), 0) FROM samples WHERE {where}", key)
    same(f"{key} availability", entry["availability"], availability.fetchone()[0])
    for metric in METRICS:
        ms = f"{metric}_us / 1000.0::DOUBLE"
        quantiles = ", ".join(f"quantile_cont({ms}, {q})" for q in (0.5, 0.9, 0.95, 0.99))
        values = db.execute(
            f"SELECT count({metric}_us), min({ms}), avg({ms}), max({ms}), {quantiles} FROM samples WHERE {where}", key
        ).fetchone()
        for name, value in zip(["count", "min", "mean", "max", "p50", "p90", "p95", "p99"], values):
            same(f"{key} {metric} {name}", entry["metrics"][metric][name], value)
            figures += 1


def answer(*arguments):
    command = [ANALYTICS, "stats", "--data", LAKE, "--from", FROM, "--to", TO, "--full", "--format", "json", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# Days and weeks of zones whose clocks change by half an hour, or are a quarter of an hour off: by DuckDB's own calendar.
for zone in ("Australia/Lord_Howe", "Asia/Kathmandu", "Europe/Stockholm"):
    for unit in ("hour", "day", "week", "month", "quarter", "year"):
        if unit == "hour" and zone != "Asia/Kathmandu":
            continue  # DuckDB has no word for the hour that comes twice.
        local = f"date_trunc('{unit}', timezone('{zone}', started_at))"
        theirs = db.execute(
            f"SELECT site, monitor, strftime({local}, '%Y-%m-%dT%H:%M:%S'), count(*) FILTER ({counted}), "
            f"count(*) FILTER ({counted} AND outcome = 'ok'), quantile_cont(round_trip_us / 1000.0::DOUBLE, 0.95) FILTER ({counted}) "
            "FROM samples GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        ours = answer("--timezone", zone, "--by", unit)
        same(f"{zone} {unit} buckets", len(ours), len(theirs))
        for row, (site, monitor, bucket, tests, ok, p95) in zip(ours, theirs):
            what = f"{zone} {unit} {monitor} {bucket}"
            same(what, (row["site"], row["monitor"], row["bucket"][:19]), (site, monitor, bucket))
            same(f"{what} tests", (row["tests"], row["ok"]), (tests, ok))
            same(f"{what} p95", row["metrics"]["round_trip"]["p95"], p95)
            figures += 3

# All monitors together, further percentiles, undelivered mail as the slowest, delivered within.
NEVER = 1e15
(all_together,) = answer("--group", "all", "--percentiles", "75,99.9")
tests, never = db.execute(f"SELECT count(*), count(*) FILTER (round_trip_us IS NULL) FROM samples WHERE {counted}").fetchone()
same("all tests", all_together["tests"], tests)
for name, q in (("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)):
    for metric in METRICS:
        value = db.execute(f"SELECT quantile_cont({metric}_us / 1000.0::DOUBLE, {q}) FROM samples WHERE {counted}").fetchone()[0]
        same(f"all {metric} {name}", all_together["metrics"][metric][name], value)
    trips = f"quantile_cont(coalesce(round_trip_us / 1000.0::DOUBLE, {NEVER}), {q})"
    value = db.execute(f"SELECT {trips} FROM samples WHERE {counted}").fetchone()[0]
    same(f"all delivered {name}", all_together["delivered"][name], "not delivered" if value > 1e9 else value)
    figures += len(METRICS) + 1
for name, limit in (("10s", 10), ("30s", 30), ("1min", 60), ("5min", 300)):
    within = db.execute(f"SELECT count(*) FILTER (round_trip_us <= {limit} * 1000000) FROM samples WHERE {counted}").fetchone()[0]
    same(f"all within {name}", all_together["delivered_within"][name], within / tests if tests else None)
    figures += 1

# Wilson's interval by its formula, and time up and down by a walk over the samples.
Z = 1.959963984540054
for row in stats:
    if row["tests"] == 0:
        same("no interval of nothing", row["availability_interval"], None)
        continue
    n, p = row["tests"], row["ok"] / row["tests"]
    centre, half = p + Z * Z / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    for ours, theirs in zip(row["availability_interval"], ((centre - half), (centre + half))):
        same(f"{row['monitor']} Wilson", ours, min(1.0, max(0.0, theirs / (1 + Z * Z / n))))
        figures += 1
span = "epoch_us(min(started_at)), epoch_us(max(started_at))"
first, last = db.execute(f"SELECT {span} FROM samples").fetchone()
from_us, to_us = first // 1000000 * 1000000, (last // 1000000 - 60) * 1000000
if "test_interval_us" in names and to_us > from_us:
    moment = lambda at: datetime.datetime.fromtimestamp(at / 1e6, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    command = [ANALYTICS, "stats", "--data", LAKE, "--from", moment(from_us), "--to", moment(to_us), "--full", "--format", "json"]
    for row in json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout):
        excluded = "excluded IS NOT NULL" if "excluded" in names else "false"
        tests = db.execute(
            f"SELECT epoch_us(started_at), outcome = 'ok', {excluded}, test_interval_us FROM samples "
            "WHERE site = ? AND monitor = ? AND outcome <> 'not_tested' ORDER BY 1", [row["site"], row["monitor"]]
        ).fetchall()
        if any(interval is None for *_, interval in tests):
            continue
        sums, down_since = {"up": 0, "down": 0, "excluded": 0, "unknown": max(0, min(tests[0][0], to_us) - from_us)}, None
        outages = []
        for index, (at, ok, without, interval) in enumerate(tests):
            end = tests[index + 1][0] if index + 1 < len(tests) else max(to_us, at)
            if ok and down_since is not None:
                outages.append((down_since, at))
                down_since = None
            if not ok and not without and down_since is None:
                down_since = at
            state = "unknown" if end - at > 3 * interval else "excluded" if without else "up" if ok else "down"
            sums[state] += max(0, min(end, to_us) - max(at, from_us))
        if down_since is not None:
            outages.append((down_since, None))
        touching = [o for o in outages if o[0] < to_us and (o[1] is None or o[1] > from_us)]
        ended = [end - begin for begin, end in touching if end is not None]
        what = f"{row['site']} {row['monitor']}"
        same(f"{what} downtime", row["downtime_s"], sums["down"] / 1e6)
        same(f"{what} unknown", row["unknown_s"], sums["unknown"] / 1e6)
        same(f"{what} coverage", row["coverage"], (to_us - from_us - sums["unknown"]) / (to_us - from_us))
        known = sums["up"] + sums["down"]
        same(f"{what} availability by time", row["availability_by_time"], sums["up"] / known if known else None)
        same(f"{what} outages", row["outages"], len(touching))
        same(f"{what} mttr", row["mttr_s"], (sum(ended) // len(ended)) / 1e6 if ended else None)
        figures += 6

# Spark in local mode, in this process's own JVM: nothing listens beyond this machine, nothing is left running.
spark = (
    SparkSession.builder.master("local[2]")
    .appName("mailqos-engines")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.memory", "1g")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.shuffle.partitions", "2")
    .config("spark.sql.parquet.mergeSchema", "true")
    # A site may be called `007`.
    .config("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
frame = spark.read.parquet(f"{LAKE}/samples")
frame.createOrReplaceTempView("samples")
SPARK_TYPES = {pa.string(): "string", pa.int64(): "bigint", pa.timestamp("us", tz="UTC"): "timestamp"}
found = dict(frame.dtypes)
for name, kind in COLUMNS.items():
    if found.get(name) != SPARK_TYPES[kind]:
        sys.exit(f"Spark reads {name} as {found.get(name)}, the contract says {kind}")
# Integers only, so that the sums must be equal to the last digit. The two dialects share this text, but for the moment's microseconds.
columns = ["count(*)"] + [f"count(*) FILTER (WHERE outcome = '{outcome}')" for outcome in OUTCOMES]
for name in [f"{metric}_us" for metric in METRICS] + ["round_trip_error_us"]:
    columns += [f"count({name})", f"min({name})", f"max({name})", f"CAST(sum({name}) AS BIGINT)"]


def by_monitor(micros):
    moments = f"min({micros}), max({micros})"
    return f"SELECT site, monitor, {moments}, {', '.join(columns)} FROM samples GROUP BY site, monitor ORDER BY site, monitor"


ours = [tuple(row) for row in db.execute(by_monitor("epoch_us(started_at)")).fetchall()]
theirs = [tuple(row) for row in spark.sql(by_monitor("unix_micros(started_at)")).collect()]
if len(ours) != len(theirs):
    sys.exit(f"DuckDB finds {len(ours)} monitors, Spark {len(theirs)}")
for one, other in zip(ours, theirs):
    if one != other:
        sys.exit(f"DuckDB says {one}, Spark {other}")
    figures += len(one) - 2
spark.stop()
print(
    f"{rows} samples of {len(stats)} monitors: DuckDB {duckdb.__version__}, pyarrow {pa.__version__}, "
    f"Spark {pyspark.__version__} and stats agree in {figures} figures"
)
