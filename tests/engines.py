"""Opens a lake with DuckDB and pyarrow and compares what they count and sum with `mailqos-analytics stats`.

Usage: engines.py LAKE MAILQOS_ANALYTICS. The columns are those of the contract; every figure is computed anew here.
"""

import json
import subprocess
import sys

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

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

command = [ANALYTICS, "stats", "--data", LAKE, "--from", FROM, "--to", TO, "--timezone", "UTC", "--by", "total", "--format", "json"]
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
print(f"{rows} samples of {len(stats)} monitors: DuckDB {duckdb.__version__}, pyarrow {pa.__version__} and stats agree in {figures} figures")
