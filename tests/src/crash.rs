//! Kills the real probe repeatedly under load, and compares what it acknowledged with what is in
//! the lake.
//!
//! The probe logs which samples it has written to disk; a line in the log survives the process.
//! Meanwhile a reader opens every day file continuously, as reports and other engines do, and the
//! disk may sometimes be full or fail at random.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;

use crate::{
    lake::{self, Row},
    servers::{Delays, MailServer, Options},
    setting::{PATIENCE, Setting, signal},
    shims,
};

/// Settings of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Number of kills.
    pub kills: usize,
    /// Seed of the random times.
    pub seed: u64,
    /// Number of monitors, each tested every second: of three, one sends mails and two fail
    /// immediately.
    pub monitors: usize,
    /// Maximum lifetime of a process.
    pub longest: Duration,
    /// The lake's folder; `None` for a temporary one.
    pub data: Option<PathBuf>,
    /// Whether to fill the lake's disk now and then, which should be a small one.
    pub fill: bool,
    /// Reads and writes of the lake that fail, per thousand.
    pub failing: u32,
}

/// Results of a run.
#[derive(Debug, Clone, Default)]
pub struct Toll {
    /// Lives that ended by SIGKILL.
    pub kills: usize,
    /// Lives in which samples were acknowledged.
    pub fruitful: usize,
    /// Different samples that were acknowledged.
    pub acknowledged: usize,
    /// Samples in the lake at the end.
    pub in_lake: usize,
    /// Acknowledged samples that are missing, or settled ones that are only there as provisional.
    pub lost: usize,
    /// Samples found more than once, at the end or at any time before.
    pub doubled: u64,
    /// How often a day file was opened and read completely.
    pub opened: u64,
    /// How often that failed.
    pub unreadable: u64,
    /// Samples that the probe reported as not written.
    pub refused: u64,
    /// How often the disk was full.
    pub filled: u64,
    /// Reads and writes that failed.
    pub failed: u64,
}

/// A sample's monitor and start.
type Key = (String, String);

/// What the probe logged about its samples.
#[derive(Default)]
pub struct Said {
    /// Acknowledged samples; `true` if settled.
    acknowledged: BTreeMap<Key, bool>,
    refused: u64,
}

/// Comparison of the lake with the acknowledged samples.
pub struct Found {
    /// Samples in the lake.
    pub in_lake: usize,
    /// Acknowledged samples that are missing, or settled ones that are only there as provisional.
    pub lost: usize,
    /// Duplicate samples.
    pub doubled: u64,
}

/// Kills the probe as planned, starts it a last time, and counts.
///
/// # Panics
/// The probe can't be started, or does not stop cleanly at the end.
pub async fn run(plan: &Plan) -> Toll {
    let server = MailServer::start(Options {
        seed: plan.seed,
        delays: Delays::Uniform(Duration::from_millis(20), Duration::from_millis(1500)),
        ..Options::default()
    })
    .await
    .expect("an embedded server");
    let mut setting = Setting::new("crash");
    let data = plan.data.clone().unwrap_or_else(|| setting.data());
    setting.replace("data = \"data\"", &format!("data = {:?}", data.display().to_string()));
    setting.replace("seal_interval = \"1s\"", "seal_interval = \"1s\" # as often as can be");
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"");
    setting.replace("max_round_trip = \"3s\"", "max_round_trip = \"1s\"");
    setting.replace("horizon = \"6s\"", "horizon = \"4s\"");
    for number in 0..plan.monitors {
        let mut monitor = setting.monitor(&format!("m{number:03}"), &server);
        if number % 3 != 0 {
            // Nothing listens there, so there is a sample immediately.
            monitor.smtp =
                monitor.smtp.replace(&format!("port = {}", server.smtp_port()), "port = 1");
        }
        setting.add_monitor(&monitor);
    }
    let failing = (plan.failing > 0).then(|| Failing::new(&setting, &data, plan.failing));
    let reader = Reader::start(data.clone());
    let mut random = Pcg64Mcg::seed_from_u64(plan.seed);
    let (mut toll, mut said) = (Toll::default(), Said::default());
    for _ in 0..plan.kills {
        let log = setting.path("life.log");
        let mut probe = Life::begin(&setting, &log, failing.as_ref());
        let life = random.random_range(Duration::from_millis(50)..=plan.longest);
        if plan.fill && random.random_range(0..2) == 0 {
            tokio::time::sleep(life.mul_f64(random.random_range(0.0..0.6))).await;
            toll.filled += 1;
            fill(&data);
            tokio::time::sleep(life.mul_f64(0.4)).await;
            if random.random_range(0..2) == 0 {
                empty(&data);
            }
        } else {
            tokio::time::sleep(life).await;
        }
        probe.kill();
        toll.kills += 1;
        toll.fruitful += usize::from(said.hear(&text(&log)));
        if random.random_range(0..3) == 0 {
            empty(&data);
        }
    }
    empty(&data);
    let log = setting.path("life.log");
    let probe = Life::begin(&setting, &log, None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    probe.stop(&log);
    said.hear(&text(&log));
    (toll.opened, toll.unreadable, toll.doubled) = reader.end();
    toll.failed = failing.map_or(0, |failing| failing.count());
    let found = said.compare(&lake::rows(&data));
    toll.acknowledged = said.acknowledged();
    toll.refused = said.refused;
    toll.in_lake = found.in_lake;
    toll.lost = found.lost;
    toll.doubled += found.doubled;
    toll
}

