//! Commands for figures from outside: groups, comparisons and explanations on a lake with known
//! figures. Bad input results in a clear message or a dash, never NaN, and never 0 % or 100 %
//! without data.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::{path::Path, process::Output};

use mailqos_model::{Micros, Outcome, Sample, UtcMicros};
use mailqos_tests::{binaries::command, setting::complaint_of, simulation};
use serde_json::Value;

/// 2026-03-10, midnight UTC.
const DAY: UtcMicros = UtcMicros(1_773_100_800_000_000);

fn sample(monitor: &str, minute: i64, outcome: Outcome, milliseconds: Option<i64>) -> Sample {
    let mut sample =
        Sample::new(monitor.parse().unwrap(), DAY + Micros::from_secs(60 * minute), outcome);
    sample.test_interval = Some(Micros::from_secs(600));
    sample.settled = Some(true);
    sample.round_trip = milliseconds.map(Micros::from_millis);
    sample
}

fn lake(samples: Vec<Sample>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    simulation::write(folder.path(), &"here".parse().unwrap(), samples).unwrap();
    folder
}

/// Two monitors, a test every ten minutes for one day: `a` takes 1 to 144 seconds, `b` loses every
/// second mail.
fn usual() -> tempfile::TempDir {
    let mut samples = Vec::new();
    for test in 0..144 {
        samples.push(sample("a", test * 10, Outcome::Ok, Some((test + 1) * 1000)));
        let b = if test % 2 == 0 { (Outcome::Ok, Some(500)) } else { (Outcome::Lost, None) };
        samples.push(sample("b", test * 10, b.0, b.1));
    }
    lake(samples)
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    let mut command = command("mailqos-analytics");
    command.arg(arguments[0]).arg("--data").arg(data).args(&arguments[1..]);
    if !arguments.iter().any(|argument| ["--from", "--period"].contains(argument)) {
        command.args(["--from", "2026-03-10", "--to", "2026-03-11"]);
    }
    command.output().expect("it starts")
}

