//! An engine outside the process gives the same bytes as the process itself, or an error.
//!
//! The engine here is `processes`: workers as processes of this machine. It runs the same workers
//! and accepts the same answers as a cluster, but it is not one.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use mailqos_model::{Exclusion, Micros, Outcome, Placement, Sample, Stage, UtcMicros};
use mailqos_tests::{binaries, simulation};
use tempfile::TempDir;

/// The start of 2025-10-24, two days before clocks go back in Europe.
const START: i64 = 1_761_264_000_000_000;
/// The days around the end of summer time.
const PERIOD: [&str; 4] = ["--from", "2025-10-25", "--to", "2025-10-28"];

/// Writes a lake of two sites, with outages, gaps, other kinds of tests, maintenance, ties, values
/// of zero and negative ones, as of a clock that was set.
fn lake(data: &Path) {
    for (site, monitors) in [("lyon", 9), ("oslo", 4)] {
        let mut samples = Vec::new();
        for monitor in 0..monitors {
            for test in 0..5 * 144_i64 {
                samples.extend(sample(monitor, test));
            }
        }
        simulation::write(data, &site.parse().expect("a name"), samples).expect("written");
    }
}

/// Returns the sample of a test, unless it is part of a gap.
fn sample(monitor: i64, test: i64) -> Option<Sample> {
    let at = START + test * 600_000_000 + monitor * 1_000_000;
    let name = format!("m{monitor}").parse().expect("a name");
    let mut sample = Sample::new(name, UtcMicros(at), Outcome::Ok);
    let noise = ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as i64;
    sample.settled = Some(test % 97 != 0);
    sample.test_interval = Some(Micros(600_000_000));
    sample.max_round_trip = Some(Micros(60_000_000));
    sample.smtp_connect = Some(Micros(noise % 90_000 - 20));
    sample.smtp_send = Some(Micros(noise % 3));
    sample.round_trip = Some(Micros(1_000_000 + noise % 50_000_000));
    sample.placement = Some(if noise % 7 == 0 { Placement::Junk } else { Placement::Inbox });
    if monitor == 3 {
        sample.kind = Some("mailbox".to_owned());
        sample.round_trip = None;
    }
    match (test + monitor * 37) % 211 {
        0..4 => {
            sample.outcome = Outcome::SmtpFailed;
            sample.stage = Some(Stage::SmtpConnect);
            sample.error = Some("refused, \"quoted\"\tand tabbed: déjà vu".to_owned());
            sample.round_trip = None;
        }
        4 => (sample.outcome, sample.round_trip) = (Outcome::Lost, None),
        5 => sample.outcome = Outcome::Late,
        6..9 => sample.excluded = Some(Exclusion::Maintenance),
        20..40 => return None,
        _ => {}
    }
    Some(sample)
}

/// A lake and a configuration of it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        lake(folder.path());
        let place = Self { folder };
        place.configure("");
        place
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> PathBuf {
        self.path().join("mailqos.toml")
    }

    /// Writes the configuration, with some more tables.
    fn configure(&self, more: &str) {
        let mut text = "site = \"lyon\"\ndata = \".\"\n\
            [object.a]\naddress = \"127.0.0.1\"\n[object.b]\naddress = \"127.0.0.1\"\n\
            [account.probe]\nuser = \"probe@example.com\"\npassword = { env = \"PROBE_PASSWORD\" }\n"
            .to_owned();
        // m8 is not configured, and the last one has no samples.
        for (monitor, object, tags) in [
            ("m0", "a", "[\"gold\", \"all\"]"),
            ("m1", "b", "[\"all\"]"),
            ("m2", "a", "[]"),
            ("m3", "b", "[\"gold\"]"),
            ("never", "a", "[\"all\"]"),
        ] {
            text.push_str(&format!(
                "[monitor.{monitor}]\nobject = \"{object}\"\ntags = {tags}\nfrom = \"probe@example.com\"\n\
                 to = \"probe@example.com\"\nsmtp = {{ account = \"probe\" }}\n\
                 pickup = {{ protocol = \"pop3\", account = \"probe\" }}\n"
            ));
        }
        text.push_str(more);
        std::fs::write(self.config(), text).expect("written");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binaries::binary("mailqos-analytics"));
        command.args(arguments).arg("--config").arg(self.config());
        command.current_dir(self.path()).output().expect("started")
    }

    /// Fails unless the output is the same without the engine and with it.
    fn compare(&self, arguments: &[&str]) {
        let arguments: Vec<&str> = arguments.iter().copied().chain(PERIOD).collect();
        let here = self.run(&arguments);
        let engine = ["--engine", "processes", "--shards", "5"];
        let there: Vec<&str> = arguments.iter().copied().chain(engine).collect();
        let there = self.run(&there);
        for output in [&here, &there] {
            let messages = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {messages}");
        }
        let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(here.stdout.len() > 100, "{arguments:?}: a figure is expected: {}", text(&here));
        assert!(here.stdout == there.stdout, "{arguments:?}:\n{}\n{}", text(&here), text(&there));
    }
}

