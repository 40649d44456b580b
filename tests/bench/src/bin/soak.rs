//! A month in minutes: the real probe and the real `mailqos-analytics schedule` run through
//! simulated days, watched for memory, descriptors and lateness (Linux only).
//!
//! ```text
//! cargo run --package mailqos-bench --bin soak                  # 30 days, some ten minutes
//! cargo run --package mailqos-bench --bin soak -- --days 2      # what runs in CI
//! ```
//!
//! Only the time between tests is simulated. Both programs run with a clock that is advanced
//! (`tests/shims/clock.c`) from the end of one round of tests to just before the next; everything
//! that sleeps meanwhile wakes on time by that clock. During tests, time passes normally: lateness,
//! connections, disk and processor are real, and so is every test. This does not show effects that
//! only a month of real time has: connections that are idle for hours, and the load of other
//! programs.
//!
//! Each night a server is unavailable for an hour, sometimes a mail is lost, and each morning a
//! report is delivered. Between tests the wall clock is set forward and back; every other night the
//! notification channels refuse, for a while or until the outage is over. Each alarm must be
//! reported in order, and closed.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use mailqos_lake::read_day;
use mailqos_model::{Event, EventKind, Micros, UtcMicros};
use mailqos_tests::{
    binaries,
    clock::SetClock,
    hooks::{Hooks, Manner},
    lake, process,
    servers::{Delays, MailServer, Mishap, Options, Protocol, ServerClock, When},
    setting::{Probe, Setting},
};

const DAY: i64 = 86_400_000_000;
/// Time before a round from which on time passes normally.
const BEFORE: Micros = Micros::from_millis(40);
/// A round that takes longer is helped: something waits for a mail that does not arrive.
const HELPED: Duration = Duration::from_millis(1_500);
const HELP: Micros = Micros::from_secs(20);
/// Time within which a clock step is noticed.
const NOTICED: Duration = Duration::from_millis(700);
/// A round that takes longer, in real time, hangs.
const MAX_LENGTH: Duration = Duration::from_secs(120);

/// Simulate days.
#[derive(Parser)]
struct Arguments {
    /// Number of days.
    #[arg(long, default_value_t = 30)]
    days: i64,
    /// Minutes between two rounds of tests; a divisor of 60.
    #[arg(long, default_value_t = 15)]
    every: i64,
    /// Number of monitors tested in each round.
    #[arg(long, default_value_t = 4)]
    monitors: usize,
}

/// Advances time for the programs and the server.
fn put_forward(clock: &mut SetClock, by: Micros, server: &MailServer) {
    clock.put_forward(by);
    server.set_clock(ServerClock::off_by(clock.ahead(), 0.0));
}

/// Results of alarms: how many were raised, and whether each was reported in order and closed where
/// it was opened.
#[derive(Debug, Default)]
struct Alarms {
    raised: usize,
    cleared: usize,
    /// Alarms whose start a channel has accepted.
    told: usize,
    /// Messages out of order: an end without a start, or a duplicate.
    disordered: usize,
    /// Alarms whose start was reported, but not their end.
    left_open: usize,
}

/// Compares the recorded alarms with the messages that the channel accepted.
fn alarms(setting: &Setting, hooks: &Hooks) -> Alarms {
    let mut found = Alarms::default();
    let root = setting.data().join("events/site=soak");
    let days = fs::read_dir(root).into_iter().flatten().flatten();
    for day in days {
        let events = read_day::<Event>(&day.path().join("events.parquet")).unwrap_or_default();
        let count = |kind: EventKind| events.iter().filter(|event| event.kind == kind).count();
        found.raised += count(EventKind::AlarmRaised);
        found.cleared += count(EventKind::AlarmCleared);
    }
    let mut open: BTreeMap<String, bool> = BTreeMap::new();
    for hook in hooks.accepted() {
        let alarms = hook.json()["alarms"].as_array().cloned().unwrap_or_default();
        for alarm in alarms {
            let monitor = alarm["monitor"].as_str().unwrap_or_default().to_owned();
            let is_end = alarm["kind"] == "recovery";
            let before = open.insert(monitor, !is_end).unwrap_or(false);
            found.told += usize::from(!is_end && !before);
            found.disordered += usize::from(before != is_end);
        }
    }
    found.left_open = open.values().filter(|open| **open).count();
    found
}

