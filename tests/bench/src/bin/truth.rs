//! Benchmark: how accurate is the stated round trip?
//!
//! The real `mailqos-probe` tests embedded servers that know the true time of each arrival, while
//! their clock is off by 37 s and drifts by 20 ppm, and delays are between 50 ms and 60 s. For POP3
//! and IMAP at several check intervals, with and without announcements (half a second late, like
//! Dovecot's), without extra pick-ups, and in precise mode, it prints the share of true values
//! inside the guaranteed and the calibrated interval (aims: all; 99 %), the median of their full
//! widths (aim: at most 0.7 s for the calibrated one), median and p99 of the absolute error of the
//! estimate, and pick-ups per mail. The first mails of each monitor, from which the server's
//! behaviour is learned, count for the shares but not for widths and errors. It fails if a true
//! value is outside a guaranteed interval, or if more are outside the calibrated ones than chance
//! explains.
//!
//! ```text
//! cargo run --package mailqos-bench --bin truth -- --minutes 15 --monitors 4
//! cargo run --package mailqos-bench --bin truth -- --clocks cluster
//! MAILQOS_REAL_SERVERS=/tmp/real tests/real/mail.sh start
//! MAILQOS_REAL_SERVERS=/tmp/real cargo run --package mailqos-bench --bin truth -- --real --monitors 1
//! ```
//!
//! A monitor has one mail in transit at a time: without extra pick-ups and with a check interval of
//! 60 s, thirty mails take half an hour.

use std::{
    collections::{BTreeMap, HashSet},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::Parser;
use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::{
    binaries,
    lake::Row,
    real::RealServer,
    servers::{Delays, GraphOptions, GraphServer, MailServer, Options, ServerClock},
    setting::{MonitorText, Setting},
    token,
};

/// Measure the accuracy of the stated round trip.
#[derive(Parser)]
struct Arguments {
    /// Duration of the test, in minutes.
    #[arg(long, default_value_t = 15)]
    minutes: u64,
    /// Kinds of monitors (default: all).
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    kinds: Vec<Kind>,
    /// Number of monitors of each kind, each with a separate server.
    #[arg(long, default_value_t = 2)]
    monitors: u64,
    /// Test the real Postfix and Dovecot that tests/real/mail.sh has started, whose mails arrive
    /// within milliseconds.
    #[arg(long)]
    real: bool,
    /// Seed of the delays.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of first mails of each monitor that count neither for widths nor for errors, while
    /// the server is being learned.
    #[arg(long, default_value_t = 30)]
    learning: usize,
    /// Clocks of the embedded servers.
    #[arg(long, value_enum, default_value_t = Clocks::Calm)]
    clocks: Clocks,
}

/// Clocks of the embedded servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Clocks {
    /// One clock with drift.
    Calm,
    /// The machine that stores mails has the same name as the one that accepts them, and is 5 s
    /// behind.
    TwoMachines,
    /// Three machines behind one name store mails.
    Cluster,
    /// The clock is set by up to 5 s, about every two minutes.
    Stepped,
}

impl Clocks {
    fn cluster(self) -> Vec<Micros> {
        match self {
            Self::Calm | Self::Stepped => Vec::new(),
            Self::TwoMachines => vec![Micros::from_secs(-5)],
            Self::Cluster => {
                vec![Micros::ZERO, Micros::from_millis(3_300), Micros::from_millis(-1_700)]
            }
        }
    }
}

/// Name, protocol, further lines of the monitor.
type Kind = (&'static str, &'static str, &'static str);

/// The kinds of monitors.
const KINDS: [Kind; 15] = [
    ("pop3-1s", "pop3", "check_interval = \"1s\""),
    ("pop3-5s", "pop3", "check_interval = \"5s\""),
    ("pop3-15s", "pop3", "check_interval = \"15s\""),
    ("pop3-60s", "pop3", "check_interval = \"60s\""),
    ("pop3-15s-plain", "pop3", "check_interval = \"15s\"\nextra_pickups = 0"),
    ("pop3-precise", "pop3", "check_interval = \"5s\"\nprecise = true"),
    ("imap-5s", "imap", "check_interval = \"5s\""),
    ("imap-15s", "imap", "check_interval = \"15s\""),
    ("imap-15s-unwatched", "imap", "check_interval = \"15s\"\nidle = false"),
    ("imap-60s", "imap", "check_interval = \"60s\""),
    ("imap-5s-unwatched", "imap", "check_interval = \"5s\"\nidle = false"),
    ("imap-60s-unwatched", "imap", "check_interval = \"60s\"\nidle = false"),
    ("imap-precise", "imap", "check_interval = \"5s\"\nprecise = true"),
    ("graph-5s", "graph", "check_interval = \"5s\""),
    ("graph-15s", "graph", "check_interval = \"15s\""),
];

fn kind(name: &str) -> Result<Kind, String> {
    let known = KINDS.iter().find(|(known, ..)| *known == name);
    known.copied().ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|(name, ..)| *name).collect();
        format!("there is no such kind; there are {}", names.join(", "))
    })
}