fn text(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

impl Said {
    /// Processes lines of the log, each a JSON object; returns whether they acknowledged anything.
    pub fn hear(&mut self, lines: &str) -> bool {
        let mut heard = false;
        for line in lines.lines() {
            // The last line may be truncated and then doesn't count.
            if let Ok(line) = serde_json::from_str::<Value>(line) {
                heard |= self.take(&line["fields"]);
            }
        }
        heard
    }

    /// Processes a line of the log; returns whether it acknowledges a sample.
    pub fn take(&mut self, fields: &Value) -> bool {
        match fields["message"].as_str() {
            Some("on disk") => {
                let monitor = fields["monitor"].as_str().unwrap_or_default().to_owned();
                let settled = self
                    .acknowledged
                    .entry((monitor, fields["started_at"].to_string()))
                    .or_default();
                *settled |= fields["settled"] == true;
                return true;
            }
            Some(message) if message.starts_with("a sample was not recorded") => self.refused += 1,
            _ => {}
        }
        false
    }

    /// Returns the number of different acknowledged samples.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Compares the acknowledged samples with the lake.
    pub fn compare(&self, rows: &[Row]) -> Found {
        let mut found: BTreeMap<Key, (usize, bool)> = BTreeMap::new();
        for row in rows {
            let at = row.number("started_at").expect("a moment");
            let entry = found.entry((row.monitor().to_owned(), at.to_string())).or_default();
            entry.0 += 1;
            entry.1 |= row.flag("settled") != Some(false);
        }
        let kept = |(key, settled): (&Key, &bool)| {
            found.get(key).is_some_and(|(_, there)| *there || !*settled)
        };
        Found {
            in_lake: found.len(),
            lost: self.acknowledged.iter().filter(|said| !kept(*said)).count(),
            doubled: found.values().filter(|(times, _)| *times > 1).count() as u64,
        }
    }
}

/// One process of the probe.
struct Life(Child);

impl Life {
    fn begin(setting: &Setting, log: &Path, failing: Option<&Failing>) -> Self {
        let mut command = setting.command("mailqos-probe");
        command
            .args(["--log-format", "json", "run"])
            .env("RUST_LOG", "warn,mailqos_probe::record=debug")
            .stdout(Stdio::null())
            .stderr(File::create(log).expect("the log"));
        if let Some(failing) = failing {
            command.envs(failing.environment.clone());
        }
        Self(command.spawn().expect("the probe starts"))
    }

    fn kill(&mut self) {
        // It may have ended already because a full disk prevented its start.
        let _ = self.0.kill();
        self.0.wait().expect("the probe is gone");
    }

    fn stop(mut self, log: &Path) {
        signal(self.0.id(), "TERM");
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("the probe's state") {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "the probe does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "the probe ended with {status}:\n{}", text(log));
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes reads and writes of the lake fail.
struct Failing {
    environment: Vec<(&'static str, String)>,
    counted: PathBuf,
}

impl Failing {
    fn new(setting: &Setting, data: &Path, rate: u32) -> Self {
        let counted = setting.path("failures");
        let library = shims::build("failing", &setting.path("")).expect("a library to preload");
        let text = |path: &Path| path.display().to_string();
        let environment = vec![
            ("LD_PRELOAD", text(&library)),
            ("MAILQOS_FAILING_FOLDER", text(data)),
            ("MAILQOS_FAILING_RATE", rate.to_string()),
            ("MAILQOS_FAILING_COUNT", text(&counted)),
        ];
        Self { environment, counted }
    }

    fn count(&self) -> u64 {
        std::fs::metadata(&self.counted).map_or(0, |metadata| metadata.len())
    }
}

/// Opens every day file continuously.
struct Reader {
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 3]>,
    thread: std::thread::JoinHandle<()>,
}

impl Reader {
    fn start(data: PathBuf) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::<[AtomicU64; 3]>::default());
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&counts));
        let thread = std::thread::spawn(move || {
            let [opened, unreadable, doubled] = &*counted;
            while !told.load(Ordering::Relaxed) {
                for file in lake::day_files(&data) {
                    match std::panic::catch_unwind(|| lake::rows_of(&file)) {
                        Ok(rows) => {
                            let keys: BTreeSet<_> = rows
                                .iter()
                                .map(|row| (row.monitor(), row.number("started_at")))
                                .collect();
                            doubled.fetch_add((rows.len() - keys.len()) as u64, Ordering::Relaxed);
                            opened.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => {
                            unreadable.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { stop, counts, thread }
    }

    fn end(self) -> (u64, u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader ends");
        let [opened, unreadable, doubled] = &*self.counts;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (get(opened), get(unreadable), get(doubled))
    }
}

const BALLAST: &str = "ballast";

/// Fills the lake's disk to the last byte.
fn fill(data: &Path) {
    let _ = std::fs::create_dir_all(data);
    let Ok(mut ballast) = File::options().create(true).append(true).open(data.join(BALLAST)) else {
        return;
    };
    let zeros = std::io::repeat(0);
    let mut block = Vec::new();
    let _ = zeros.take(64 * 1024).read_to_end(&mut block);
    for size in [64 * 1024, 4096, 512, 1] {
        while ballast.write_all(&block[..size]).is_ok() {}
    }
}

fn empty(data: &Path) {
    let _ = std::fs::remove_file(data.join(BALLAST));
}
