"""Writes a sample lake with pyarrow and DuckDB, as other programs would, and computes every figure of `mailqos-analytics` anew.

Usage: figures.py MAILQOS_ANALYTICS [WORK_FOLDER]. Needs pyarrow and duckdb.

The samples lie around the change of clocks of Lord Howe (by half an hour) and of Berlin; there are outages over the edges of days
and of the period, gaps, maintenance, lost and late mails, tests that could not be made, and three sites, one of them with a name
that hive partitions have to encode. What is computed here follows the contract's words, sample by sample, and shares nothing with
the program.
"""

import bisect
import csv
import datetime
import io
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import zoneinfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

ANALYTICS = sys.argv[1]
WORK = sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="mailqos-figures.")
UTC = datetime.timezone.utc
SECOND, DAY = 1_000_000, 86_400_000_000
METRICS = ["round_trip", "smtp_connect", "smtp_send", "pickup_connect", "pickup_login", "pickup_receive"]
OUTCOMES = ["ok", "late", "lost", "smtp_failed", "pickup_failed"]
QS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p75": 0.75, "p99.9": 0.999}
CONTRACT_QS = ["p50", "p90", "p95", "p99"]
LIMITS = {"10s": 10, "30s": 30, "1min": 60, "5min": 300}
CONTRACT_KEYS = ["site", "monitor", "bucket", "tests", *OUTCOMES, "not_tested", "availability", "metrics"]
CONTRACT_STATISTICS = ["count", "min", "mean", "max", *CONTRACT_QS]
Z = 1.959963984540054


def micros(text):
    return round(datetime.datetime.fromisoformat(text).timestamp()) * SECOND


# --- The lake ------------------------------------------------------------------------------------------------------------------

MONITORS = {  # site, monitor: object, tags
    ("007", "mail.paris"): ("paris", ["gold", "west"]),
    ("007", "mail_oslo-2"): ("oslo", ["gold"]),
    ("Main office", "mail.paris"): ("paris", ["gold", "west"]),
    ("Main office", "quiet"): ("paris", []),
    ("nord", "mail_oslo-2"): ("oslo", ["gold"]),
    ("nord", "zz-new"): ("oslo", ["west"]),
}
FIRST, LAST = micros("2025-03-24T00:00:00+00:00"), micros("2025-04-10T00:00:00+00:00")


def samples():
    """Rows in the lake's order; times are whole milliseconds, so that a lake in milliseconds holds the same."""
    rows = []
    for number, (site, monitor) in enumerate(sorted(MONITORS)):
        draw = random.Random(number)
        interval = [600, 300, 900, 3600, 600, 1200][number] * SECOND
        at, bad_until, window_until = FIRST + number * 7 * SECOND, 0, 0
        if monitor == "zz-new":
            at += 9 * DAY
        while at < LAST:
            row = {"site": site, "monitor": monitor, "started_at": at, "test_interval_us": interval, "settled": True}
            row["max_round_trip_us"] = 60 * SECOND
            if at > bad_until and draw.random() < 0.004:
                bad_until = at + draw.choice([1, 4, 30]) * interval
            if at > window_until and draw.random() < 0.003:
                window_until = at + 6 * interval
            fate = draw.random()
            if at < bad_until:
                outcome = draw.choice(["lost", "smtp_failed", "pickup_failed", "lost", "ok" if draw.random() < 0.05 else "lost"])
            else:
                outcome = "late" if fate < 0.01 else "lost" if fate < 0.015 else "not_tested" if fate < 0.03 else "ok"
            row["outcome"] = outcome
            row["excluded"] = "maintenance" if at < window_until else None
            if outcome == "lost" and draw.random() < 0.3:
                row["settled"] = False
            if outcome in ("smtp_failed", "pickup_failed"):
                row["stage"] = "smtp_connect" if outcome == "smtp_failed" else "pickup_login"
                row["error"] = 'refused, "for now"; später'
            slow = 1 + 0.4 * math.sin(at / DAY * 2 * math.pi)
            time = lambda middle, spread: int(middle * slow * math.exp(spread * draw.gauss(0, 1))) * 1000
            if outcome != "smtp_failed" and outcome != "not_tested":
                row["smtp_connect_us"], row["smtp_send_us"] = time(30, 0.3), time(250, 0.4)
                row["pickup_connect_us"], row["pickup_login_us"] = time(40, 0.3), time(90, 0.5)
            if outcome in ("ok", "late"):
                row["pickup_receive_us"] = time(25, 0.3)
                # Now and then more than 71 minutes: more than four bytes of microseconds hold.
                row["round_trip_us"] = 60_000_000 + time(90_000, 1.5) if outcome == "late" else min(60_000_000, time(9000, 0.8))
                if outcome == "late" and draw.random() < 0.1:
                    row["round_trip_us"] = 5 * 3600 * SECOND
                row["round_trip_error_us"] = time(400, 0.2)
            rows.append(row)
            # Some gaps, in which nothing is known.
            at += (interval * 20 if draw.random() < 0.004 else interval) + draw.randrange(-2000, 2000) * 1000
    rows.sort(key=lambda row: (row["site"], row["monitor"], row["started_at"]))
    return rows


WORDS = ["monitor", "outcome", "stage", "error", "excluded"]
TIMES = [f"{metric}_us" for metric in METRICS] + ["round_trip_error_us", "test_interval_us", "max_round_trip_us"]


