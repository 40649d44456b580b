//! Figures on a cluster of Apache Spark: the same bytes as without it, or an error, but never a part
//! of them. Needs `MAILQOS_SPARK_PYTHON`, a Python with pyspark, and `MAILQOS_BIN`, a folder with
//! programs that were built with Spark; if the variable is not set, prints a note and passes.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use mailqos_model::{Exclusion, Micros, Outcome, Sample, Stage, UtcMicros};
use mailqos_tests::{
    binaries,
    secrets::secret_file,
    servers::{KEY_ID, ObjectStore},
    setting::{Setting, until},
    simulation,
    spark::SparkCluster,
};

const STORE_SECRET: &str = "Spark-Store-Hemlighet-3Kp";
const TOKEN: &str = "Spark-Token-Hemlighet-8Wd";
/// The start of 2025-10-22, four days before clocks go back in Europe.
const START: i64 = 1_761_091_200_000_000;
const DAYS: i64 = 8;
const MONITORS: [(&str, i64); 2] = [("lyon", 24), ("oslo", 9)];
const PERIOD: [&str; 4] = ["--from", "2025-10-23", "--to", "2025-10-29"];
/// Ends streams early, so that every statement of some seconds is read across several.
const OPTIONS: &str = "--conf spark.connect.execute.reattachable.senderMaxStreamDuration=3s \
                       --conf spark.task.reaper.enabled=true --conf spark.task.reaper.killTimeout=5s";

fn sample(monitor: i64, test: i64) -> Option<Sample> {
    let at = START + test * 300_000_000 + monitor * 1_000_000;
    let name = format!("m{monitor:02}").parse().expect("a name");
    let mut sample = Sample::new(name, UtcMicros(at), Outcome::Ok);
    let noise = ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as i64;
    sample.settled = Some(true);
    sample.test_interval = Some(Micros(300_000_000));
    sample.max_round_trip = Some(Micros(60_000_000));
    sample.smtp_connect = Some(Micros(noise % 90_000));
    sample.pickup_login = Some(Micros(noise % 7_001));
    sample.round_trip = Some(Micros(1_000_000 + noise % 50_000_000));
    match (test + monitor * 37) % 211 {
        0..4 => {
            sample.outcome = Outcome::SmtpFailed;
            sample.stage = Some(Stage::SmtpConnect);
            // A worker's output is lines, and Spark divides lines at tabs.
            sample.error = Some("refused, \"quoted\", \\N\tand tabbed".to_owned());
            sample.round_trip = None;
        }
        4 => sample.outcome = Outcome::Lost,
        5 => sample.outcome = Outcome::Late,
        6..9 => sample.excluded = Some(Exclusion::Maintenance),
        // A gap.
        20..40 => return None,
        _ => {}
    }
    Some(sample)
}

/// A cluster, a store with a lake, and a configuration for both.
struct World {
    cluster: SparkCluster,
    store: ObjectStore,
    setting: Setting,
}

impl World {
    async fn start() -> Option<Self> {
        let cluster = SparkCluster::start(TOKEN, OPTIONS)?;
        let store = ObjectStore::start().await.expect("a store");
        let lake = tempfile::tempdir().expect("a folder");
        for (site, monitors) in MONITORS {
            let tests = (0..monitors).flat_map(|it| (0..DAYS * 288).map(move |test| (it, test)));
            let samples = tests.filter_map(|(monitor, test)| sample(monitor, test));
            simulation::write(lake.path(), &site.parse().expect("a name"), samples)
                .expect("written");
        }
        for file in files(lake.path()) {
            let name = file.strip_prefix(lake.path()).expect("inside").display().to_string();
            store.put(&format!("bucket/some/lake/{name}"), &fs::read(&file).expect("read"));
        }
        let mut setting = Setting::new("lyon");
        setting.replace("data = \"data\"", "data = \"s3://bucket/some/lake\"");
        secret_file(&setting.path("s3.secret"), STORE_SECRET);
        secret_file(&setting.path("spark.token"), TOKEN);
        setting.add(&format!(
            "[account.store]\nuser = \"{KEY_ID}\"\npassword = {{ file = \"s3.secret\" }}\n\
             [object_store]\nendpoint = \"{}\"\nallow_http = true\nregion = \"eu-north-1\"\naccount = \"store\"\n\
             [engine]\nconnect = \"{}\"\ntoken = {{ file = \"spark.token\" }}\nworker = \"WORKER\"",
            store.endpoint(),
            cluster.address()
        ));
        let program = binaries::binary("mailqos-analytics").display().to_string();
        setting.replace("WORKER", &program);
        let world = Self { cluster, store, setting };
        world.worker("exec \"$PROGRAM\" worker");
        let script = world.script().display().to_string();
        let mut setting = world.setting;
        setting.replace(&format!("worker = \"{program}\""), &format!("worker = \"{script}\""));
        Some(Self { setting, ..world })
    }

