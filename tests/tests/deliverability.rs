//! Deliverability from outside: a simulated half year in which a provider files mails as spam from
//! a certain day, DKIM breaks for a week, greylisting begins, and a certificate expires. The
//! commands and all media report exactly that.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path, process::Output};

use mailqos_model::{Micros, Outcome, Placement, Sample, UtcMicros};
use mailqos_tests::{binaries::command, setting::complaint_of, simulation};
use serde_json::Value;

/// 2026-01-05, midnight UTC.
const BEGIN: UtcMicros = UtcMicros(1_767_571_200_000_000);
const DAY: Micros = Micros::from_secs(86_400);
const DAYS: i64 = 182;
const PERIOD: [&str; 6] =
    ["--from", "2026-01-05", "--to", "2026-07-06", "--timezone", "Europe/Berlin"];

/// Uniform numbers in [0, 1): a linear congruential generator (Knuth, MMIX).
struct Random(u64);

impl Random {
    fn happens(&mut self, chance: f64) -> bool {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64 / f64::from(1_u32 << 31)) < chance
    }
}

fn day(number: i64) -> UtcMicros {
    BEGIN + Micros(DAY.0 * number)
}

fn sample(monitor: &str, number: i64, test: i64, random: &mut Random) -> Sample {
    let at = day(number) + Micros::from_secs(test * 7_200 + 60);
    let mut sample = Sample::new(monitor.parse().unwrap(), at, Outcome::Ok);
    sample.test_interval = Some(Micros::from_secs(7_200));
    sample.settled = Some(true);
    sample.smtp_send = Some(Micros::from_secs(1));
    let is_greylisted = monitor == "grey" && number >= 50 && random.happens(0.6);
    let (attempts, seconds) = if is_greylisted { (3, 301) } else { (1, 1) };
    (sample.smtp_attempts, sample.smtp_elapsed) =
        (Some(attempts), Some(Micros::from_secs(seconds)));
    for tls in [&mut sample.smtp_tls_version, &mut sample.pickup_tls_version] {
        *tls = Some("TLSv1.3".into());
    }
    let expiry = if monitor == "expired" { 150 } else { 400 };
    sample.smtp_certificate_expires_at = Some(day(400));
    sample.pickup_certificate_expires_at = Some(day(expiry));
    if random.happens(0.01) {
        sample.outcome = Outcome::Lost;
        if monitor == "calm" {
            sample.stage = Some(mailqos_model::Stage::Bounced);
            sample.error = Some("the mail bounced: 5.2.2: the mailbox is full".into());
        }
        return sample;
    }
    sample.round_trip = Some(Micros::from_secs(2));
    let chance = if monitor == "provider" && number >= 70 { 0.8 } else { 0.02 };
    let is_junk = random.happens(chance);
    sample.placement = Some(if is_junk { Placement::Junk } else { Placement::Inbox });
    let is_broken = monitor == "signed" && (100..107).contains(&number);
    sample.dkim = Some(if is_broken { "fail" } else { "pass" }.into());
    for verdict in [&mut sample.spf, &mut sample.dmarc] {
        *verdict = Some(if random.happens(0.01) { "temperror" } else { "pass" }.into());
    }
    if monitor == "pop3" {
        sample.placement = None;
    }
    sample
}

const MONITORS: [&str; 6] = ["calm", "expired", "grey", "pop3", "provider", "signed"];

fn lake() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(7);
    let mut samples = Vec::new();
    for monitor in MONITORS {
        for number in 0..DAYS {
            samples.extend((0..12).map(|test| sample(monitor, number, test, &mut random)));
        }
    }
    let site = "here".parse().unwrap();
    simulation::write(folder.path(), &site, samples).unwrap();
    folder
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    let mut command = command("mailqos-analytics");
    command.arg(arguments[0]).arg("--data").arg(data).args(&arguments[1..]).args(PERIOD);
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{arguments:?}: {}", complaint_of(&output));
    output
}