def table(rows, text=pa.string(), whole=pa.int64(), moment=pa.timestamp("us", tz="UTC"), without=()):
    columns = {}
    for name in ["monitor", "started_at", "outcome", "stage", "error", *TIMES, "settled", "excluded"]:
        if name in without:
            continue
        values = [row.get(name) for row in rows]
        if name in WORDS:
            column = pa.array(values, pa.string())
            columns[name] = column.dictionary_encode() if pa.types.is_dictionary(text) else column.cast(text)
        elif name == "started_at":
            columns[name] = pa.array(values, pa.timestamp("us", tz="UTC")).cast(moment)
        elif name == "settled":
            columns[name] = pa.array(values, pa.bool_())
        else:
            columns[name] = pa.array(values, pa.int64() if name in ("round_trip_us", "test_interval_us", "max_round_trip_us") and whole == pa.int32() else whole)
    return pa.table(columns)


def encoded(site):
    return site.replace(" ", "%20")


def write(name, rows, options=None, file="samples.parquet", shuffled=False, pieces=1, folder=encoded, **kind):
    data = os.path.join(WORK, name)
    days = {}
    for row in rows:
        date = datetime.datetime.fromtimestamp(row["started_at"] / SECOND, UTC).date()
        days.setdefault((row["site"], date), []).append(row)
    for (site, date), of_day in days.items():
        place = os.path.join(data, "samples", f"site={folder(site)}", f"date={date}")
        os.makedirs(place)
        if shuffled:
            random.Random(1).shuffle(of_day)
        for piece in range(pieces):
            path = os.path.join(place, file if pieces == 1 else f"part-{piece}.parquet")
            pq.write_table(table(of_day[piece::pieces], **kind), path, **(options or {}))
    return data


def write_with_duckdb(name, rows, options):
    data = os.path.join(WORK, name)
    os.makedirs(os.path.join(data, "samples"))
    all_rows = table(rows).append_column("site", pa.array([row["site"] for row in rows]))
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.register("all_rows", all_rows)
    db.execute(
        "COPY (SELECT *, strftime(started_at, '%Y-%m-%d') AS date FROM all_rows ORDER BY monitor, started_at) "
        f"TO '{data}/samples' (FORMAT parquet, PARTITION_BY (site, date){options})"
    )
    return data


CONFIG = """
site = "nord"
timezone = "Europe/Berlin"
data = "%s"

[object.paris]
address = "127.0.0.1"

[object.oslo]
address = "127.0.0.1"

[account.probe]
user = "probe@example.com"
password = { env = "PROBE_PASSWORD" }
"""
MONITOR = """
[monitor.%s]
object = "%s"
tags = %s
from = "probe@example.com"
to = "probe@example.com"
smtp = { account = "probe" }
pickup = { protocol = "pop3", account = "probe" }
"""


# --- The figures ---------------------------------------------------------------------------------------------------------------


def percentile(ordered, q, never=0):
    """Linear between closest ranks; the `never` slowest have no value."""
    n = len(ordered) + never
    if n == 0:
        return None
    position = (n - 1) * q
    low = math.floor(position)
    high = low + 1 if position > low else low
    if high >= len(ordered):
        return "not delivered" if never else ordered[-1]
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def interval_ranks(n, q, known={}):
    """Order statistics around the percentile, each tail at most 2.5 %, by the binomial distribution itself."""
    if (n, q) in known:
        return known[n, q]
    found, below, low, high = None, 0.0, None, None
    if n > 2000:
        half = Z * math.sqrt(n * q * (1 - q))
        low, high = math.floor(n * q - half - 0.5), math.ceil(n * q + half + 0.5) + 1
        found = (low - 1, high - 1) if low >= 1 and high <= n else None
    elif n >= 2:
        for x in range(n + 1):
            if below <= 0.025:
                low = x
            below += math.exp(math.lgamma(n + 1) - math.lgamma(x + 1) - math.lgamma(n - x + 1) + x * math.log(q) + (n - x) * math.log(1 - q))
            if high is None and below >= 0.975:
                high = x + 1
        if low is not None and low >= 1 and high is not None and high <= n:
            found = (low - 1, high - 1)
    known[n, q] = found
    return found


def wilson(part, whole):
    if whole == 0:
        return None
    p = part / whole
    centre, half = p + Z * Z / (2 * whole), Z * math.sqrt(p * (1 - p) / whole + Z * Z / (4 * whole * whole))
    ends = [(centre - half) / (1 + Z * Z / whole), (centre + half) / (1 + Z * Z / whole)]
    return [min(1.0, max(0.0, end)) for end in ends]


