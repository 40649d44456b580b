//! Load benchmark: one probe, thousands of monitors with short intervals, embedded servers on
//! loopback. Prints tests per second, delays of starts, and the probe's processor time and memory,
//! compared with the Nagios plugin `check_email_delivery`, if that is installed.
//!
//! `cargo run --release --package mailqos-bench --bin load`

#![allow(clippy::expect_used)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{Read as _, Write as _},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use mailqos_tests::{
    binaries::{self, binary},
    process as kernel,
    servers::{Delays, MailServer, Options, PASSWORD},
    setting::signal,
};

/// The mailbox of the comparison and its password, which needs no quoting.
const USER: &str = "probe@example.com";
const SIMPLE: &str = "secret";

#[derive(Debug, Parser)]
struct Args {
    /// Number of monitors.
    #[arg(long, default_value_t = 10_000)]
    monitors: usize,
    /// Number of mailboxes.
    #[arg(long, default_value_t = 1_000)]
    mailboxes: usize,
    /// Test interval in seconds.
    #[arg(long, default_value_t = 60)]
    interval: u64,
    /// Warm-up time in seconds: first starts are spread differently.
    #[arg(long, default_value_t = 75)]
    warm_up: u64,
    /// Duration of the measurement in seconds.
    #[arg(long, default_value_t = 120)]
    measure: u64,
}