/// True arrivals by `sent_at`: lower and upper bound.
type Landings = BTreeMap<UtcMicros, (UtcMicros, UtcMicros)>;

/// The file system's clock advances by ticks, so a change may be this much later than it states. It
/// may also be earlier: a Maildir delivery by link and unlink is visible before the unlink sets the
/// time.
const TICK: Micros = Micros::from_millis(10);

/// Where a monitor's mails arrive, and the source of the true time.
enum Mailbox {
    /// With the Graph service on its mailboxes, which lives as long.
    Embedded(MailServer, #[allow(dead_code, reason = "kept running")] Option<GraphServer>),
    Real(Arc<Mutex<Landings>>),
}

impl Mailbox {
    fn landings(&self) -> Landings {
        match self {
            Self::Embedded(server, _) => server
                .landings()
                .iter()
                .filter_map(|landing| {
                    Some((token::find(&landing.content)?.sent_at, (landing.at, landing.at)))
                })
                .collect(),
            Self::Real(landings) => landings.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Checks a Maildir every millisecond; a mail has arrived when its file has its name in `new`.
    /// The file system records the time (`st_ctime`), so it does not matter if a busy machine
    /// delays a check.
    fn real(folder: PathBuf) -> Self {
        let landings = Arc::new(Mutex::new(Landings::new()));
        let noted = landings.clone();
        std::thread::spawn(move || {
            let mut known = HashSet::new();
            let mut scan = UtcMicros::now();
            loop {
                std::thread::sleep(Duration::from_millis(1));
                let scan_before = std::mem::replace(&mut scan, UtcMicros::now());
                for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                    if known.insert(entry.file_name())
                        && let Ok(content) = std::fs::read(entry.path())
                        && let Some(token) = token::find(&content)
                        && let Ok(metadata) = entry.metadata()
                    {
                        let seen = UtcMicros::now();
                        let named =
                            UtcMicros(metadata.ctime() * 1_000_000 + metadata.ctime_nsec() / 1_000);
                        let mut landings = noted.lock().unwrap_or_else(PoisonError::into_inner);
                        let earliest = scan_before.max(UtcMicros(named.0 - TICK.0)).min(seen);
                        landings.insert(token.sent_at, (earliest, seen.min(named + TICK)));
                    }
                }
            }
        });
        Self::Real(landings)
    }
}

/// Starts a monitor with a separate embedded server.
async fn embedded(
    setting: &mut Setting,
    id: &str,
    protocol: &str,
    seed: u64,
    clocks: Clocks,
) -> (MonitorText, Mailbox) {
    let options = Options {
        seed,
        cluster: clocks.cluster(),
        clock: ServerClock::off_by(Micros::from_secs(37), 20.0),
        idle_lag: Duration::from_millis(500),
        delays: Delays::LogNormal {
            median: Duration::from_secs(1),
            sigma: 1.3,
            shortest: Duration::from_millis(50),
            longest: Duration::from_secs(60),
        },
        ..Options::default()
    };
    let server = MailServer::start(options).await.expect("an embedded server");
    let mut monitor = setting.monitor(id, &server);
    if protocol == "imap" {
        let (pop3, imap) = (server.pop3s_port().to_string(), server.imaps_port().to_string());
        monitor.pickup = monitor.pickup.replace("pop3", "imap").replace(&pop3, &imap);
    }
    let mut graph = None;
    if protocol == "graph" {
        let service = GraphServer::start(&server, GraphOptions::default()).await;
        let service = service.expect("an embedded Graph");
        monitor.pickup = setting.add_graph_account(&format!("{id}-m365"), id, &service);
        graph = Some(service);
    }
    (monitor, Mailbox::Embedded(server, graph))
}

/// Returns a monitor with a separate mailbox on the real servers.
fn real(
    setting: &mut Setting,
    mail: &RealServer,
    id: &str,
    protocol: &str,
    user: usize,
) -> (MonitorText, Mailbox) {
    let (account, address) = (format!("truth{user}"), format!("truth{user}@example.com"));
    setting.add(&format!(
        "[account.{account}]\nuser = \"{address}\"\npassword = {{ env = \"PROBE_PASSWORD\" }}"
    ));
    let ca_file = mail.get("CA_FILE");
    let port = mail.port(if protocol == "imap" { "IMAPS_PORT" } else { "POP3S_PORT" });
    let monitor = MonitorText {
        id: id.to_owned(),
        address: "localhost".to_owned(),
        smtp: format!(
            "port = {}, tls = \"starttls\", account = \"{account}\", ca_file = \"{ca_file}\"",
            mail.port("SMTP_PORT")
        ),
        pickup: format!(
            "protocol = \"{protocol}\", port = {port}, tls = \"implicit\", account = \"{account}\", ca_file = \"{ca_file}\""
        ),
        from: address.clone(),
        to: address.clone(),
        more: String::new(),
    };
    let folder = PathBuf::from(mail.get("MAIL_FOLDER")).join(address).join("Maildir/new");
    (monitor, Mailbox::real(folder))
}

/// One sample compared with the truth, in microseconds.
struct Comparison {
    truth: (i64, i64),
    stated: i64,
    error: i64,
    likely: i64,
    pickups: i64,
}

impl Comparison {
    /// Returns by how much the truth is outside an interval around the estimate.
    fn misses(&self, error: i64) -> i64 {
        (self.off() - error).max(0)
    }