class Walk:
    """What the time between the tests of one monitor was, and its outages, over the samples of a day around the period too."""

    def __init__(self, rows, begin, end):
        tests = [row for row in rows if row["outcome"] != "not_tested" and begin - DAY <= row["started_at"] < end + DAY]
        gaps = sorted(b["started_at"] - a["started_at"] for a, b in zip(tests, tests[1:]))
        guess = gaps[len(gaps) // 2] if gaps else 300 * SECOND
        self.stretches, self.outages, down_since = [], [], None
        if not tests or tests[0]["started_at"] > begin:
            self.stretches.append(("unknown", begin, tests[0]["started_at"] if tests else end))
        for index, test in enumerate(tests):
            at, ok, counts = test["started_at"], test["outcome"] == "ok", test.get("excluded") is None
            if ok and down_since is not None:
                self.outages.append((down_since, at))
                down_since = None
            if not ok and counts and down_since is None:
                down_since = at
            until = tests[index + 1]["started_at"] if index + 1 < len(tests) else max(end, at)
            interval = test.get("test_interval_us") or guess
            state = "unknown" if until - at > 3 * interval else "excluded" if not counts else "up" if ok else "down"
            self.stretches.append((state, at, until))
        if down_since is not None:
            self.outages.append((down_since, None))
        self.stretches = [(s, max(a, begin), min(b, end)) for s, a, b in self.stretches if max(a, begin) < min(b, end)]
        self.starts = [a for _, a, _ in self.stretches]
        self.outages = [o for o in self.outages if o[0] < end and (o[1] is None or o[1] > begin)]
        self.end = end

    def touching(self, begin, end):
        return self.stretches[max(0, bisect.bisect_right(self.starts, begin) - 1) : bisect.bisect_left(self.starts, end)]

    def within(self, begin, end):
        time = {"up": 0, "down": 0, "excluded": 0, "unknown": 0, "length": end - begin, "longest": None, "outages": 0, "ended": []}
        for state, a, b in self.touching(begin, end):
            time[state] += max(0, min(b, end) - max(a, begin))
        for since, until in self.outages:
            if since >= end or (until or self.end) <= begin:
                continue
            time["outages"] += 1
            if until is not None:
                time["ended"].append(until - since)
            last = min(until or self.end, end)
            known = sum(
                max(0, min(b, last) - max(a, since, begin))
                for state, a, b in self.touching(max(since, begin), last)
                if state == "down"
            )
            time["longest"] = max(time["longest"] or 0, known)
        return time


def figures(rows, times, qs, metrics=METRICS):
    """All figures of some samples, of which `times` are the parts of time of each monitor."""
    counted = [row for row in rows if row["outcome"] != "not_tested" and row.get("excluded") is None]
    tests, count = len(counted), lambda outcome: sum(row["outcome"] == outcome for row in counted)
    share = lambda part: part / tests if tests else None
    trips = sorted(row["round_trip_us"] for row in counted if row.get("round_trip_us") is not None)
    total = {key: sum(time[key] for time in times) for key in ("up", "down", "excluded", "unknown", "length", "outages")}
    ended = [duration for time in times for duration in time["ended"]]
    longest = [time["longest"] for time in times if time["longest"] is not None]
    found = {
        "tests": tests,
        **{outcome: count(outcome) for outcome in OUTCOMES},
        "not_tested": sum(row["outcome"] == "not_tested" for row in rows),
        "availability": share(count("ok")),
        "metrics": {},
        "excluded": sum(row["outcome"] != "not_tested" and row.get("excluded") is not None for row in rows),
        "provisional": sum(row.get("settled") is False for row in counted),
        "availability_interval": wilson(count("ok"), tests),
        "delivery_rate": share(count("ok") + count("late")),
        "coverage": (total["length"] - total["unknown"]) / total["length"],
        "availability_by_time": total["up"] / (total["up"] + total["down"]) if total["up"] + total["down"] else None,
        "downtime_s": total["down"] / SECOND,
        "unknown_s": total["unknown"] / SECOND,
        "maintenance_s": total["excluded"] / SECOND,
        "outages": total["outages"],
        "longest_outage_s": max(longest) / SECOND if longest else None,
        "mttr_s": sum(ended) // len(ended) / SECOND if ended else None,
        "mtbf_s": total["up"] // total["outages"] / SECOND if total["outages"] else None,
        "delivered_within": {
            **{name: share(bisect.bisect_right(trips, limit * SECOND)) for name, limit in LIMITS.items()},
            "max_round_trip": share(count("ok")),
        },
        "delivered": {},
    }
    # No maintenance is declared afterwards in these lakes.
    found.update(declared=0, declared_s=0.0, availability_excluding_declared=found["availability"])
    found["availability_by_time_excluding_declared"] = found["availability_by_time"]
    found["downtime_excluding_declared_s"] = found["downtime_s"]
    for q in qs:
        value = percentile(trips, QS[q], tests - len(trips))
        found["delivered"][q] = value / 1000 if isinstance(value, (int, float)) else value
    for metric in metrics:
        values = sorted(row[f"{metric}_us"] for row in counted if row.get(f"{metric}_us") is not None)
        of = {"count": len(values), "min": None, "mean": None, "max": None}
        if values:
            of.update(min=values[0] / 1000, mean=sum(values) / len(values) / 1000, max=values[-1] / 1000)
        for q in qs:
            of[q] = percentile(values, QS[q]) / 1000 if values else None
        of["intervals"] = {}
        for q in qs:
            ranks = interval_ranks(len(values), QS[q])
            of["intervals"][q] = [values[ranks[0]] / 1000, values[ranks[1]] / 1000] if ranks else None
        found["metrics"][metric] = of
    return found


class Zone:
    """Buckets of local time."""

    def __init__(self, name, week_start=0, year_start=1):
        self.name, self.zone, self.week_start, self.year_start, self.known = name, zoneinfo.ZoneInfo(name), week_start, year_start, {}

    def local(self, at):
        return (datetime.datetime(1970, 1, 1, tzinfo=UTC) + datetime.timedelta(microseconds=at)).astimezone(self.zone)

    def moment(self, date, hour=0, fold=0):
        local = datetime.datetime(date.year, date.month, date.day, hour, tzinfo=self.zone, fold=fold)
        return round((local.astimezone(UTC) - datetime.datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * SECOND

    def bucket(self, unit, at):
        """Start and end of the bucket of a moment; clocks change at full quarters of an hour."""
        quarter = at - at % (900 * SECOND)
        if (unit, quarter) not in self.known:
            self.known[unit, quarter] = self.find(unit, quarter)
        return self.known[unit, quarter]

    def find(self, unit, at):
        local = self.local(at)
        date = local.date()
        months = (date.month - self.year_start) % 12
        if unit == "hour":
            start, step = self.hour(at), 1800 * SECOND
            return start, next(end for end in range(start + step, start + 6 * step, step) if self.hour(end) != start)
        if unit == "day":
            first, last = date, date + datetime.timedelta(1)
        elif unit == "week":
            first = date - datetime.timedelta((date.weekday() - self.week_start) % 7)
            last = first + datetime.timedelta(7)
        else:
            back = {"month": 0, "quarter": months % 3, "year": months}[unit]
            length = {"month": 1, "quarter": 3, "year": 12}[unit]
            month = date.year * 12 + date.month - 1 - back
            first = datetime.date(month // 12, month % 12 + 1, 1)
            last = datetime.date((month + length) // 12, (month + length) % 12 + 1, 1)
        return self.moment(first), self.moment(last)

    def hour(self, at):
        """The full hour of the same offset where there is one, else the one that the clock showed before it."""
        local = self.local(at)
        starts = [start for fold in (0, 1) if (start := self.moment(local.date(), local.hour, fold)) <= at]
        same = [start for start in starts if self.local(start).utcoffset() == local.utcoffset()]
        return max(same or starts)

    def text(self, at):
        local = self.local(at)
        return local.replace(microsecond=0).isoformat()


GROUPS = {
    "monitor": lambda site, monitor, of, tags: [(site, monitor, None)],
    "site": lambda site, monitor, of, tags: [(site, None, None)],
    "all": lambda site, monitor, of, tags: [(None, None, None)],
    "object": lambda site, monitor, of, tags: [(None, None, of)],
    "tag": lambda site, monitor, of, tags: [(None, None, tag) for tag in tags or [None]],
}


def expected(rows, zone, begin, end, unit, group, qs):
    """What stats must say: key, then figures, in order."""
    series = {}
    for row in rows:
        series.setdefault((row["site"], row["monitor"]), []).append(row)
    groups = {}
    for key, of in series.items():
        inside = [row for row in of if begin <= row["started_at"] < end]
        for whose in GROUPS[group](*key, *MONITORS[key]):
            groups.setdefault(whose, []).append((key, inside, Walk(of, begin, end)))
    if group != "monitor":
        # What is configured at this site and was never tested makes its groups no better known.
        for monitor in sorted({monitor for _, monitor in MONITORS} - {monitor for site, monitor in series if site == "nord"}):
            of = next(key for key in MONITORS if key[1] == monitor)
            for whose in GROUPS[group]("nord", monitor, *MONITORS[of]):
                if whose in groups:
                    groups[whose].append((("nord", monitor), [], Walk([], begin, end)))
    answers = []
    for whose in sorted(groups, key=lambda whose: [(part is not None, part or "") for part in whose]):
        buckets = {}
        for _, inside, _ in groups[whose]:
            for row in inside:
                span = (None, None) if unit == "total" else zone.bucket(unit, row["started_at"])
                buckets.setdefault(span, []).append(row)
        for (start, stop), of in sorted(buckets.items(), key=lambda item: item[0][0] or 0):
            a, b = (begin, end) if start is None else (max(begin, start), min(end, stop))
            times = [walk.within(a, b) for _, _, walk in groups[whose]]
            found = figures(of, times, qs)
            found["monitors"] = len({(row["site"], row["monitor"]) for row in of})
            site, monitor, name = whose
            key = {"site": site, "monitor": monitor}
            if group in ("object", "tag"):
                key[group] = name
            key["bucket"] = None if start is None else zone.text(start)
            answers.append({**key, **found})
    return answers


# --- The comparison ------------------------------------------------------------------------------------------------------------

compared = 0


def same(what, ours, theirs):
    """Counts and words to the letter, other numbers to the twelfth digit."""
    global compared
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or set(ours) != set(theirs):
            sys.exit(f"{what}: stats has {ours if not isinstance(ours, dict) else sorted(set(ours) ^ set(theirs))}")
        for name, value in theirs.items():
            same(f"{what} {name}", ours[name], value)
        return
    if isinstance(theirs, (list, tuple)):
        if not isinstance(ours, list) or len(ours) != len(theirs):
            sys.exit(f"{what}: stats has {ours}, to be {theirs}")
        for index, value in enumerate(theirs):
            same(f"{what} [{index}]", ours[index], value)
        return
    compared += 1
    if isinstance(theirs, float) and isinstance(ours, (int, float)):
        equal = abs(ours - theirs) <= 1e-12 * max(1.0, abs(theirs)) * 10
    else:
        equal = ours == theirs and type(ours) is type(theirs)
    if not equal:
        sys.exit(f"{what}: stats says {ours!r}, it is {theirs!r}")


def run(*arguments, text=True):
    done = subprocess.run([ANALYTICS, *arguments], capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{arguments}: {done.stderr.decode()}")
    return done.stdout.decode() if text else done.stdout


def answer(*arguments):
    return json.loads(run(*arguments, "--format", "json"))


def flat(row, named):
    """A JSON row as the columns of CSV and Parquet."""
    found = {key: row[key] for key in ("site", "monitor", *named, "bucket", "tests", *OUTCOMES, "not_tested", "availability")}
    for metric, of in row["metrics"].items():
        found.update({f"{metric}_{name}": value for name, value in of.items() if name != "intervals"})
    names = ["monitors", "excluded", "provisional", "delivery_rate", "coverage", "availability_by_time", "downtime_s", "unknown_s"]
    names += ["maintenance_s", "outages", "longest_outage_s", "mttr_s", "mtbf_s"]
    names += ["declared", "declared_s", "availability_excluding_declared"]
    names += ["availability_by_time_excluding_declared", "downtime_excluding_declared_s"]
    found.update({name: row[name] for name in names})
    low, high = row["availability_interval"] or (None, None)
    found.update(availability_low=low, availability_high=high)
    found.update({f"delivered_within_{name}": value for name, value in row["delivered_within"].items()})
    for q, value in row["delivered"].items():
        low, high = row["metrics"]["round_trip"]["intervals"][q] or (None, None)
        found[f"delivered_{q}"] = None if value == "not delivered" else value
        found.update({f"round_trip_{q}_low": low, f"round_trip_{q}_high": high})
    return found


RATES = "accepted_rate dkim_pass_rate dmarc_pass_rate first_attempt_rate inbox_placement junk_rate spam_rate spf_pass_rate".split()
DELIVERABILITY = {*"bounced duplicated folder_unknown in_inbox in_junk in_other_folder retried retry_delay_s spam_score_p50 spam_score_p95".split()}
DELIVERABILITY |= {rate + end for rate in RATES for end in ("", "_low", "_high")}


def formats(config, days):
    """CSV, Parquet and the table say what JSON says."""
    for more in (["--group", "tag", "--by", "week"], ["--by", "day"], ["--group", "all"]):
        named = ["tag"] if "tag" in more else []
        command = ["--config", config, "stats", *days, *more]
        rows = [flat(row, named) for row in answer(*command, "--full")]
        table = list(csv.DictReader(io.StringIO(run(*command, "--format", "csv"))))
        parquet = pq.read_table(io.BytesIO(run(*command, "--format", "parquet", text=False))).to_pylist()
        same(f"{more} rows", [len(table), len(parquet)], [len(rows)] * 2)
        # Without the figures about folders and verdicts, see below.
        known = lambda row, columns: {name: columns[name] for name in columns if name in row or name not in DELIVERABILITY}
        for row, of_csv, of_parquet in zip(rows, table, parquet):
            of_csv, of_parquet = known(row, of_csv), known(row, of_parquet)
            same(f"{more} Parquet", of_parquet, row)
            same(f"{more} CSV", of_csv, {k: "" if v is None else repr(v) if isinstance(v, float) else str(v) for k, v in row.items()})
        shown = run(*command, "--format", "table").splitlines()
        same(f"{more} table", len(shown), len(rows) + 1)
        for row, line in zip(rows, shown[1:]):
            if str(row["tests"]) not in line.split():
                sys.exit(f"{more}: no {row['tests']} in {line}")


def explained(rows, lake, zone, begin, end, days):
    """Every figure can be asked for by name, and is the one that stats shows."""
    site, monitor = "007", "mail_oslo-2"
    (row,) = [row for row in expected(rows, zone, begin, end, "total", "monitor", QS) if (row["site"], row["monitor"]) == (site, monitor)]
    columns = flat(row, [])
    skipped = ("site", "monitor", "bucket", "monitors")
    for name in columns:
        # Of the metrics, one in which every delivered mail has a value, and one in which the lost ones have, too.
        others = ("smtp_connect_", "smtp_send_", "pickup_connect_", "pickup_receive_")
        if name in skipped or name.endswith(("_low", "_high")) or name.startswith(others):
            continue
        (of,) = answer("stats", "--data", lake, "--site", site, *days, "--explain", monitor, name)
        value = row["delivered"][name.removeprefix("delivered_")] if name.startswith("delivered_p") else columns[name]
        same(f"explain {name}", of["value"] if of["value"] is None or isinstance(value, (str, float)) else int(of["value"]), value)
        if name not in ("tests",) and value and not of["samples"]:
            sys.exit(f"explain {name}: no sample")
        (top,) = answer("top", "--data", lake, "--site", site, *days, "--monitor", monitor, "--figure", name, "--only", "worst") or [{"value": None}]
        same(f"top {name}", top["value"] if isinstance(value, (str, float)) or top["value"] is None else int(top["value"]), value)


def outages(rows, lake, zone, begin, end, days):
    found = answer("outages", "--data", lake, *days)
    theirs = []
    for site, monitor in sorted(MONITORS):
        walk = Walk([row for row in rows if (row["site"], row["monitor"]) == (site, monitor)], begin, end)
        for since, until in walk.outages:
            known = sum(b - a for state, a, b in walk.stretches if state == "down" and since <= a < (until or end))
            theirs.append([site, monitor, since, until, known / SECOND, (until - since) / SECOND if until else None])
    moment = lambda text: text and round(datetime.datetime.fromisoformat(text).timestamp())
    names = ["site", "monitor", "from", "to", "downtime_s", "duration_s"]
    for one, other in zip(found, theirs):
        other[2:4] = [at and at // SECOND for at in other[2:4]]
        same(f"outage {other}", [moment(one[name]) if name in ("from", "to") else one[name] for name in names], other)
    same("outages", len(found), len(theirs))


def levels(rows, config, zone):
    """A month's promises, counted within service hours, without a holiday."""
    with open(config, "a") as file:
        file.write(
            '[service_level.office]\nmonitors = ["mail_oslo-2"]\navailability = "99%"\nuptime = "98%"\n'
            'delivered_within = { "30s" = "90%" }\npercentile = { round_trip = { p95 = "20s" } }\nperiod = "week"\n'
            'hours = ["Mon-Fri 07:00-19:00"]\nholidays = ["2025-04-01"]\ntimezone = "Europe/Berlin"\nmin_coverage = "10%"\n'
        )
    week = ["--from", "2025-03-31", "--to", "2025-04-07"]
    begin, end = zone.moment(datetime.date(2025, 3, 31)), zone.moment(datetime.date(2025, 4, 7))
    days = [datetime.date(2025, 3, 31) + datetime.timedelta(day) for day in range(5) if day != 1]
    hours = [(zone.moment(day, 7), zone.moment(day, 19)) for day in days]
    found = answer("--config", config, "sla", "office", *week)
    for site in ("007", "nord"):
        of = [row for row in rows if (row["site"], row["monitor"]) == (site, "mail_oslo-2")]
        walk = Walk(of, begin, end)
        time = {state: sum(max(0, min(b, d) - max(a, c)) for s, a, b in walk.stretches if s == state for c, d in hours) for state in ("up", "down")}
        counted = [
            row for row in of
            if row["outcome"] != "not_tested" and row.get("excluded") is None and any(c <= row["started_at"] < d for c, d in hours)
        ]
        tests, ok = len(counted), sum(row["outcome"] == "ok" for row in counted)
        within = sum((row.get("round_trip_us") or math.inf) <= 30 * SECOND for row in counted)
        trips = sorted(row["round_trip_us"] for row in counted if row.get("round_trip_us") is not None)
        p95 = percentile(trips, 0.95, tests - len(trips))
        mine = [row for row in found if row["site"] == site]
        same(f"{site} promises", len(mine), 4)
        for row in mine:
            target = row["target"]
            same(f"{site} {target} tests", row["tests"], tests)
            if target == "uptime":
                same(f"{site} {target}", row["measured_share"], time["up"] / (time["up"] + time["down"]))
            elif row.get("measured_ms") is not None:
                same(f"{site} {target}", row["measured_ms"], p95 / 1000)
            elif target == "delivered_within":
                same(f"{site} {target}", row["measured_share"], within / tests)
                same(f"{site} {target} budget", row["budget_spent"], (tests - within) / (0.1 * tests))
            elif target == "availability":
                same(f"{site} {target}", row["measured_share"], ok / tests)
                same(f"{site} {target} budget", row["budget_spent"], (tests - ok) / (0.01 * tests))

    begin, end = zone.moment(datetime.date(2025, 3, 27)), zone.moment(datetime.date(2025, 4, 3))
    rolling(rows, config, begin, end)
    unfinished(rows, config, zone)


def promised(rows, site, begin, end, hours):
    """Tests and time of a monitor that count for its promises."""
    of = [row for row in rows if (row["site"], row["monitor"]) == (site, "mail_oslo-2")]
    walk = Walk(of, begin, end)
    inside = lambda a, b: sum(max(0, min(b, d) - max(a, c)) for c, d in hours)
    time = {state: sum(inside(a, b) for s, a, b in walk.stretches if s == state) for state in ("up", "down", "excluded", "unknown")}
    counted = [
        row for row in of
        if row["outcome"] != "not_tested" and row.get("excluded") is None and any(c <= row["started_at"] < d for c, d in hours)
    ]
    return walk, time, counted


def rolling(rows, config, begin, end):
    """Seven days that end with the day asked for, around the clock."""
    with open(config, "a") as file:
        file.write(
            '[service_level.seven]\nmonitors = ["mail_oslo-2"]\navailability = "99%"\nuptime = "98%"\nperiod = "7d"\n'
            'timezone = "Europe/Berlin"\nmin_coverage = "10%"\n'
        )
    found = answer("--config", config, "sla", "seven", "--from", "2025-04-01", "--to", "2025-04-03")
    for site in ("007", "nord"):
        _, time, counted = promised(rows, site, begin, end, [(begin, end)])
        tests, bad = len(counted), sum(row["outcome"] != "ok" for row in counted)
        mine = [row for row in found if row["site"] == site]
        same(f"{site} rolling promises", len(mine), 2)
        for row in mine:
            what = f"{site} rolling {row['target']}"
            moments = [row["from"], row["to"]]
            same(f"{what} period", moments, ["2025-03-27T00:00:00+01:00", "2025-04-03T00:00:00+02:00"])
            for state, name in (("up", "up"), ("down", "down"), ("excluded", "maintenance"), ("unknown", "unknown")):
                same(f"{what} {name}", row[f"{name}_minutes"], time[state] / 60 / SECOND)
            same(f"{what} coverage", row["coverage"], (end - begin - time["unknown"]) / (end - begin))
            if row["target"] == "uptime":
                known = time["up"] + time["down"]
                same(what, row["measured_share"], time["up"] / known)
                same(f"{what} budget", row["budget_spent"], time["down"] / (0.02 * known))
                same(f"{what} burn rate", row["burn_rate"], time["down"] / known / 0.02)
            else:
                same(what, [row["tests"], row["bad_tests"], row["measured_share"]], [tests, float(bad), 1 - bad / tests])
                same(f"{what} budget", [row["budget_tests"], row["budget_spent"]], [0.01 * tests, bad / (0.01 * tests)])
                same(f"{what} burn rate", row["burn_rate"], bad / tests / 0.01)
                same(f"{what} interval", [row["low"], row["high"]], wilson(tests - bad, tests))
            same(f"{what} is over", [row["forecast_spent"], row["chance_of_meeting"]], [None, None])


def unfinished(rows, config, zone):
    """A month of which some days have passed: budget, burn rates and forecast."""
    with open(config, "a") as file:
        file.write(
            '[service_level.april]\nmonitors = ["mail_oslo-2"]\navailability = "99%"\nuptime = "98%"\nperiod = "month"\n'
            'hours = ["Mon-Fri 07:00-19:00"]\nholidays = ["2025-04-01"]\ntimezone = "Europe/Berlin"\nmin_coverage = "10%"\n'
        )
    found = answer("--config", config, "sla", "april", "--from", "2025-04-01", "--to", "2025-04-05")
    begin, until = zone.moment(datetime.date(2025, 4, 1)), zone.moment(datetime.date(2025, 4, 5))
    days = [datetime.date(2025, 4, day) for day in range(2, 31)]
    hours = [(zone.moment(day, 7), zone.moment(day, 19)) for day in days if day.weekday() < 5]
    passed = [(a, b) for a, b in hours if b <= until]
    service, gone = sum(b - a for a, b in hours), sum(b - a for a, b in passed)
    # The last 24 hours of service are Thursday and Friday.
    since = zone.moment(datetime.date(2025, 4, 3), 7)
    for site in ("007", "nord"):
        walk, time, counted = promised(rows, site, begin, until, passed)
        inside = lambda a, b: sum(max(0, min(b, d) - max(a, c, since)) for c, d in passed)
        late = {state: sum(inside(a, b) for s, a, b in walk.stretches if s == state) for state in ("up", "down")}
        known = time["up"] + time["down"]
        for row in (row for row in found if row["site"] == site):
            what = f"{site} april {row['target']}"
            same(f"{what} time", [row["service_minutes"], row["passed_minutes"]], [service / 60 / SECOND, gone / 60 / SECOND])
            if row["target"] == "uptime":
                allowed, all, bad, rest = 0.02, known, time["down"], service - gone
                last, last_bad = late["up"] + late["down"], late["down"]
            else:
                allowed, all, bad = 0.01, len(counted), sum(test["outcome"] != "ok" for test in counted)
                rest = all * (service - gone) / known
                of_last = [test for test in counted if test["started_at"] >= since]
                last, last_bad = len(of_last), sum(test["outcome"] != "ok" for test in of_last)
            budget = allowed * (all + rest)
            same(f"{what} verdict", row["verdict"], "missed" if bad > budget else "open")
            same(f"{what} budget", row["budget_spent"], bad / budget)
            same(f"{what} burn rate", row["burn_rate"], bad / all / allowed)
            same(f"{what} burn rate of the last day", row["burn_rate_last_day"], last_bad / last / allowed if last else None)
            same(f"{what} forecast", row["forecast_spent"], (bad + bad / all * rest) / budget)


def other_writers(rows, days):
    """The same samples as other programs write them give the same answer, to the letter."""
    ms, ns, naive = pa.timestamp("ms", tz="UTC"), pa.timestamp("ns", tz="UTC"), pa.timestamp("us")
    without = ("test_interval_us", "max_round_trip_us", "settled", "excluded", "stage", "error", "round_trip_error_us")
    plain = dict(use_dictionary=False)
    lakes = {
        "uncompressed": write("uncompressed", rows, dict(compression="none", row_group_size=100)),
        "zstd": write("zstd", rows, dict(compression="zstd", data_page_version="2.0")),
        "gzip": write("gzip", rows, dict(compression="gzip", data_page_size=1000)),
        "brotli": write("brotli", rows, dict(compression="brotli")),
        "lz4": write("lz4", rows, dict(compression="lz4")),
        "without dictionaries": write("without-dictionaries", rows, plain),
        "delta": write("delta", rows, dict(use_dictionary=False, column_encoding={name: "DELTA_BINARY_PACKED" for name in TIMES})),
        "split": write("split", rows, dict(use_dictionary=False, column_encoding={name: "BYTE_STREAM_SPLIT" for name in TIMES})),
        "without statistics": write("without-statistics", rows, dict(write_statistics=False)),
        "large strings": write("large-strings", rows, text=pa.large_string()),
        "string views": write("string-views", rows, text=pa.string_view()),
        "dictionaries": write("dictionaries", rows, text=pa.dictionary(pa.int32(), pa.string())),
        "int32": write("int32", rows, whole=pa.int32()),
        "uint64": write("uint64", rows, whole=pa.uint64()),
        "floats": write("floats", rows, whole=pa.float64()),
        "milliseconds": write("milliseconds", rows, moment=ms),
        "nanoseconds": write("nanoseconds", rows, moment=ns),
        "without zone": write("without-zone", rows, moment=naive),
        "int96": write("int96", rows, dict(use_deprecated_int96_timestamps=True)),
        "unsorted": write("unsorted", rows, shuffled=True),
        "several files": write("several-files", rows, pieces=3),
        "other names": write("other-names", rows, file="data_0.parquet"),
        "unescaped": write("unescaped", rows, folder=str),
        "DuckDB": write_with_duckdb("duckdb", rows, ""),
        "DuckDB zstd": write_with_duckdb("duckdb-zstd", rows, ", COMPRESSION zstd, PARQUET_VERSION v2, ROW_GROUP_SIZE 2048"),
    }
    # What does not belong to the lake, and a day without a sample.
    strays = lakes["zstd"]
    for name in ("samples/_SUCCESS", "samples/.part.crc", "samples/site=007/readme.txt", "samples/site=007/date=2025-04-01/notes.csv"):
        open(os.path.join(strays, name), "w").close()
    os.makedirs(os.path.join(strays, "samples/site=007/date=2024-01-01"))
    for site in ("007", "new"):
        os.makedirs(os.path.join(strays, f"samples/site={site}/date=2025-04-30"))
        pq.write_table(table([]), os.path.join(strays, f"samples/site={site}/date=2025-04-30/samples.parquet"))
    days = [*days[:-1], "2025-05-02"]
    for by in ("total", "day"):
        question = ["stats", *days, "--by", by, "--timezone", "Asia/Kathmandu", "--full", "--format", "json"]
        told = run(*question, "--data", os.path.join(WORK, "plain"))
        for name, lake in lakes.items():
            same(name, run(*question, "--data", lake) == told, True)
    # Columns that the contract allows to be missing are null; the test interval is then the usual time between tests.
    bare = write("bare", [{k: v for k, v in row.items() if k not in without} for row in rows], without=without)
    zone = Zone("UTC")
    begin, end = (zone.moment(datetime.date.fromisoformat(day)) for day in (days[1], "2025-04-09"))
    ours = answer("stats", "--data", bare, "--from", days[1], "--to", "2025-04-09", "--full")
    stripped = [{k: v for k, v in row.items() if k not in without} for row in rows]
    theirs = expected(stripped, zone, begin, end, "total", "monitor", CONTRACT_QS)
    for one, other in zip(ours, theirs):
        one.pop("deliverability")
        same(f"bare {other['monitor']}", one, other)
    # Refused, with the file and what is wrong with it.
    for name, change in (
        ("no monitor", lambda of: of.drop_columns(["monitor"])),
        ("no outcome", lambda of: of.drop_columns(["outcome"])),
        ("no moment", lambda of: of.drop_columns(["started_at"])),
        ("null moment", lambda of: of.set_column(1, "started_at", pa.nulls(len(of), pa.timestamp("us", tz="UTC")))),
        ("strange outcome", lambda of: of.set_column(2, "outcome", pa.array(["fine"] * len(of)))),
        ("words for times", lambda of: of.set_column(of.schema.get_field_index("round_trip_us"), "round_trip_us", pa.array(["fast"] * len(of)))),
    ):
        folder = os.path.join(WORK, "wrong", name.replace(" ", "-"), "samples/site=a/date=2025-04-01")
        os.makedirs(folder)
        pq.write_table(change(table(rows[:50])), os.path.join(folder, "samples.parquet"))
        done = subprocess.run(
            [ANALYTICS, "stats", "--data", os.path.join(WORK, "wrong", name.replace(" ", "-")), *days, "--format", "csv"], capture_output=True, text=True
        )
        said = " ".join(done.stderr.split())
        if done.returncode != 1 or done.stdout or "is corrupt" not in said or "--skip-corrupt" not in said:
            sys.exit(f"{name}: {done.returncode} {done.stdout[:200]} {said}")


def main():
    rows = samples()
    lake = write("plain", rows)
    config = os.path.join(WORK, "mailqos.toml")
    with open(config, "w") as file:
        file.write(CONFIG % lake)
        for monitor, (of, tags) in sorted({monitor: how for (_, monitor), how in MONITORS.items()}.items()):
            file.write(MONITOR % (f'"{monitor}"', of, json.dumps(tags)))
    begin, end = "2025-03-25", "2025-04-08"

    # Every figure by every grouping and bucket, in zones of three kinds.
    zones = [Zone("Australia/Lord_Howe", 6, 4), Zone("Asia/Kathmandu"), Zone("Europe/Berlin", 5, 7)]
    names = {0: "monday", 5: "saturday", 6: "sunday"}
    for zone in zones:
        from_us, to_us = zone.moment(datetime.date.fromisoformat(begin)), zone.moment(datetime.date.fromisoformat(end))
        for group in GROUPS:
            for unit in ("total", "hour", "day", "week", "month", "quarter", "year"):
                # Every grouping by every bucket in one zone; the other zones differ in the buckets alone.
                if (zone is not zones[0] and group != "monitor") or (unit == "hour" and group not in ("monitor", "all")):
                    continue
                ours = answer(
                    "--config", config, "stats", "--full", "--from", begin, "--to", end, "--timezone", zone.name, "--by", unit,
                    "--group", group, "--percentiles", "75,99.9", "--week-start", names[zone.week_start], "--year-start", str(zone.year_start),
                )
                theirs = expected(rows, zone, from_us, to_us, unit, group, QS)
                what = f"{zone.name} by {unit} of each {group}"
                same(f"{what}: rows", [row["bucket"] for row in ours], [row["bucket"] for row in theirs])
                for one, other in zip(ours, theirs):
                    # These lakes have no columns about folders and verdicts: tests/tests/deliverability.rs tests their figures
                    # with a planted half year.
                    one.pop("deliverability")
                    same(f"{what} {other['site']} {other['monitor']} {other['bucket']}", one, other)

    # The contract's JSON is these keys in this order, and nothing else.
    for row in answer("stats", "--data", lake, "--from", begin, "--to", end, "--by", "day"):
        same("keys", list(row), CONTRACT_KEYS)
        same("metrics", list(row["metrics"]), METRICS)
        for of in row["metrics"].values():
            same("statistics", list(of), CONTRACT_STATISTICS)

    days = ["--from", begin, "--to", end]
    formats(config, days)
    berlin = Zone("Europe/Berlin")
    in_berlin = [*days, "--timezone", berlin.name]
    from_us, to_us = (berlin.moment(datetime.date.fromisoformat(day)) for day in (begin, end))
    explained(rows, lake, berlin, from_us, to_us, in_berlin)
    outages(rows, lake, berlin, from_us, to_us, in_berlin)
    levels(rows, config, berlin)
    other_writers(rows, days)
    if len(sys.argv) < 3:
        shutil.rmtree(WORK)
    print(f"{len(rows)} samples, {compared} figures agree")


main()