#[test]
fn every_format_unit_and_zone_gives_the_same_bytes() {
    let place = Place::new();
    for zone in ["UTC", "Europe/Oslo", "Australia/Lord_Howe"] {
        for by in ["total", "hour", "day", "week", "month", "quarter", "year"] {
            let zone = ["--timezone", zone, "--format", "json", "--full"];
            place.compare(&[&["stats", "--by", by][..], &zone[..]].concat());
        }
    }
    for format in ["csv", "table", "parquet", "json"] {
        place.compare(&["stats", "--format", format, "--percentiles", "75,99.9"]);
        place.compare(&["stats", "--format", format, "--compare", "previous"]);
        place.compare(&["outages", "--format", format]);
        place.compare(&["top", "--format", format, "--figure", "round_trip_p95"]);
    }
    place.compare(&["stats", "--monitor", "m3", "--monitor", "m8", "--site", "lyon"]);
    place.compare(&["stats", "--monitor", "tag:all", "--metrics", "smtp_tls", "--format", "csv"]);
    place.compare(&["outages", "--monitor", "m1*", "--format", "json"]);
    place.compare(&["top", "--figure", "inbox_placement", "--format", "json"]);
}

#[test]
fn groups_are_combined_to_the_same_bytes() {
    let place = Place::new();
    for group in ["site", "object", "tag", "all"] {
        for by in ["total", "day", "hour"] {
            place.compare(&["stats", "--group", group, "--by", by, "--format", "json", "--full"]);
        }
        place.compare(&["stats", "--group", group, "--percentiles", "0,33.3,100"]);
        place.compare(&["stats", "--group", group, "--compare", "previous", "--format", "csv"]);
    }
    place.compare(&["stats", "--group", "all", "--monitor", "m2", "--format", "parquet"]);
    // Nothing to show is the same, too.
    let nothing = ["stats", "--from", "2020-01-01", "--to", "2020-01-02", "--format", "json"];
    for group in ["monitor", "all"] {
        let here = place.run(&[&nothing[..], &["--group", group]].concat());
        let engine = ["--group", group, "--engine", "processes"];
        let there = place.run(&[&nothing[..], &engine].concat());
        assert!(here.status.success() && here.stdout == there.stdout);
    }
}

#[test]
fn service_levels_get_the_same_verdicts() {
    let place = Place::new();
    place.configure(
        "[service_level.all]\navailability = \"99%\"\nuptime = \"99%\"\ndelivered_within = { \"30s\" = \"90%\" }\n\
         inbox_placement = \"80%\"\npercentile = { round_trip = { p95 = \"45s\" } }\nperiod = \"month\"\n\
         [service_level.group]\njudge = \"together\"\nmonitors = [\"m*\"]\navailability = \"97%\"\n\
         percentile = { smtp_connect = { p99 = \"80ms\" } }\nperiod = \"week\"\n\
         timezone = \"Europe/Oslo\"\n",
    );
    for format in ["table", "json", "csv"] {
        place.compare(&["sla", "--format", format]);
    }
    place.compare(&["sla", "group", "--monitor", "m1", "--site", "oslo", "--format", "json"]);
    // Without samples, there are no workers to ask.
    let nothing = ["sla", "--from", "2020-01-01", "--to", "2020-01-02", "--format", "json"];
    let here = place.run(&nothing);
    let there = place.run(&[&nothing[..], &["--engine", "processes"]].concat());
    assert!(here.status.success() && here.stdout == there.stdout);
}

#[test]
fn the_configuration_selects_the_engine() {
    let place = Place::new();
    place.configure("[engine]\nkind = \"processes\"\nshards = 3\nworker = \"/nowhere\"\n");
    let question = [&["stats", "--format", "json"][..], &PERIOD[..]].concat();
    let output = place.run(&question);
    let failed = !output.status.success();
    assert!(failed && complains(&output, "/nowhere"), "{}", messages(&output));
    // The command line has precedence, and what only this process computes is computed by it.
    assert!(place.run(&[&question[..], &["--engine", "local"]].concat()).status.success());
    let explained =
        place.run(&[&["stats", "--explain", "m1", "availability"][..], &PERIOD[..]].concat());
    assert!(explained.status.success());
    let refused =
        [&["stats", "--explain", "m1", "availability", "--engine", "processes"][..], &PERIOD[..]];
    let refused = place.run(&refused.concat());
    assert_eq!(refused.status.code(), Some(2));
    assert!(complains(&refused, "--engine local"), "{}", messages(&refused));
}