fn json(data: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = run(data, &[arguments, &["--format", "json"]].concat());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn percent(value: &Value) -> f64 {
    (value.as_f64().expect("a share") * 1000.0).round() / 10.0
}

#[test]
fn figures_of_the_half_year_are_in_the_data() {
    let lake = lake();
    let rows = json(lake.path(), &["stats", "--full"]);
    let of = |monitor: &str| {
        let row = rows.iter().find(|row| row["monitor"] == monitor).expect("a row");
        &row["deliverability"]
    };
    assert_eq!(percent(&of("calm")["dkim_pass_rate"]), 100.0);
    let placement = percent(&of("provider")["inbox_placement"]);
    assert!((45.0..55.0).contains(&placement), "{placement}");
    assert!(of("pop3")["inbox_placement"].is_null());
    assert!(of("pop3")["folder_unknown"].as_u64() > Some(2_000));
    assert_eq!(of("signed")["dkim"]["fail"].as_u64().map(|count| count / 10), Some(8));
    assert_eq!(of("grey")["retry_delay_s"], 300.0);
    assert!(of("calm")["bounces"]["5.2.2"].as_u64() > Some(5));
    // The last test is at 22:01 UTC, which is in Berlin after the end of the period.
    assert_eq!(of("calm")["smtp_tls"]["TLSv1.3 unknown cipher"].as_u64(), Some(2_183));
    let expires = of("expired")["pickup_certificate_expires_at"].as_str().unwrap_or_default();
    assert!(expires.starts_with("2026-06-04"), "{expires}");
    // The contract's JSON is unchanged.
    let plain = json(lake.path(), &["stats"]);
    assert!(plain.iter().all(|row| row.get("deliverability").is_none()));
    // CSV contains the same, and each column can be explained.
    let csv = String::from_utf8(run(lake.path(), &["stats", "--format", "csv"]).stdout).unwrap();
    let head = csv.lines().next().unwrap_or_default();
    for column in ["inbox_placement", "dkim_pass_rate_low", "retry_delay_s", "bounced"] {
        assert!(head.split(',').any(|name| name == column), "{column} is not in {head}");
        let figure = column.trim_end_matches("_low");
        let explained = json(lake.path(), &["stats", "--explain", "signed", figure]);
        assert!(!explained[0]["definition"].as_str().unwrap_or_default().is_empty());
    }
    let explained = json(lake.path(), &["stats", "--explain", "signed", "dkim_pass_rate"]);
    assert!(explained[0]["calculation"].as_str().unwrap_or_default().contains("fail"));
    let roles: Vec<&Value> =
        explained[0]["samples"].as_array().unwrap().iter().map(|sample| &sample["role"]).collect();
    assert!(roles.iter().all(|role| **role == "counted, does not qualify"), "{roles:?}");
    // The worst comes first.
    for (figure, worst) in [
        ("inbox_placement", "provider"),
        ("junk_rate", "provider"),
        ("dkim_pass_rate", "signed"),
        ("first_attempt_rate", "grey"),
    ] {
        let ranked = json(lake.path(), &["top", "--figure", figure, "--only", "worst"]);
        assert_eq!(ranked[0]["monitor"], worst, "{figure}");
    }
}

#[test]
fn the_report_shows_exactly_the_planted_faults_in_all_media_and_languages() {
    let lake = lake();
    let kept = std::env::var("MAILQOS_KEEP_REPORTS").ok();
    for language in ["en", "de", "sv"] {
        let folder = tempfile::tempdir().unwrap();
        let out = kept
            .as_ref()
            .map_or_else(|| folder.path().to_owned(), |kept| Path::new(kept).join(language));
        let output = out.to_str().expect("a path");
        let formats = ["--format", "html,pdf,xlsx,csv,json"];
        let template = ["report", "--template", "deliverability", "--language", language];
        run(lake.path(), &[&template[..], &formats[..], &["--output", output]].concat());
        let mut files: Vec<String> = Vec::new();
        let mut folders = vec![out.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.to_str().unwrap().to_owned());
                }
            }
        }
        for ending in [".html", ".pdf", ".xlsx", ".csv", ".json"] {
            assert!(files.iter().any(|name| name.ends_with(ending)), "{ending}: {files:?}");
        }
        let page = files.iter().find(|name| name.ends_with(".html")).expect("a page");
        let page = fs::read_to_string(page).unwrap();
        let list = page.split("class=\"findings\"").nth(1).expect("findings");
        let list = list.split("</ul>").next().expect("its end");
        for monitor in MONITORS {
            let count = list.matches(&format!("<span>{monitor}:")).count();
            let planted = ["expired", "grey", "provider", "signed"].contains(&monitor);
            assert_eq!(count, usize::from(planted), "{language}, {monitor}: {list}");
        }
    }
}