    fn script(&self) -> PathBuf {
        self.cluster.path().join("analytics")
    }

    /// Returns a file that a worker creates.
    fn marker(&self) -> PathBuf {
        self.cluster.path().join("marker")
    }

    /// Sets what executors run as a worker: `$PROGRAM` is the real one, `$MARKER` a file.
    fn worker(&self, text: &str) {
        let program = binaries::binary("mailqos-analytics").display().to_string();
        let _ = fs::remove_file(self.marker());
        let text = format!(
            "#!/bin/bash\nPROGRAM={program:?}\nMARKER={:?}\n{text}\n",
            self.marker().display().to_string()
        );
        // A script that is being written can't be executed.
        let new = self.script().with_extension("new");
        fs::write(&new, text).expect("written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::rename(&new, self.script()).expect("renamed");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.setting.command("mailqos-analytics");
        command.args(arguments);
        command
    }

    fn on_spark(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.args(["--engine", "spark"]);
        command
    }

    /// Checks that the output with Spark is that without it; returns its length.
    fn same(&self, arguments: &[&str]) -> usize {
        let here = self.command(arguments).output().expect("started");
        let there = self.on_spark(arguments).output().expect("started");
        for output in [&here, &there] {
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {told}\n{}", self.cluster.log());
        }
        let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            here.stdout == there.stdout,
            "{arguments:?}:\n{:.4000}\n{:.4000}",
            text(&here),
            text(&there)
        );
        here.stdout.len()
    }

    /// Runs a question that must fail without output, and returns its standard error.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.on_spark(arguments).output().expect("started");
        failed(&output)
    }
}