#[test]
fn a_corrupt_file_is_named_once_or_skipped_everywhere() {
    let place = Place::new();
    let file = place.path().join("samples/site=lyon/date=2025-10-26/samples.parquet");
    let bytes = std::fs::read(&file).expect("read");
    // The footer is intact, pages are not.
    let mut damaged = bytes.clone();
    damaged[8..bytes.len() / 2].fill(0x55);
    // Cut off, so that no worker can read anything of it.
    for content in [&damaged[..], &bytes[..bytes.len() - 10]] {
        std::fs::write(&file, content).expect("written");
        let engine = ["--format", "csv", "--engine", "processes", "--shards", "4"];
        for group in ["monitor", "all"] {
            let question = [&["stats", "--group", group][..], &PERIOD[..], &engine].concat();
            let output = place.run(&question);
            let messages = messages(&output);
            assert_eq!(output.status.code(), Some(1), "{messages}");
            assert_eq!(messages.matches("date=2025-10-26").count(), 1, "{messages}");
            assert!(output.stdout.is_empty(), "nothing is written before the result is complete");
            for format in ["json", "table"] {
                place.compare(&["stats", "--group", group, "--format", format, "--skip-corrupt"]);
            }
        }
    }
}

/// Returns the messages without spaces and line ends: lines are wrapped.
fn messages(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.chars().filter(|letter| !letter.is_whitespace() && *letter != '│').collect()
}

/// Returns whether the messages contain a text.
fn complains(output: &Output, text: &str) -> bool {
    messages(output).contains(&text.replace(' ', ""))
}

