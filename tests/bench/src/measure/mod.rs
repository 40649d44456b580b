//! Measures the whole system: faults are injected on every path between the parts while programs
//! are killed, and samples, reports, foreign mails and secrets are counted. All figures are from
//! the run itself.

mod probe;
mod reports;

use std::{fmt, path::PathBuf, time::Duration};

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use mailqos_tests::{
    couriers::{self, Fault},
    proxy::Treatment,
    real::RealServer,
    secrets::{self, Search},
};

/// Time for a path to work again after a fault.
const PATIENCE: Duration = Duration::from_secs(180);

/// Settings of a measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Number of faults on each path of the probe.
    pub faults: usize,
    /// Number of scheduled reports, each with a fault.
    pub reports: usize,
    /// Number of faults for each target on real servers.
    pub deliveries: usize,
    /// Seed of all random numbers.
    pub seed: u64,
    /// File in which the fuzz targets left their number of executions: a line `fuzz executions: N`.
    pub fuzzed: Option<PathBuf>,
}

/// Faults on one path.
#[derive(Debug, Clone, Default)]
pub struct Path {
    /// The parts at its ends.
    pub name: String,
    /// Faults that had an effect: on a connection, or by killing the process.
    pub injected: u64,
    /// Faults after which the path recovered automatically.
    pub survived: u64,
}

/// Results of a measurement.
#[derive(Debug, Clone, Default)]
pub struct Toll {
    /// Results of each path.
    pub paths: Vec<Path>,
    /// Acknowledged samples.
    pub samples: u64,
    /// Acknowledged samples that are missing in the lake.
    pub samples_lost: u64,
    /// Duplicate samples in the lake.
    pub samples_doubled: u64,
    /// How often the probe's clock was set, forward or back.
    pub clock_steps: u64,
    /// Raised alarms.
    pub alarms: u64,
    /// Alarms whose start the webhook has accepted.
    pub alarms_told: u64,
    /// Alarms that were reported after their ends.
    pub alarms_disordered: u64,
    /// Alarms that were reported and have cleared, but were not closed where they were opened.
    pub alarms_left_open: u64,
    /// Due deliveries: each report to each target.
    pub reports: u64,
    /// Deliveries that did not arrive completely.
    pub reports_lost: u64,
    /// Deliveries that arrived more than once.
    pub reports_doubled: u64,
    /// Mails that were sent again because the process was killed before it could record the
    /// server's reply: no mail system can avoid that.
    pub reports_in_doubt: u64,
    /// Foreign mails in the mailboxes of the monitors.
    pub foreign: u64,
    /// Foreign mails that are gone or changed, even by a flag.
    pub foreign_touched: u64,
    /// Planted secrets.
    pub secrets: u64,
    /// Everything that was searched for them.
    pub search: Search,
    /// Peak memory of the probe, in bytes.
    pub probe_memory: u64,
    /// Peak memory of analytics, in bytes.
    pub analytics_memory: u64,
    /// Executions of the fuzz targets; `None` if they did not run.
    pub fuzzed: Option<u64>,
}

impl Toll {
    /// Returns whether nothing forbidden happened, and something was measured.
    pub fn is_good(&self) -> bool {
        let injected = |path: &Path| path.injected > 0 && path.survived == path.injected;
        self.paths.iter().all(injected)
            && self.samples > 0
            && self.reports > 0
            && self.search.files > 0
            && self.search.found.is_empty()
            && [
                self.samples_lost,
                self.samples_doubled,
                self.alarms_disordered,
                self.alarms_left_open,
                self.reports_lost,
                self.reports_doubled,
                self.foreign_touched,
            ] == [0; 7]
    }