    /// Returns the error of the estimate.
    fn off(&self) -> i64 {
        (self.truth.0 - self.stated).max(self.stated - self.truth.1).max(0)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.kinds.is_empty() {
        arguments.kinds = KINDS.to_vec();
    }
    if let Err(code) = binaries::ensure() {
        return code;
    }
    let mut setting = Setting::new("truth");
    setting.replace("test_interval = \"5s\"", "test_interval = \"2s\"");
    setting.replace("max_round_trip = \"3s\"", "max_round_trip = \"90s\"");
    setting.replace("horizon = \"6s\"", "horizon = \"120s\"");
    setting.replace("timeout = \"1s\"", "timeout = \"10s\"");
    let mail = arguments.real.then(|| RealServer::find("mail")).flatten();
    if arguments.real && mail.is_none() {
        return ExitCode::FAILURE;
    }
    let mut servers = BTreeMap::new();
    for &(kind, protocol, more) in &arguments.kinds {
        for number in 0..arguments.monitors {
            let id = format!("{kind}-{number}");
            let (mut monitor, mailbox) = match &mail {
                Some(mail) => real(&mut setting, mail, &id, protocol, servers.len() + 1),
                None => {
                    embedded(
                        &mut setting,
                        &id,
                        protocol,
                        arguments.seed.wrapping_mul(1_000).wrapping_add(number),
                        arguments.clocks,
                    )
                    .await
                }
            };
            monitor.more = more.to_owned();
            setting.add_monitor(&monitor);
            servers.insert(id, mailbox);
        }
    }
    println!("{} monitors, {} minutes …", servers.len(), arguments.minutes);
    let mut probe = setting.start_probe();
    let end = tokio::time::Instant::now() + Duration::from_secs(arguments.minutes * 60);
    let mut round: i64 = 0;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep_until((tokio::time::Instant::now() + Duration::from_secs(30)).min(end))
            .await;
        round += 1;
        if arguments.clocks == Clocks::Stepped {
            step(&servers, round);
        }
    }
    if !probe.is_running() {
        eprintln!("the probe has ended:\n{}", probe.log());
        return ExitCode::FAILURE;
    }
    if !probe.stop().success() {
        return ExitCode::FAILURE;
    }
    let rows = setting.rows();
    println!(
        "{:<18} {:>6} {:>10} {:>10} {:>10} {:>11} {:>11} {:>12} {:>10} {:>8}",
        "kind",
        "mails",
        "guaranteed",
        "worst miss",
        "width",
        "calibrated",
        "width",
        "median error",
        "p99 error",
        "pick-ups"
    );
    let mut as_promised = true;
    for (kind, ..) in arguments.kinds {
        let mut compared = Vec::new();
        let mut all = Vec::new();
        for (id, server) in
            servers.iter().filter(|(id, _)| id.rsplit_once('-').is_some_and(|(of, _)| of == kind))
        {
            let of_monitor: Vec<&Row> = rows.iter().filter(|row| row.monitor() == id).collect();
            let mut comparisons = compare(&of_monitor, &server.landings());
            compared.extend(comparisons.split_off(arguments.learning.min(comparisons.len())));
            all.extend(comparisons);
        }
        let whole = || all.iter().chain(&compared);
        let within = |error: fn(&Comparison) -> i64| {
            whole().filter(|one| one.misses(error(one)) == 0).count()
        };
        let (count, inside) = (whole().count(), within(|one| one.error));
        let worst = whole().map(|one| one.misses(one.error)).max().unwrap_or(0);
        let pickups = whole().map(|one| one.pickups).sum::<i64>() as f64 / (count as f64).max(1.0);
        // No mails at all are not a success.
        let calibrated = within(|one| one.likely);
        as_promised &= inside == count && count > 0 && is_explained(count - calibrated, count);
        let errors = sorted(&compared, Comparison::off);
        let stated = sorted(&compared, |one| 2 * one.error);
        let likely = sorted(&compared, |one| 2 * one.likely);
        println!(
            "{kind:<18} {count:>6} {:>10} {:>10} {:>10} {:>11} {:>11} {:>12} {:>10} {pickups:>8.2}",
            share(inside, count),
            format!("{:.1} ms", worst as f64 / 1_000.0),
            at(&stated, 0.5),
            share(calibrated, count),
            at(&likely, 0.5),
            at(&errors, 0.5),
            at(&errors, 0.99),
        );
    }
    if as_promised { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sets the clocks of some servers by up to five seconds.
fn step(servers: &BTreeMap<String, Mailbox>, round: i64) {
    for (number, mailbox) in (0..).zip(servers.values()) {
        if let Mailbox::Embedded(server, _) = mailbox
            && (round + number) % 4 == 0
        {
            let by = (round * 7 + number * 3) % 11 - 5;
            server.set_clock(ServerClock::off_by(Micros::from_secs(37 + by), 20.0));
        }
    }
}

/// Returns whether chance explains this number of misses if each mail misses with 1 %: three
/// standard deviations.
fn is_explained(misses: usize, count: usize) -> bool {
    let expected = count as f64 / 100.0;
    misses as f64 <= expected + 3.0 * (expected * 0.99).sqrt()
}

/// Compares each sample with the arrival of its mail.
fn compare(rows: &[&Row], landings: &Landings) -> Vec<Comparison> {
    let starts: Vec<UtcMicros> =
        rows.iter().filter_map(|row| row.number("started_at")).map(UtcMicros).collect();
    rows.iter()
        .filter_map(|row| {
            let started = UtcMicros(row.number("started_at")?);
            let next = starts
                .iter()
                .copied()
                .filter(|start| *start > started)
                .min()
                .unwrap_or(UtcMicros(i64::MAX));
            let (sent_at, (from, to)) = landings.range(started..next).next()?;
            Some(Comparison {
                truth: ((*from - *sent_at).0, (*to - *sent_at).0),
                stated: row.number("round_trip_us")?,
                error: row.number("round_trip_error_us")?,
                likely: row.number("round_trip_likely_error_us")?,
                pickups: row.number("pickups").unwrap_or(0),
            })
        })
        .collect()
}

/// Formats a percentage, or a dash.
fn share(part: usize, whole: usize) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    format!("{:.2} %", 100.0 * part as f64 / whole as f64)
}

fn sorted(comparisons: &[Comparison], value: impl Fn(&Comparison) -> i64) -> Vec<i64> {
    let mut values: Vec<i64> = comparisons.iter().map(value).collect();
    values.sort_unstable();
    values
}

/// Formats a quantile in milliseconds, or a dash.
fn at(sorted: &[i64], quantile: f64) -> String {
    let index = (sorted.len().saturating_sub(1) as f64 * quantile).round() as usize;
    sorted
        .get(index)
        .map_or("–".to_owned(), |micros| format!("{:.1} ms", *micros as f64 / 1_000.0))
}