/// Writes a program that takes the place of the worker.
fn worker(place: &Place, script: &str) {
    let path = place.path().join("worker.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

/// Returns the path of the real program.
fn program() -> String {
    binaries::binary("mailqos-analytics").display().to_string()
}

#[test]
fn a_worker_that_misbehaves_gives_no_figures() {
    let place = Place::new();
    place.configure("[engine]\nkind = \"processes\"\nworker = \"worker.sh\"\ntimeout = \"1m\"\n");
    let program = program();
    let cut = format!("cat > in.$$; {program} worker < in.$$ > out.$$; ");
    for (script, expected) in [
        // The JVM and login shells write such lines.
        (
            format!("echo 'Picked up _JAVA_OPTIONS: -Xmx1g'; exec {program} worker"),
            "is not an answer",
        ),
        (format!("{cut} head -n 3 out.$$"), "incomplete"),
        (format!("{cut} sed '$d' out.$$"), "incomplete"),
        (format!("{cut} sed '1d' out.$$"), "incomplete"),
        (format!("{cut} head -c 1000 out.$$"), "is not an answer"),
        (format!("{cut} cat out.$$ out.$$"), "not expected"),
        ("cat > /dev/null".to_owned(), "incomplete"),
        // It writes while it reads (https://github.com/yegor256/jaxec/issues/168).
        ("exec cat".to_owned(), "is not an answer"),
        ("printf '\\377\\376'".to_owned(), "something else than text"),
        ("echo 'no space left' >&2; exit 3".to_owned(), "no space left"),
        // https://github.com/state-of-the-art/BlendNet/issues/2: a killed worker counted as done.
        ("kill -9 $$".to_owned(), "signal"),
    ] {
        worker(&place, &script);
        let question = [&["stats", "--format", "csv"][..], &PERIOD[..]].concat();
        let output = place.run(&question);
        let messages = messages(&output);
        assert_eq!(output.status.code(), Some(1), "{script}: {messages}");
        assert!(complains(&output, expected), "{script}: {messages}");
        assert!(output.stdout.is_empty(), "{script}");
    }
}

/// https://github.com/natcap/taskgraph/issues/116: the program waited forever for its workers.
#[test]
fn a_worker_that_never_ends_is_ended() {
    let place = Place::new();
    place.configure("[engine]\nkind = \"processes\"\nworker = \"worker.sh\"\ntimeout = \"1s\"\n");
    // Its output stays open, also after it was ended; or it closes it and continues.
    for script in ["sleep 600 & wait", "exec sleep 600 > /dev/null"] {
        worker(&place, script);
        let output = place.run(&[&["stats", "--shards", "1"][..], &PERIOD[..]].concat());
        let messages = messages(&output);
        assert_eq!(output.status.code(), Some(1), "{messages}");
        assert!(complains(&output, "did not end in time"), "{messages}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_worker_that_is_killed_is_replaced() {
    let place = Place::new();
    let here = place.run(&[&["stats", "--format", "csv"][..], &PERIOD[..]].concat());
    place.configure("[engine]\nkind = \"processes\"\nworker = \"worker.sh\"\nshards = 5\n");
    // The first worker dies after it has written a part of its answer.
    let script = format!(
        "cat > in.$$\nif mkdir first 2> /dev/null; then {} worker < in.$$ | head -c 700; kill -9 $$; fi\n\
         exec {} worker < in.$$",
        program(),
        program()
    );
    worker(&place, &script);
    let there = place.run(&[&["stats", "--format", "csv"][..], &PERIOD[..]].concat());
    assert!(place.path().join("first").exists());
    assert!(there.status.success() && there.stdout == here.stdout);
}

/// https://github.com/spiceai/spiceai/issues/13793 and
/// https://github.com/ClickHouse/ClickHouse/pull/107934: results of two versions of a file.
#[test]
fn a_file_that_changes_between_two_parts_is_read_again() {
    let place = Place::new();
    let file = place.path().join("samples/site=lyon/date=2025-10-26/samples.parquet");
    let old = std::fs::read(&file).expect("read");
    // Another version of the day: with fewer samples.
    let other = tempfile::tempdir().expect("a folder");
    let fewer = (0..9).flat_map(|monitor| (288..400).filter_map(move |test| sample(monitor, test)));
    simulation::write(other.path(), &"lyon".parse().expect("a name"), fewer).expect("written");
    let newer = other.path().join("samples/site=lyon/date=2025-10-26/samples.parquet");
    std::fs::copy(&newer, place.path().join("newer")).expect("copied");
    let question = [&["stats", "--format", "csv"][..], &PERIOD[..]].concat();
    std::fs::write(&file, std::fs::read(&newer).expect("read")).expect("written");
    let expected = place.run(&question).stdout;
    std::fs::write(&file, &old).expect("written");
    assert_ne!(place.run(&question).stdout, expected);
    place.configure("[engine]\nkind = \"processes\"\nworker = \"worker.sh\"\nshards = 5\n");
    // One worker reads the old file, and replaces it before any other begins.
    let script = format!(
        "cat > in.$$\nuntil mkdir lock 2> /dev/null; do sleep 0.1; done\n\
         {} worker < in.$$ > out.$$\n[ -e newer ] && mv newer {}\nrmdir lock\ncat out.$$",
        program(),
        file.display()
    );
    worker(&place, &script);
    let output = place.run(&question);
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !place.path().join("newer").exists(), "{messages}");
    assert!(output.stdout == expected, "all figures are of the new file");
    // A file that changes all the time has no figures.
    let script = format!(
        "cat > in.$$\nuntil mkdir lock 2> /dev/null; do sleep 0.1; done\n\
         {} worker < in.$$ > out.$$\ntouch -d @$(($(cat n 2> /dev/null || echo 1) * 1000)) {}\n\
         echo $(($(cat n 2> /dev/null || echo 1) + 1)) > n\nrmdir lock\ncat out.$$",
        program(),
        file.display()
    );
    worker(&place, &script);
    let output = place.run(&question);
    let text = self::messages(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(complains(&output, "the files of the site lyon changed"), "{text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_worker_refuses_what_it_does_not_understand() {
    let worker = |input: &str| {
        let mut child = Command::new(binaries::binary("mailqos-analytics"))
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
        child.wait_with_output().expect("ended")
    };
    for garbage in ["garbage\n", "{}\n", "[]\n"] {
        let output = worker(garbage);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
    }
    // Another version may compute other figures.
    let shard = r#"{"protocol":1,"program":"0.0.0-other","shard":7,"data":"/nowhere","config":null,"site":"a","from":null,"to":null,"monitors":[],"skip_corrupt":false,"left_out":{},"threads":1,"question":{"from":0,"to":1,"timezone":"UTC","week_start":1,"year_start":1,"now":1,"context":0,"metrics":[],"columns":[],"receipts":false,"work":{"outages":{"long":false}}}}"#;
    let output = worker(&format!("{shard}\n"));
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && answer.contains("\"shard\":7"), "{answer}");
    assert!(answer.contains("install the same version everywhere"), "{answer}");
    // Names and texts of other languages are not changed by the locale of the executor.
    let place = Place::new();
    let ascii = Command::new(binaries::binary("mailqos-analytics"))
        .args(["outages", "--format", "json", "--engine", "processes", "--data"])
        .arg(place.path())
        .args(PERIOD)
        .env("LC_ALL", "C")
        .output()
        .expect("started");
    assert!(String::from_utf8_lossy(&ascii.stdout).contains("déjà vu"));
}