    fn add(&mut self, search: Search) {
        self.search.files += search.files;
        self.search.bytes += search.bytes;
        self.search.found.extend(search.found);
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let mut line =
            |name: &str, value: String, of: String| writeln!(f, "{name:<34} {value:>12}  {of}");
        line("faults", "injected".into(), "survived".into())?;
        for path in &self.paths {
            line(
                &format!("  {}", path.name),
                path.injected.to_string(),
                path.survived.to_string(),
            )?;
        }
        let sum = |of: fn(&Path) -> u64| self.paths.iter().map(of).sum::<u64>().to_string();
        line("faults in all", sum(|path| path.injected), sum(|path| path.survived))?;
        let of = |count: u64, what: &str| format!("of {count} {what}");
        let samples = of(self.samples, "acknowledged");
        line("samples lost", self.samples_lost.to_string(), samples.clone())?;
        line("samples doubled", self.samples_doubled.to_string(), samples)?;
        let steps = format!("while the clock was set {} times", self.clock_steps);
        line("alarms raised", self.alarms.to_string(), steps)?;
        line("alarms told", self.alarms_told.to_string(), of(self.alarms, "raised"))?;
        let told = of(self.alarms_told, "told");
        line("alarms told after their recovery", self.alarms_disordered.to_string(), told.clone())?;
        line("alarms not closed where opened", self.alarms_left_open.to_string(), told)?;
        let reports = of(self.reports, "due deliveries");
        line("reports lost", self.reports_lost.to_string(), reports.clone())?;
        line("reports doubled", self.reports_doubled.to_string(), reports)?;
        line(
            "mails sent again in doubt",
            self.reports_in_doubt.to_string(),
            "killed between the server's reply and the disk".to_owned(),
        )?;
        line(
            "foreign mails touched",
            self.foreign_touched.to_string(),
            of(self.foreign, "in the mailboxes"),
        )?;
        line(
            "secrets found in outputs",
            self.search.found.len().to_string(),
            format!(
                "of {} planted, in {} files and mails, {}",
                self.secrets,
                self.search.files,
                megabytes(self.search.bytes)
            ),
        )?;
        line("peak memory of the probe", megabytes(self.probe_memory), String::new())?;
        line("peak memory of analytics", megabytes(self.analytics_memory), String::new())?;
        line(
            "fuzz executions",
            self.fuzzed.map_or_else(|| "not run".into(), |count| count.to_string()),
            String::new(),
        )
    }
}

/// Runs the whole measurement.
///
/// # Panics
/// The setting can't be created, or the probe does not stop cleanly.
pub async fn run(plan: &Plan) -> Toll {
    let (mut toll, reports) = tokio::join!(probe::run(plan), reports::run(plan));
    toll.paths.extend(reports.paths.iter().cloned());
    toll.reports = reports.reports;
    toll.reports_lost = reports.reports_lost;
    toll.reports_doubled = reports.reports_doubled;
    toll.reports_in_doubt = reports.reports_in_doubt;
    toll.analytics_memory = reports.analytics_memory;
    toll.secrets += reports.secrets;
    toll.add(reports.search);
    for target in ["ftp", "sftp", "share"] {
        if plan.deliveries > 0 && RealServer::find(target).is_some() {
            real(plan, target, &mut toll).await;
        }
    }
    let fuzzed = plan.fuzzed.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    toll.fuzzed = fuzzed.and_then(|text| {
        let counts = text.lines().filter_map(|line| line.trim().strip_prefix("fuzz executions:"));
        counts.filter_map(|count| count.trim().parse().ok()).reduce(|a: u64, b| a + b)
    });
    toll
}

/// Delivers files to a real server through faults.
async fn real(plan: &Plan, target: &str, toll: &mut Toll) {
    let counted = couriers::run(&couriers::Plan {
        target: target.to_owned(),
        faults: plan.deliveries,
        size: 300_000,
        seed: plan.seed,
        only: vec![Fault::Cut, Fault::Lossy, Fault::Tiny, Fault::Stalled, Fault::ProcessKilled],
    })
    .await;
    toll.paths.push(Path {
        name: format!("analytics - {target}"),
        injected: counted.struck,
        survived: counted.struck.saturating_sub(counted.lost),
    });
    toll.reports += counted.once + counted.twice + counted.lost;
    toll.reports_lost += counted.lost + counted.half_visible.unwrap_or(0);
    toll.reports_doubled += counted.twice;
}

/// Returns a random treatment; one that can end the connection does so within this many bytes.
fn treatment(random: &mut Pcg64Mcg, within: u64) -> Treatment {
    let none = Treatment::default();
    let bytes = random.random_range(0..within);
    match random.random_range(0..8) {
        0 => Treatment { latency: Duration::from_millis(random.random_range(50..400)), ..none },
        1 => Treatment { loss: random.random_range(10..40), ..none },
        2 => Treatment { drip: Some((random.random_range(1..4), Duration::ZERO)), ..none },
        3 => Treatment { drip: Some((1, Duration::from_millis(20))), ..none },
        4 => Treatment { cut_after_sent: Some(bytes / 2), ..none },
        5 => Treatment { cut_after_received: Some(bytes), ..none },
        6 => Treatment { stall_after: Some(bytes), ..none },
        _ => Treatment { refuse: true, ..none },
    }
}

/// Returns all forms of these secrets.
fn shapes(planted: &[&str], users: &[&str]) -> Vec<String> {
    planted.iter().flat_map(|secret| secrets::shapes(secret, users)).collect()
}
