//! Benchmark of the recorder's files: bytes per sample with five metrics, and the time and memory
//! for sealing a large day.
//!
//! ```text
//! cargo run --release --package mailqos-bench --bin record -- --samples 3000000
//! ```

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use mailqos_lake::{DayReader, DayWriter, LakeError, Merged, day_path};
use mailqos_model::{Micros, Outcome, Sample, SiteName, UtcMicros};
use mailqos_tests::process;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, LogNormal};
use rand_pcg::Pcg64Mcg;

/// Measure bytes per sample, and the cost of a seal.
#[derive(Parser)]
struct Arguments {
    /// Samples of the day.
    #[arg(long, default_value_t = 288_000)]
    samples: i64,
    /// Number of monitors.
    #[arg(long, default_value_t = 1000)]
    monitors: i64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::expect_used, reason = "a benchmark may panic")]
fn run(arguments: &Arguments) -> Result<(), LakeError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let site: SiteName = "here".parse().expect("a name");
    let date = UtcMicros(0).utc_date();
    let path = day_path::<Sample>(folder.path(), &site, date);
    let each = (arguments.samples / arguments.monitors).max(1);
    let interval = 86_400_000_000 / each;
    let begun = Instant::now();
    let mut writer = DayWriter::create(folder.path(), &site, date)?;
    for monitor in 0..arguments.monitors {
        for sample in day(monitor, each, interval) {
            writer.push(sample)?;
        }
    }
    let rows = writer.publish(None)?;
    let written = begun.elapsed();
    let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    println!("samples                {rows:>12}");
    println!("bytes a sample         {:>12.2}", bytes as f64 / rows as f64);
    println!("written in             {:>10.2} s", written.as_secs_f64());
    // One more sample per monitor, as in a seal late in the day.
    let begun = Instant::now();
    let later = (0..arguments.monitors).map(|monitor| {
        let mut sample = Sample::new(name(monitor), UtcMicros(86_399_999_999), Outcome::Ok);
        sample.round_trip = Some(Micros(1_000_000));
        sample
    });
    let mut writer = DayWriter::create(folder.path(), &site, date)?;
    for row in Merged::new(DayReader::<Sample>::open(&path)?.into_iter().flatten(), later) {
        writer.push(row?)?;
    }
    writer.publish(None)?;
    println!("sealed in              {:>10.2} s", begun.elapsed().as_secs_f64());
    let peak = process::peak_memory(std::process::id());
    println!("peak memory            {:>9.1} MB", peak as f64 / 1e6);
    Ok(())
}

#[allow(clippy::expect_used, reason = "the name is made here")]
fn name(monitor: i64) -> mailqos_model::MonitorId {
    format!("monitor-{monitor:05}").parse().expect("a name")
}

/// Generates a day of a monitor: log-normal durations, like those of real servers, started within
/// some milliseconds of their slot.
#[allow(clippy::expect_used, reason = "the parameters are constants")]
fn day(monitor: i64, each: i64, interval: i64) -> impl Iterator<Item = Sample> {
    let mut random = Pcg64Mcg::seed_from_u64(monitor.unsigned_abs());
    let slot = random.random_range(0..interval);
    let medians = [3_000.0, 120_000.0, 4_000.0, 9_000.0, 6_000.0]
        .map(|median: f64| LogNormal::new(median.ln(), 0.3).expect("a distribution"));
    (0..each).map(move |number| {
        let start =
            (slot + number * interval + random.random_range(200..3_000)).min(86_399_000_000);
        let mut sample = Sample::new(name(monitor), UtcMicros(start), Outcome::Ok);
        let mut draw = |index: usize| Some(Micros(medians[index].sample(&mut random) as i64));
        sample.smtp_connect = draw(0);
        sample.smtp_send = draw(1);
        sample.pickup_connect = draw(2);
        sample.pickup_login = draw(3);
        sample.pickup_receive = draw(4);
        sample
    })
}
