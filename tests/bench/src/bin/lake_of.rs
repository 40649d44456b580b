//! Writes a large lake for benchmarks: a year of tests every five minutes, in the recorder's day
//! files.
//!
//! ```text
//! cargo run --release --package mailqos-bench --bin lake_of -- --samples 21 --data /tmp/lake-21
//! ```
//!
//! `tests/bench/speed.py` measures `stats` on it.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicI64, Ordering},
};

use clap::Parser;
use mailqos_lake::{DayWriter, LakeError};
use mailqos_model::{Micros, MonitorId, Outcome, Sample, SiteName, Stage, UtcMicros};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

/// Days from 2025-01-01 on.
const DAYS: i64 = 365;
const FIRST: UtcMicros = UtcMicros(1_735_689_600_000_000);
const A_DAY: i64 = 288;

/// Write a large lake.
#[derive(Parser)]
struct Arguments {
    /// Approximate number of samples in millions: 105 are a year of 1,000 monitors.
    #[arg(long, default_value_t = 2.0)]
    samples: f64,
    /// Folder of the lake, which must not exist.
    #[arg(long)]
    data: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.data.exists() {
        eprintln!("{} is there already", arguments.data.display());
        return ExitCode::from(2);
    }
    let monitors = ((arguments.samples * 1e6 / (DAYS * A_DAY) as f64).round() as i64).max(1);
    let next = AtomicI64::new(0);
    let written = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..std::thread::available_parallelism().map_or(1, usize::from))
            .map(|_| {
                scope.spawn(|| {
                    let mut rows = 0;
                    loop {
                        let day = next.fetch_add(1, Ordering::Relaxed);
                        if day >= DAYS {
                            return Ok::<u64, LakeError>(rows);
                        }
                        rows += write(&arguments, day, monitors)?;
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker does not panic"))
            .sum::<Result<u64, LakeError>>()
    });
    match written {
        Ok(rows) => {
            println!("{rows} samples of {monitors} monitors");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &Arguments, day: i64, monitors: i64) -> Result<u64, LakeError> {
    let site: SiteName = "here".parse().expect("a name");
    let begin = FIRST + Micros::from_secs(day * 86_400);
    let mut random = Pcg64Mcg::seed_from_u64(day as u64);
    let mut file = DayWriter::create(&arguments.data, &site, begin.utc_date())?;
    for number in 0..monitors {
        let monitor: MonitorId = format!("mail-{number:04}.example").parse().expect("an id");
        let pace = 0.6 + (number % 17) as f64 / 10.0;
        for test in 0..A_DAY {
            let jitter = Micros(random.random_range(0..9_000));
            let started = begin + Micros::from_secs(test * 300 + number % 300) + jitter;
            file.push(sample(&monitor, started, pace, &mut random))?;
        }
    }
    file.publish(None)
}

/// Returns a duration whose logarithm is roughly uniform around a middle: cheap to draw, and
/// similar to real networks.
fn about(random: &mut Pcg64Mcg, milliseconds: f64) -> Option<Micros> {
    let sum: f64 = (0..4).map(|_| random.random::<f64>()).sum::<f64>() - 2.0;
    Some(Micros((milliseconds * 1_000.0 * (0.8 * sum).exp()) as i64))
}

fn sample(monitor: &MonitorId, started: UtcMicros, pace: f64, random: &mut Pcg64Mcg) -> Sample {
    let mut sample = Sample::new(monitor.clone(), started, Outcome::Ok);
    sample.test_interval = Some(Micros::from_secs(300));
    sample.max_round_trip = Some(Micros::from_secs(30));
    sample.settled = Some(true);
    let fate: f64 = random.random();
    if fate < 0.001 {
        sample.outcome = Outcome::SmtpFailed;
        sample.stage = Some(Stage::SmtpConnect);
        sample.error = Some("connection refused".to_owned());
        return sample;
    }
    sample.smtp_connect = about(random, 25.0 * pace);
    sample.smtp_send = about(random, 180.0 * pace);
    sample.pickup_connect = about(random, 35.0 * pace);
    sample.pickup_login = about(random, 60.0 * pace);
    if fate < 0.002 {
        sample.outcome = Outcome::Lost;
        return sample;
    }
    sample.pickup_receive = about(random, 18.0 * pace);
    sample.round_trip = about(random, 2_400.0 * pace);
    sample.round_trip_error = about(random, 120.0);
    if fate < 0.004 {
        sample.outcome = Outcome::Late;
        sample.round_trip = about(random, 240_000.0);
    } else if fate < 0.004_2 {
        sample.outcome = Outcome::NotTested;
    }
    sample
}