fn failed(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(output.stdout.is_empty(), "nothing is written before the result is complete");
    for secret in [TOKEN, STORE_SECRET] {
        assert!(!told.contains(secret), "{told}");
    }
    told
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A question about every hour.
fn hourly() -> Vec<&'static str> {
    let question =
        ["stats", "--by", "hour", "--format", "json", "--full", "--timezone", "Europe/Oslo"];
    question.into_iter().chain(PERIOD).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_on_spark_are_complete_or_an_error() {
    let Some(world) = World::start().await else { return };
    units_zones_and_formats(&world);
    longer_than_a_stream(&world);
    executor_killed(&world).await;
    server_restarted(&world).await;
    interrupted(&world).await;
    workers_that_fail(&world);
    corrupt_file(&world);
    wrong_token(&world);
}

fn units_zones_and_formats(world: &World) {
    let mut bytes = 0;
    for zone in ["UTC", "Europe/Oslo", "Australia/Lord_Howe"] {
        for by in ["total", "hour", "day", "week"] {
            let question = ["stats", "--by", by, "--timezone", zone, "--format", "json", "--full"];
            let question: Vec<&str> = question.into_iter().chain(PERIOD).collect();
            bytes += world.same(&question);
        }
    }
    for format in ["csv", "table", "parquet"] {
        for question in [
            vec!["stats", "--format", format, "--percentiles", "75,99.9"],
            vec!["outages", "--format", format, "--site", "oslo"],
            vec!["top", "--format", format, "--figure", "round_trip_p95"],
        ] {
            let question: Vec<&str> = question.into_iter().chain(PERIOD).collect();
            bytes += world.same(&question);
        }
    }
    eprintln!("{bytes} bytes of figures are the same");
    assert!(bytes > 1_000_000, "{bytes}");
}

/// A statement that takes longer than a stream (sjrusso8/spark-connect-rs#71).
fn longer_than_a_stream(world: &World) {
    world.worker("sleep 8; exec \"$PROGRAM\" worker");
    world.same(&hourly());
}

async fn executor_killed(world: &World) {
    world.worker("if mkdir \"$MARKER\"; then sleep 600; fi; exec \"$PROGRAM\" worker");
    let here = world.command(&hourly()).output().expect("started");
    let there = world.on_spark(&hourly()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let there = there.expect("started");
    until("a worker has started", || world.marker().exists()).await;
    let killed = world.cluster.executors();
    assert!(!killed.is_empty());
    for id in killed {
        let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
    }
    let there = there.wait_with_output().expect("ended");
    let told = String::from_utf8_lossy(&there.stderr);
    assert!(there.status.success(), "{told}\n{}", world.cluster.log());
    assert!(here.stdout == there.stdout, "an executor was killed");
    let _ = fs::remove_dir(world.marker());
}

async fn server_restarted(world: &World) {
    world.worker("if mkdir \"$MARKER\"; then sleep 600; fi; exec \"$PROGRAM\" worker");
    let here = world.command(&hourly()).output().expect("started");
    let there = world.on_spark(&hourly()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let there = there.expect("started");
    until("a worker has started", || world.marker().exists()).await;
    world.cluster.restart_connect();
    let there = there.wait_with_output().expect("ended");
    // On a slow machine, the restart may take longer than the client waits.
    if there.status.success() {
        assert!(here.stdout == there.stdout, "the server was restarted");
        let told = String::from_utf8_lossy(&there.stderr);
        assert!(told.contains("spark_statement_lost"), "{told}");
    } else {
        let told = failed(&there);
        assert!(told.contains("can't be reached"), "{told}");
    }
    let _ = fs::remove_dir(world.marker());
}

/// The statement does not go on, on the cluster (marimo-team/marimo#3494).
async fn interrupted(world: &World) {
    // Ends when no executor reads its output any more.
    world.worker(
        "mkdir \"$MARKER\" 2>/dev/null; for i in {1..3000}; do echo || exit; sleep 0.2; done",
    );
    let there = world.on_spark(&hourly()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let there = there.expect("started");
    until("a worker has started", || world.marker().exists()).await;
    let _ = Command::new("kill").args(["-INT", &there.id().to_string()]).status();
    let told = failed(&there.wait_with_output().expect("ended"));
    assert!(told.contains("cancelled on the cluster"), "{told}");
    let _ = fs::remove_dir(world.marker());
    // Its tasks don't occupy the executors for long.
    world.worker("exec \"$PROGRAM\" worker");
    world.same(&hourly());
}

/// apache/spark#29085: what a script prints is taken as it is, whatever it is.
fn workers_that_fail(world: &World) {
    for (text, expected) in [
        // The output ends early, although the program succeeds.
        ("\"$PROGRAM\" worker | head -n 1", "incomplete"),
        ("cat >/dev/null", "incomplete"),
        ("echo 'Picked up _JAVA_OPTIONS: -Xmx1g'; exec \"$PROGRAM\" worker", "not an answer"),
        // An attempt's output counts once.
        ("tee >(\"$PROGRAM\" worker) | \"$PROGRAM\" worker", "not "),
        ("echo 'the disk is on fire' >&2; exit 3", "status 3"),
        ("exec /nowhere/mailqos-analytics worker", "status 127"),
    ] {
        world.worker(text);
        let told = world.refused(&hourly());
        assert!(told.contains(expected), "{text}: {told}");
    }
    world.worker("exec \"$PROGRAM\" worker");
}

fn corrupt_file(world: &World) {
    let name = "bucket/some/lake/samples/site=lyon/date=2025-10-26/samples.parquet";
    let bytes = world.store.get(name).expect("an object");
    // The footer is intact, pages are not.
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 4..bytes.len() / 4 + 2000].fill(0x55);
    world.store.put(name, &damaged);
    let told = world.refused(&hourly());
    assert_eq!(told.matches("date=2025-10-26").count(), 1, "{told}");
    world.store.put(name, &bytes);
    world.same(&hourly());
}

fn wrong_token(world: &World) {
    let token = world.setting.path("spark.token");
    let wrong = "Another-Token-Hemlighet";
    secret_file(&token, wrong);
    let told = world.refused(&hourly());
    assert!(told.contains("rejects the token") && !told.contains(wrong), "{told}");
    secret_file(&token, TOKEN);
}