/// Readings of the probe's metrics and the kernel at a moment.
#[derive(Debug)]
struct Reading {
    at: Instant,
    cpu: f64,
    outcomes: BTreeMap<String, f64>,
    lateness: Vec<(f64, f64)>,
    left_out: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(code) = binaries::ensure() {
        return code;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options {
        users: (0..args.mailboxes).map(|number| (user(number), PASSWORD.to_owned())).collect(),
        delays: Delays::Fixed(Duration::from_millis(20)),
        plaintext_login: true,
        ..Options::default()
    };
    let server = MailServer::start(options).await.expect("the embedded servers");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    std::fs::write(folder.path().join("mailqos.toml"), configuration(&args, &server, port))
        .expect("the configuration");
    let mut probe = Command::new(binary("mailqos-probe"))
        .args(["--config", "mailqos.toml", "run"])
        .current_dir(folder.path())
        .env("PROBE_PASSWORD", PASSWORD)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .spawn()
        .expect("the probe starts");
    tokio::time::sleep(Duration::from_secs(args.warm_up)).await;
    let before = read(probe.id(), port);
    tokio::time::sleep(Duration::from_secs(args.measure)).await;
    let after = read(probe.id(), port);
    let memory = kernel::peak_memory(probe.id()) as f64;
    signal(probe.id(), "TERM");
    let status = probe.wait().expect("the probe ends");

    let seconds = (after.at - before.at).as_secs_f64();
    let count = |outcome: &str| {
        let of = |reading: &Reading| reading.outcomes.get(outcome).copied().unwrap_or(0.0);
        of(&after) - of(&before)
    };
    let all: f64 = after.outcomes.keys().map(|outcome| count(outcome)).sum();
    let late: Vec<(f64, f64)> = after
        .lateness
        .iter()
        .zip(&before.lateness)
        .map(|((bound, after), (_, before))| (*bound, after - before))
        .collect();
    let cpu = after.cpu - before.cpu;
    println!(
        "monitors               {} each {} s on {} mailboxes",
        args.monitors, args.interval, args.mailboxes
    );
    println!("measured               {seconds:.0} s after {} s", args.warm_up);
    println!(
        "tests completed        {all:.0} ({:.1} a second), ok {:.0}",
        all / seconds,
        count("ok")
    );
    println!("skipped                {:.0}", after.left_out - before.left_out);
    println!("start lateness         p50 {}, p99 {}", bound(&late, 0.5), bound(&late, 0.99));
    println!(
        "CPU of the probe       {:.2} s per 1,000 tests ({:.0} % of one core)",
        cpu / all * 1000.0,
        cpu / seconds * 100.0
    );
    println!(
        "peak memory            {:.1} MB, {:.1} KB per monitor",
        memory / 1e6,
        memory / 1e3 / args.monitors as f64
    );
    println!("ended                  {status}");
    let options = Options {
        users: vec![(USER.to_owned(), SIMPLE.to_owned())],
        delays: Delays::Fixed(Duration::from_millis(20)),
        plaintext_login: true,
        smtp_auth_required: false,
        ..Options::default()
    };
    let server = MailServer::start(options).await.expect("the embedded servers");
    let (smtp, imap) = (server.smtp_port(), server.imap_port());
    tokio::task::spawn_blocking(move || compare(smtp, imap)).await.expect("the comparison");
    ExitCode::SUCCESS
}

/// Returns the mailbox with a number.
fn user(number: usize) -> String {
    format!("box{number}@example.com")
}

/// Returns the probe's configuration: all monitors on the embedded servers, metrics on a port.
fn configuration(args: &Args, server: &MailServer, metrics: u16) -> String {
    let mut config = format!(
        "site = \"load\"\ndata = \"data\"\nmetrics = \"127.0.0.1:{metrics}\"\n[defaults]\ntest_interval = \"{}s\"\nmax_round_trip = \"20s\"\ncheck_interval = \"1s\"\n\
         smtp = {{ port = {}, tls = \"none\" }}\npickup = {{ protocol = \"pop3\", port = {}, tls = \"none\" }}\n[object.server]\naddress = \"127.0.0.1\"\n",
        args.interval,
        server.smtp_port(),
        server.pop3_port()
    );
    for number in 0..args.mailboxes {
        let name = user(number);
        writeln!(
            config,
            "[account.a{number}]\nuser = \"{name}\"\npassword = {{ env = \"PROBE_PASSWORD\" }}"
        )
        .expect("text");
    }
    for number in 0..args.monitors {
        let account = number % args.mailboxes;
        let address = user(account);
        writeln!(
            config,
            "[monitor.m{number}]\nobject = \"server\"\nfrom = \"{address}\"\nto = \"{address}\"\nsmtp = {{ account = \"a{account}\" }}\npickup = {{ account = \"a{account}\" }}"
        )
        .expect("text");
    }
    config
}

/// Returns the bound of the histogram that contains this share of the starts.
fn bound(late: &[(f64, f64)], part: f64) -> String {
    let total = late.last().map_or(0.0, |(_, count)| *count);
    let found = late.iter().find(|(_, count)| *count >= total * part);
    found.map_or_else(|| "unknown".to_owned(), |(bound, _)| format!("≤ {:.0} ms", bound * 1000.0))
}

fn read(process: u32, port: u16) -> Reading {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("the metrics");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let mut reading = Reading {
        at: Instant::now(),
        cpu: kernel::processor(process),
        outcomes: BTreeMap::new(),
        lateness: Vec::new(),
        left_out: 0.0,
    };
    for line in text.lines() {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        if let Some(outcome) = name
            .strip_prefix("mailqos_tests_total{")
            .and_then(|rest| rest.split("outcome=\"").nth(1))
        {
            *reading.outcomes.entry(outcome.trim_end_matches("\"}").to_owned()).or_default() +=
                value;
        } else if let Some(bound) = name.strip_prefix("mailqos_start_lateness_seconds_bucket{le=\"")
        {
            let bound = bound.trim_end_matches("\"}").parse().unwrap_or(f64::INFINITY);
            reading.lateness.push((bound, value));
        } else if name == "mailqos_left_out_tests_total" {
            reading.left_out = value;
        }
    }
    reading
}

/// Measures a mail with the Nagios plugin and its two helpers on the same servers; its processor
/// time is that of its processes.
fn compare(smtp: u16, imap: u16) {
    const FOLDER: &str = "/usr/lib/nagios/plugins";
    let plugin = format!("{FOLDER}/check_email_delivery");
    if !std::path::Path::new(&plugin).exists() {
        println!("check_email_delivery   is not installed (Debian: monitoring-plugins-contrib)");
        return;
    }
    let rounds = 10;
    let before = kernel::processor_of_children();
    let begun = Instant::now();
    let mut good = 0;
    for _ in 0..rounds {
        let send = format!(
            "{FOLDER}/check_smtp_send -H 127.0.0.1 -p {smtp} --mailto {USER} --mailfrom {USER} --header 'Subject: %TOKEN1%'"
        );
        let receive = format!(
            "{FOLDER}/check_imap_receive -H 127.0.0.1 -p {imap} -U {USER} -P {SIMPLE} -s SUBJECT -s %TOKEN1% --nodelete"
        );
        let output = Command::new(&plugin)
            .args(["--plugin", &send, "--plugin", &receive, "--wait", "1,1"])
            .output()
            .expect("the plugin starts");
        good += u32::from(output.status.success());
        if !output.status.success() {
            println!(
                "  {}",
                String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default()
            );
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = kernel::processor_of_children() - before;
    println!(
        "check_email_delivery   {good} of {rounds} good, {:.2} s per 1,000 tests, {:.1} s elapsed for each",
        cpu / f64::from(good.max(1)) * 1000.0,
        seconds / f64::from(good.max(1))
    );
}