/// Returns the output in a format; it contains nothing that is NaN or infinite.
fn answer(data: &Path, arguments: &[&str]) -> String {
    let output = run(data, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut words = text.split(|letter: char| !letter.is_alphanumeric());
    assert!(!words.any(|word| ["NaN", "nan", "inf"].contains(&word)), "{arguments:?}: {text}");
    text
}

/// Returns the elements of the output in JSON; of `stats`, with all figures.
fn json(data: &Path, arguments: &[&str]) -> Vec<Value> {
    let full: &[&str] = if arguments[0] == "stats" { &["--full"] } else { &[] };
    let text = answer(data, &[arguments, full, &["--format", "json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Expects a refusal with this exit code and this text.
fn refused(data: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let output = run(data, arguments);
    let said = complaint_of(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?} wrote data");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said}");
    }
}

#[test]
fn groups_put_the_samples_of_monitors_together() {
    let lake = usual();
    let rows = json(lake.path(), &["stats", "--group", "all", "--percentiles", "99.9"]);
    assert_eq!(rows.len(), 1);
    let all = &rows[0];
    assert_eq!(all["monitors"], 2);
    assert_eq!(all["tests"], 288);
    assert_eq!(all["availability"], 0.75);
    assert_eq!(all["metrics"]["round_trip"]["count"], 216);
    // 72 of half a second, then 1 to 144 s: the 107.5th from 0 lies between 36 and 37 s.
    assert_eq!(all["metrics"]["round_trip"]["p50"], 36_500.0);
    let p999 = all["metrics"]["round_trip"]["p99.9"].as_f64().unwrap();
    assert!((p999 - 143_785.0).abs() < 1e-6, "{p999}");
    assert_eq!(all["delivered"]["p99"], "not delivered");
    // 143.5 from 0 of 288: between 72 and 73 s.
    assert_eq!(all["delivered"]["p50"], 72_500.0);
    // Within 10 s: the 72 of b, and 10 of a.
    assert_eq!(all["delivered_within"]["10s"], 82.0 / 288.0);
    assert_eq!(json(lake.path(), &["stats", "--group", "site"])[0]["site"], "here");
    refused(lake.path(), &["stats", "--group", "tag"], 2, &["configuration"]);
}

#[test]
fn json_is_the_contract_and_nothing_else_unless_all_is_asked_for() {
    let lake = usual();
    let text = answer(lake.path(), &["stats", "--format", "json"]);
    let rows: Vec<serde_json::Map<String, Value>> = serde_json::from_str(&text).unwrap();
    let keys =
        |of: &serde_json::Map<String, Value>| of.keys().cloned().collect::<Vec<_>>().join(" ");
    for row in &rows {
        assert_eq!(
            keys(row),
            "site monitor bucket tests ok late lost smtp_failed pickup_failed not_tested availability metrics"
        );
        let metrics = row["metrics"].as_object().unwrap();
        assert_eq!(
            keys(metrics),
            "round_trip smtp_connect smtp_send pickup_connect pickup_login pickup_receive"
        );
        for (name, metric) in metrics {
            let metric = metric.as_object().unwrap();
            assert_eq!(keys(metric), "count min mean max p50 p90 p95 p99");
            if name != "round_trip" {
                assert_eq!(metric["count"], 0);
                assert!(metric.iter().skip(1).all(|(_, value)| value.is_null()), "{metric:?}");
            }
        }
    }
    let all = json(lake.path(), &["stats"]);
    for (key, value) in &rows[0] {
        if key != "metrics" {
            assert_eq!(&all[0][key], value, "{key}");
        }
    }
    assert_eq!(all[0]["coverage"], 1.0);
}

#[test]
fn objects_and_tags_are_those_of_the_configuration() {
    let lake = usual();
    let config = lake.path().join("mailqos.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let by = |group: &str| {
        json(lake.path(), &["stats", "--config", config.to_str().unwrap(), "--group", group])
    };
    let objects = by("object");
    assert_eq!(objects.len(), 2, "{objects:?}");
    assert_eq!(objects[0]["object"], "lyon");
    assert_eq!(objects[0]["tests"], 144);
    let tags = by("tag");
    let names: Vec<&str> = tags.iter().map(|row| row["tag"].as_str().unwrap()).collect();
    assert_eq!(names, ["both", "gold"]);
    assert_eq!(tags[0]["tests"], 288);
    assert_eq!(tags[1]["tests"], 144);
}

const CONFIG: &str = r#"
site = "here"

[object.lyon]
address = "127.0.0.1"

[object.turin]
address = "127.0.0.1"

[account.probe]
user = "probe@example.com"
password = { env = "PROBE_PASSWORD" }

[monitor.a]
object = "lyon"
tags = ["both", "gold"]
from = "probe@example.com"
to = "probe@example.com"
smtp = { account = "probe" }
pickup = { protocol = "pop3", account = "probe" }

[monitor.b]
object = "turin"
tags = ["both"]
from = "probe@example.com"
to = "probe@example.com"
smtp = { account = "probe" }
pickup = { protocol = "pop3", account = "probe" }
"#;

#[test]
fn a_period_is_compared_with_the_one_before() {
    let mut samples: Vec<Sample> =
        (0..10).map(|test| sample("a", test * 10, Outcome::Ok, Some(1000))).collect();
    samples.extend((0..10).map(|test| {
        let mut earlier = sample("a", test * 10 - 1440, Outcome::Ok, Some(3000));
        if test < 5 {
            (earlier.outcome, earlier.round_trip) = (Outcome::Lost, None);
        }
        earlier
    }));
    samples.push(sample("b", 0, Outcome::Ok, Some(1000)));
    let lake = lake(samples);
    let rows = json(lake.path(), &["stats", "--compare", "previous"]);
    assert_eq!(rows[0]["availability"], 1.0);
    assert_eq!(rows[0]["before"]["from"], "2026-03-09T00:00:00+00:00");
    assert_eq!(rows[0]["before"]["availability"], 0.5);
    assert_eq!(rows[0]["before"]["metrics"]["round_trip"]["p50"], 3000.0);
    assert_eq!(rows[1]["before"]["tests"], 0, "b was not there before");
    assert!(answer(lake.path(), &["stats", "--compare", "year"]).contains("Before: 2025-03-11"));
    refused(lake.path(), &["stats", "--compare", "year", "--by", "day"], 2, &["whole periods"]);
}

#[test]
fn a_figure_is_followed_to_its_samples() {
    let mut samples: Vec<Sample> =
        (0..100).map(|test| sample("a", test * 10, Outcome::Ok, Some(test + 1))).collect();
    samples[3].outcome = Outcome::NotTested;
    samples[4].outcome = Outcome::Lost;
    samples[4].round_trip = None;
    samples[5].excluded = Some(mailqos_model::Exclusion::Maintenance);
    let lake = lake(samples);
    let explained = json(lake.path(), &["stats", "--explain", "a", "availability"]);
    let of = &explained[0];
    assert_eq!(of["counted_tests"], 98);
    assert_eq!(of["value"], 97.0 / 98.0);
    assert_eq!(of["samples"].as_array().unwrap().len(), 1, "the failed one decides");
    assert_eq!(of["samples"][0]["outcome"], "lost");
    assert_eq!(of["left_out"][0]["samples"], 1);
    assert_eq!(of["left_out"][1]["why"], "in maintenance");
    let explained = json(lake.path(), &["stats", "--explain", "a", "round_trip_p50"]);
    // 97 values of 1 to 100 without 4, 5, 6: the 49th is 52.
    assert_eq!(explained[0]["value"], 52.0);
    let shown = explained[0]["samples"].as_array().unwrap();
    assert_eq!(shown.len(), 20);
    assert!(shown.iter().any(|sample| sample["value"] == 52.0));
    let lost = json(lake.path(), &["stats", "--explain", "a", "lost"]);
    assert_eq!(
        (&lost[0]["value"], &lost[0]["samples"][0]["role"]),
        (&1.0.into(), &"counted".into())
    );
    // One lost mail is an outage of ten minutes: the next good test ends it, although it does not
    // count.
    let longest = json(lake.path(), &["stats", "--explain", "a", "longest_outage"]);
    assert_eq!(longest[0]["value"], 600.0);
    let roles: Vec<&str> = longest[0]["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["role"].as_str().unwrap())
        .collect();
    assert!(roles[0].starts_with("starts an outage of ") && roles[1] == "ends it", "{roles:?}");
    // The samples end after 1000 minutes; the rest is unknown.
    let unknown = json(lake.path(), &["stats", "--explain", "a", "unknown"]);
    assert_eq!(unknown[0]["value"], (450 * 60) as f64);
    assert_eq!(unknown[0]["samples"][0]["role"], "7 h 30 min unknown from here");
    let all = json(lake.path(), &["stats", "--explain", "a", "delivered_p99.5", "--all"]);
    assert_eq!(all[0]["value"], "not delivered");
    assert_eq!(all[0]["samples"].as_array().unwrap().len(), 100);
    let table = answer(lake.path(), &["stats", "--explain", "a", "delivered_p99.5"]);
    assert!(table.contains("not delivered") && table.contains("Definition"), "{table}");
    refused(
        lake.path(),
        &["stats", "--explain", "a", "speed"],
        2,
        &["unknown figure", "round_trip_p95"],
    );
    refused(
        lake.path(),
        &["stats", "--explain", "z", "availability"],
        2,
        &["\"z\" matches no monitor"],
    );
}

#[test]
fn an_empty_lake_and_a_period_without_samples_are_reported() {
    let empty = tempfile::tempdir().unwrap();
    let full = usual();
    let cases: [(&Path, &[&str], &str); 4] = [
        (empty.path(), &[], "is empty"),
        (full.path(), &["--from", "2020-01-01", "--to", "2020-02-01"], "no samples in the period"),
        (full.path(), &["--from", "2200-01-01", "--to", "2200-02-01"], "is in the future"),
        (full.path(), &["--period", "2199"], "is in the future"),
    ];
    for (data, period, words) in cases {
        for format in ["json", "csv", "table"] {
            let output = run(data, &[&["stats", "--format", format], period].concat());
            assert!(output.status.success());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(words), "{words}: {said}");
            let text = String::from_utf8_lossy(&output.stdout);
            let rows = if format == "json" { 2 } else { 1 };
            assert_eq!(text.lines().count(), rows, "{text}");
        }
    }
    let nowhere = empty.path().join("nowhere");
    refused(&nowhere, &["stats"], 2, &["no such folder", "--data"]);
}

#[test]
fn what_was_meant_is_asked_back() {
    let lake = usual();
    refused(lake.path(), &["stats", "--monitor", "c"], 2, &["\"c\" matches no monitor"]);
    refused(lake.path(), &["stats", "--site", "hare"], 2, &["hare", "here"]);
    refused(
        lake.path(),
        &["stats", "--from", "2026-03-11", "--to", "2026-03-10"],
        2,
        &["must be after its start"],
    );
    refused(
        lake.path(),
        &["stats", "--from", "2026-13-11", "--to", "2026-03-10"],
        2,
        &["is not a date"],
    );
    refused(
        lake.path(),
        &["stats", "--timezone", "Europe/Atlantis"],
        2,
        &["is not a time zone", "IANA"],
    );
    refused(lake.path(), &["stats", "--period", "someday"], 2, &["is not a period", "last-month"]);
    refused(lake.path(), &["stats", "--percentiles", "200"], 2, &["is not a percentile"]);
    refused(
        lake.path(),
        &["stats", "--metrics", "speed"],
        2,
        &["is not a known metric", "round_trip"],
    );
}

#[test]
fn a_corrupt_file_is_named_and_skipped_only_on_request() {
    let mut samples: Vec<Sample> =
        (0..10).map(|test| sample("a", test * 10, Outcome::Ok, Some(1000))).collect();
    samples.extend((0..10).map(|test| sample("a", test * 10 + 2880, Outcome::Ok, Some(1000))));
    let lake = lake(samples);
    let file = lake.path().join("samples/site=here/date=2026-03-12/samples.parquet");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes.drain(4..middle);
    std::fs::write(&file, &bytes).unwrap();
    let days = ["--from", "2026-03-10", "--to", "2026-03-13"];
    let with = |arguments: &[&'static str]| [arguments, &days].concat();
    let path = "date=2026-03-12";
    // A command that fails midway prints no partial output.
    for format in ["csv", "json", "parquet"] {
        let corrupt = ["corrupt", path];
        refused(lake.path(), &with(&["stats", "--format", format]), 1, &corrupt);
    }
    for command in ["stats", "outages", "top", "patterns"] {
        refused(lake.path(), &with(&[command]), 1, &["corrupt", path, "--skip-corrupt"]);
        let output = run(lake.path(), &with(&[command, "--skip-corrupt"]));
        assert!(output.status.success(), "{command}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(path), "{command}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(path),
            "{command} says it in its table"
        );
    }
    let rows = json(lake.path(), &with(&["stats", "--skip-corrupt"]));
    assert_eq!(rows[0]["tests"], 10);
    assert!(rows[0]["skipped_files"][0].as_str().unwrap().contains(path));
    let csv = answer(lake.path(), &with(&["stats", "--skip-corrupt", "--format", "csv"]));
    let (head, row) = csv.split_once('\n').unwrap();
    assert!(head.ends_with(",skipped_files") && row.trim().ends_with(",1"), "{csv}");
    // A file that belongs neither to the period nor to the days around it is not opened.
    assert_eq!(
        json(lake.path(), &["stats", "--to", "2026-03-10T12:00:00Z", "--from", "2026-03-10"]).len(),
        1
    );
}

#[test]
fn one_sample_and_no_good_sample_claim_nothing() {
    let one = lake(vec![sample("a", 0, Outcome::Ok, Some(1500))]);
    let row = &json(one.path(), &["stats"])[0];
    let trip = &row["metrics"]["round_trip"];
    for name in ["min", "mean", "max", "p50", "p99"] {
        assert_eq!(trip[name], 1500.0, "{name}");
    }
    assert_eq!(trip["intervals"]["p50"], Value::Null, "one value has no interval");
    assert_eq!(row["availability_interval"][1], 1.0);
    assert!(row["availability_interval"][0].as_f64().unwrap() < 0.21, "{row}");
    assert_eq!(row["mttr_s"], Value::Null);
    assert!(row["coverage"].as_f64().unwrap() < 0.03);

    let lost = lake((0..5).map(|test| sample("a", test * 10, Outcome::Lost, None)).collect());
    let row = &json(lost.path(), &["stats"])[0];
    assert_eq!(row["availability"], 0.0, "five tests failed: that is a figure");
    assert_eq!(row["metrics"]["round_trip"]["count"], 0);
    assert_eq!(row["metrics"]["round_trip"]["p50"], Value::Null);
    assert_eq!(row["delivered"]["p50"], "not delivered");
    assert_eq!(row["delivered_within"]["5min"], 0.0);
    assert!(
        row["availability_interval"][1].as_f64().unwrap() > 0.4,
        "five tests say little: {row}"
    );

    let untested =
        lake((0..5).map(|test| sample("a", test * 10, Outcome::NotTested, None)).collect());
    let row = &json(untested.path(), &["stats"])[0];
    assert_eq!(row["not_tested"], 5);
    for name in [
        "availability",
        "availability_by_time",
        "delivery_rate",
        "availability_interval",
        "longest_outage_s",
    ] {
        assert_eq!(row[name], Value::Null, "{name}");
    }
    assert_eq!(row["delivered"]["p50"], Value::Null);
    assert_eq!(row["coverage"], 0.0);
    let table = answer(untested.path(), &["stats"]);
    assert!(table.contains('–') && !table.contains("100"), "{table}");
    for lake in [&one, &lost, &untested] {
        for command in ["stats", "outages", "top"] {
            for format in ["csv", "json", "table"] {
                answer(lake.path(), &[command, "--format", format]);
            }
            assert!(
                run(lake.path(), &[command, "--format", "parquet"]).stdout.starts_with(b"PAR1"),
                "{command}"
            );
        }
    }
}

#[test]
fn days_of_daylight_saving_changes_have_23_and_25_hours() {
    // A test every ten minutes for three days around each clock change.
    let cases = [
        ("Europe/Berlin", "2026-03-29", 23 * 6),
        ("Europe/Berlin", "2025-10-26", 25 * 6),
        ("Australia/Lord_Howe", "2026-04-05", 24 * 6 + 3),
        ("Australia/Lord_Howe", "2025-10-05", 24 * 6 - 3),
        ("Asia/Kathmandu", "2026-03-29", 24 * 6),
    ];
    for (zone, day, tests) in cases {
        let day: jiff::civil::Date = day.parse().unwrap();
        let midnight = day.yesterday().unwrap().to_zoned_datetime(jiff::tz::TimeZone::UTC).unwrap();
        let begin = UtcMicros::from(midnight.timestamp()) - DAY;
        let samples = (0..3 * 144)
            .map(|test| sample("a", begin.0 / 60_000_000 + test * 10, Outcome::Ok, Some(900)));
        let lake = lake(samples.collect());
        let (from, to) = (day.to_string(), day.tomorrow().unwrap().to_string());
        let rows = json(
            lake.path(),
            &["stats", "--from", &from, "--to", &to, "--timezone", zone, "--by", "day"],
        );
        assert_eq!(rows.len(), 1, "{zone} {day}");
        assert_eq!(rows[0]["tests"], tests, "{zone} {day}");
        assert_eq!(rows[0]["coverage"], 1.0);
        let hours = json(
            lake.path(),
            &["stats", "--from", &from, "--to", &to, "--timezone", zone, "--by", "hour"],
        );
        let sum: i64 = hours.iter().map(|row| row["tests"].as_i64().unwrap()).sum();
        assert_eq!(sum, tests, "{zone} {day}");
    }
}

/// Three months of hourly tests; `a` loses every hundredth mail, and from June on its login takes
/// twice as long.
fn a_quarter() -> tempfile::TempDir {
    let begin = -9 * 24 * 60;
    let samples = (0..92 * 24).map(|hour: i64| {
        let mut one = if hour % 100 == 50 {
            sample("a", begin + hour * 60, Outcome::Lost, None)
        } else {
            sample("a", begin + hour * 60, Outcome::Ok, Some(900 + hour * 37 % 200))
        };
        one.test_interval = Some(Micros::from_secs(3600));
        let login = if hour < 46 * 24 { 50 } else { 100 };
        one.pickup_login = Some(Micros::from_millis(login + hour * 13 % 10));
        one
    });
    lake(samples.collect())
}

fn with_levels(lake: &tempfile::TempDir) -> String {
    let config = lake.path().join("mailqos.toml");
    std::fs::write(&config, format!("{CONFIG}{LEVELS}")).unwrap();
    config.to_str().unwrap().to_owned()
}

const LEVELS: &str = r#"
[service_level.gold]
monitors = ["a"]
availability = "98%"
percentile = { round_trip = { p50 = "500ms" } }
period = "quarter"
"#;

#[test]
fn service_levels_are_judged_in_every_format() {
    let lake = a_quarter();
    let config = with_levels(&lake);
    let april = ["--from", "2026-03-01", "--to", "2026-06-01", "--year-start", "3"];
    let with = |more: &[&'static str]| -> Vec<String> {
        [&["sla", "--config", &config], &april[..], more]
            .concat()
            .iter()
            .map(|word| (*word).to_owned())
            .collect()
    };
    let ask = |more: &[&'static str]| {
        let words = with(more);
        answer(lake.path(), &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    // 92 days of 24 tests, 22 of which failed: the budget of 2 % is 44.16 tests.
    let rows: Vec<Value> = serde_json::from_str(&ask(&["--format", "json"])).unwrap();
    assert_eq!(rows.len(), 2, "a fiscal quarter, two promises: {rows:?}");
    let kept = &rows[0];
    assert_eq!(kept["from"], "2026-03-01T00:00:00+00:00");
    assert_eq!(kept["to"], "2026-06-01T00:00:00+00:00");
    assert_eq!(kept["verdict"], "met");
    assert_eq!(kept["tests"], 2208);
    assert_eq!(kept["bad_tests"], 22.0);
    assert!((kept["budget_spent"].as_f64().unwrap() - 22.0 / 44.16).abs() < 1e-9, "{kept}");
    assert_eq!(rows[1]["verdict"], "missed");
    assert!(ask(&["--format", "csv"]).lines().nth(2).is_some_and(|row| row.contains(",missed,")));
    let table = ask(&["--format", "table"]);
    assert!(table.contains("98 % of tests on time") && table.contains("50 %"), "{table}");
    let parquet = with(&["--format", "parquet"]);
    let parquet = run(lake.path(), &parquet.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(parquet.stdout.starts_with(b"PAR1"));
    refused(lake.path(), &["sla", "golf", "--config", &config], 2, &["did you mean", "gold"]);
    refused(
        lake.path(),
        &["sla", "--config", &config, "--monitor", "z"],
        2,
        &["\"z\" matches no monitor"],
    );
    // Without a test, nothing is spent and no objective is met.
    let output =
        run(lake.path(), &["sla", "--config", &config, "--period", "2199", "--format", "json"]);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("is in the future"));
    for row in &rows {
        assert_eq!(row["why"], "no_tests");
        assert_eq!(row["budget_spent"], Value::Null, "{row}");
        assert_eq!(row["measured_share"], Value::Null, "{row}");
    }
}

#[test]
fn patterns_are_printed_in_every_format() {
    let lake = a_quarter();
    let days = ["--from", "2026-03-01", "--to", "2026-06-01"];
    let with = |more: &[&'static str]| [&["patterns"], &days[..], more].concat();
    let rows: Vec<Value> =
        serde_json::from_str(&answer(lake.path(), &with(&["--format", "json"]))).unwrap();
    let shift =
        rows.iter().find(|row| row["kind"] == "shift").unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!(shift["metric"], "pickup_login");
    assert_eq!(shift["at"], "2026-04-16T00:00:00Z");
    let (before, after) =
        (shift["compared_with"].as_f64().unwrap(), shift["value"].as_f64().unwrap());
    assert!((50.0..60.0).contains(&before) && (100.0..110.0).contains(&after), "{shift}");
    assert!(shift["p"].as_f64().unwrap() < 0.05);
    let told = answer(lake.path(), &with(&[]));
    assert!(
        told.contains("a (here)\n") && told.contains("Pick-up login rose by 92 % on Thu 16 Apr"),
        "{told}"
    );
    assert!(
        answer(lake.path(), &with(&["--format", "csv"]))
            .starts_with("site,monitor,kind,metric,at,")
    );
    assert!(run(lake.path(), &with(&["--format", "parquet"])).stdout.starts_with(b"PAR1"));
    let usual = usual();
    assert!(
        answer(usual.path(), &["patterns", "--monitor", "b"]).contains("no significant findings")
    );
}

#[test]
fn the_coverage_of_a_group_is_not_above_that_of_its_monitors() {
    // `a` is tested all day, `b` not at all: half of the group's time is unknown.
    let lake = lake((0..144).map(|test| sample("a", test * 10, Outcome::Ok, Some(900))).collect());
    let config = lake.path().join("mailqos.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let config = config.to_str().unwrap();
    let rows = json(lake.path(), &["stats", "--config", config, "--group", "tag"]);
    assert_eq!((&rows[0]["tag"], &rows[1]["tag"]), (&"both".into(), &"gold".into()));
    assert_eq!(rows[0]["monitors"], 1, "one has samples");
    assert_eq!(rows[0]["coverage"], 0.5);
    assert_eq!(rows[1]["coverage"], 1.0, "b has not this tag");
    // And by hour: `b` ends at noon, and from an hour later on, only `a` is known.
    let mut samples: Vec<Sample> =
        (0..144).map(|test| sample("a", test * 10, Outcome::Ok, Some(900))).collect();
    samples.extend((0..72).map(|test| sample("b", test * 10, Outcome::Ok, Some(900))));
    let lake = self::lake(samples);
    let rows = json(lake.path(), &["stats", "--group", "all", "--by", "hour"]);
    assert_eq!(rows.len(), 24);
    assert_eq!((&rows[5]["monitors"], &rows[5]["coverage"]), (&2.into(), &1.0.into()));
    assert_eq!((&rows[20]["monitors"], &rows[20]["coverage"]), (&1.into(), &0.5.into()));
}