/// Returns the current memory of a process in bytes, and its open descriptors.
fn watched(program: &Probe) -> (u64, u64) {
    (process::memory(program.id()), process::descriptors(program.id()))
}

/// Selects memory and descriptors of one of the two programs from a reading of both.
type Of = fn(&((u64, u64), (u64, u64))) -> (u64, u64);

/// Returns the number of tests that the probe has logged as ended.
fn tested(log: &Path, place: &mut u64, count: &mut usize) {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut bytes = Vec::new();
    if let Ok(mut file) = fs::File::open(log)
        && file.seek(SeekFrom::Start(*place)).is_ok()
    {
        let _ = file.read_to_end(&mut bytes);
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    *place += whole as u64;
    let text = String::from_utf8_lossy(&bytes[..whole]).into_owned();
    *count += text.lines().filter(|line| line.contains(" tested ")).count();
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(code) = binaries::ensure() {
        return code;
    }
    if run(&arguments).await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::expect_used, reason = "a measurement may panic")]
#[allow(clippy::too_many_lines, reason = "one story, told in its order")]
async fn run(arguments: &Arguments) -> bool {
    let server = MailServer::start(Options {
        delays: Delays::Fixed(Duration::from_millis(10)),
        ..Options::default()
    })
    .await
    .expect("an embedded server");
    let hooks = Hooks::start(Manner::Status(200)).await.expect("a server for webhooks");
    let mut setting = Setting::new("soak");
    for (old, new) in [
        ("seal_interval = \"1s\"", "seal_interval = \"5m\""),
        ("timezone = \"Europe/Stockholm\"", "timezone = \"UTC\""),
        ("max_round_trip = \"3s\"", "max_round_trip = \"60s\""),
        ("check_interval = \"200ms\"", "check_interval = \"100ms\""),
        ("horizon = \"6s\"", "horizon = \"2h\""),
        ("timeout = \"1s\"", "timeout = \"10s\"\nalarm_after = 2\naction_list = \"default\""),
        ("test_interval = \"5s\"\n", ""),
    ] {
        setting.replace(old, new);
    }
    setting.add(&format!(
        "[action_list.default]\nactions = [{{ webhook = {{ url = \"{}\", body = '{{ \"alarms\": {{{{ alarms | json }}}} }}' }} }}]\n\
         [target.shelf]\nkind = \"folder\"\npath = \"shelf\"",
        hooks.url("/hook")
    ));
    for number in 0..arguments.monitors {
        let mut monitor = setting.monitor(&format!("m{number:02}"), &server);
        monitor.more = format!("schedule = \"*/{} * * * *\"", arguments.every);
        setting.add_monitor(&monitor);
    }
    fs::create_dir_all(setting.path("reports")).expect("a folder");
    let definition = "template = \"executive-summary\"\nperiod = \"yesterday\"\nformats = [\"html\"]\n[schedule]\nevery = \"day\"\nat = \"07:00\"\n[[deliver]]\ntarget = \"shelf\"\n";
    fs::write(setting.path("reports/daily.toml"), definition).expect("a definition");
    let mut clock = SetClock::new(&setting.path("")).expect("a library to preload");
    let begin = |name: &str, verb: &str| {
        let mut command = setting.command(name);
        setting.start(clock.give_to(command.arg(verb)))
    };
    let (mut probe, mut analytics) =
        (begin("mailqos-probe", "run"), begin("mailqos-analytics", "schedule"));
    tokio::time::sleep(Duration::from_secs(2)).await;

    let every = Micros::from_secs(arguments.every * 60);
    let first = UtcMicros(((UtcMicros::now().0 + 5_000_000) / every.0 + 1) * every.0);
    let (begun, rounds) = (Instant::now(), arguments.days * DAY / every.0);
    let (log, mut place, mut count) = (setting.path("probe.log"), 0, 0);
    let (mut hung, mut away, mut nights) = (0_u64, false, 0_u64);
    let (mut reports_due, mut steps) = (0_u64, 0_u64);
    let shelf = || fs::read_dir(setting.path("shelf")).map_or(0, Iterator::count) as u64;
    // A new definition owes no earlier runs. What is due before the first round counts.
    let now = UtcMicros::now().0;
    let mut next_report = now.div_euclid(DAY) * DAY + 7 * 3_600_000_000;
    if next_report <= now {
        next_report += DAY;
    }
    println!("   day  tests     probe MB  descriptors  analytics MB  descriptors  reports");
    let mut readings = Vec::new();
    for round in 0..rounds {
        let at = first + Micros(every.0 * round);
        let pause = at - clock.now() - BEFORE;
        put_forward(&mut clock, pause, &server);
        let hour = at.0.rem_euclid(DAY) / 3_600_000_000;
        if (hour == 3) != away {
            away = hour == 3;
            nights += u64::from(away);
            if away {
                server.refuse(Protocol::Smtp);
            } else {
                server.admit(Protocol::Smtp);
            }
        }
        // Every other night the channels are unavailable as well: for half the outage, or all of it
        // and longer.
        let minute = at.0.rem_euclid(DAY) / 60_000_000;
        let refuses = match nights % 4 {
            1 => (180..225).contains(&minute),
            3 => (180..300).contains(&minute),
            _ => false,
        };
        hooks.set(Manner::Status(if refuses { 503 } else { 200 }));
        if round % 97 == 50 {
            server.befall(None, Mishap::Lose, When::Times(1));
        }
        let wanted = (usize::try_from(round).unwrap_or(0) + 1) * arguments.monitors;
        let (round_begun, mut helped) = (Instant::now(), Instant::now());
        while count < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
            tested(&log, &mut place, &mut count);
            if helped.elapsed() > HELPED {
                put_forward(&mut clock, HELP, &server);
                helped = Instant::now();
            }
            if round_begun.elapsed() > MAX_LENGTH || !probe.is_running() {
                hung += 1;
                count = wanted;
            }
        }
        // Between two rounds the wall clock is set: without skipping a test, or back over the last
        // one.
        let step = match round % 9 {
            2 => Some(Micros::from_secs(arguments.every * 20)),
            4 => Some(Micros::from_secs(arguments.every * -20)),
            6 => Some(Micros::from_secs(-45)),
            8 => Some(Micros::from_secs(45)),
            _ => None,
        };
        if let Some(step) = step {
            steps += 1;
            clock.set(step);
            tokio::time::sleep(NOTICED).await;
            clock.set(Micros(-step.0));
            tokio::time::sleep(NOTICED).await;
        }
        if at.0 >= next_report {
            next_report += DAY;
            reports_due += 1;
            let waiting = Instant::now();
            // The outbox is processed every ten seconds.
            while shelf() < reports_due && waiting.elapsed() < MAX_LENGTH && analytics.is_running()
            {
                tokio::time::sleep(Duration::from_millis(700)).await;
                if clock.now().0 < at.0 + every.0 / 2 {
                    put_forward(&mut clock, Micros::from_secs(10), &server);
                }
            }
        }
        let per_day = DAY / every.0;
        if (round + 1) % per_day == 0 {
            let (mine, theirs) = (watched(&probe), watched(&analytics));
            println!(
                "{:>6} {count:>6} {:>12.1} {:>12} {:>13.1} {:>12} {:>8}",
                (round + 1) / per_day,
                mine.0 as f64 / 1e6,
                mine.1,
                theirs.0 as f64 / 1e6,
                theirs.1,
                shelf()
            );
            readings.push((mine, theirs));
        }
    }
    if away {
        server.admit(Protocol::Smtp);
    }
    let took = begun.elapsed();
    let well = probe.stop().success() & analytics.stop().success();

    let rows = setting.rows();
    let mut starts: BTreeMap<(String, i64), u64> = BTreeMap::new();
    let mut lateness = Vec::new();
    for row in &rows {
        let start = row.number("started_at").expect("a start");
        *starts.entry((row.monitor().to_owned(), start.div_euclid(every.0))).or_default() += 1;
        lateness.push(start.rem_euclid(every.0));
    }
    lateness.sort_unstable();
    let expected = u64::try_from(rounds).unwrap_or(0) * arguments.monitors as u64;
    let missing = expected.saturating_sub(starts.len() as u64);
    let doubled = starts.values().filter(|times| **times > 1).count();
    let part = |share: f64| {
        let at = ((lateness.len() as f64 - 1.0).max(0.0) * share) as usize;
        lateness.get(at).copied().unwrap_or(0) as f64 / 1e3
    };
    let told = alarms(&setting, &hooks);
    lake::check(&setting.data());
    println!("simulated              {} days in {:.0} s", arguments.days, took.as_secs_f64());
    println!(
        "tests                  {} of {expected}, missing {missing}, duplicated {doubled}",
        rows.len()
    );
    for outcome in ["ok", "late", "lost", "smtp_failed", "pickup_failed", "not_tested"] {
        let count = rows.iter().filter(|row| row.outcome() == outcome).count();
        println!("  {outcome:<20} {count}");
    }
    println!("rounds that hung       {hung}");
    println!(
        "lateness of starts     p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
        part(0.5),
        part(0.99),
        part(1.0)
    );
    println!("the clock was set      {steps} times forward and back");
    println!(
        "nights with an outage  {nights}: {} alarms raised, {} cleared; {} told, {} messages out of order, {} left open",
        told.raised, told.cleared, told.told, told.disordered, told.left_open
    );
    println!("reports                {} of {reports_due}", shelf());
    // The first day fills caches.
    let growth = |of: Of| {
        let (first, last) = (readings.first().map(of), readings.last().map(of));
        let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
        format!(
            "{:.1} → {:.1} MB, {} → {} descriptors",
            first.0 as f64 / 1e6,
            last.0 as f64 / 1e6,
            first.1,
            last.1
        )
    };
    println!("probe, first and last day      {}", growth(|reading| reading.0));
    println!("analytics, first and last day  {}", growth(|reading| reading.1));
    let leaks = |of: Of| {
        let (Some(first), Some(last)) = (readings.first().map(of), readings.last().map(of)) else {
            return false;
        };
        // Descriptors vary with the current work; leaks grow with each test.
        last.1 > first.1 + 30
    };
    // The first third fills caches. Memory varies, too, but leaks keep growing.
    let third = |of: Of, which: usize| -> f64 {
        let bounds = |n: usize| readings.len() * n / 3;
        let some = &readings[bounds(which)..bounds(which + 1)];
        some.iter().map(|reading| of(reading).0 as f64).sum::<f64>() / some.len().max(1) as f64
    };
    let grows = |of: Of| readings.len() >= 3 && third(of, 2) > 1.5 * third(of, 1);
    well && missing == 0
        && doubled == 0
        && hung == 0
        && shelf() == reports_due
        && (told.raised > 0) == (nights > 0)
        && told.told <= told.raised
        && told.disordered == 0
        && told.left_open <= told.raised - told.cleared
        && !leaks(|reading| reading.0)
        && !leaks(|reading| reading.1)
        && !grows(|reading| reading.0)
        && !grows(|reading| reading.1)
}
