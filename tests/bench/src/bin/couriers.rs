//! Measures deliveries: sends files to real servers through faults and prints the results.
//!
//! ```text
//! export MAILQOS_REAL_SERVERS=/tmp/mailqos-real
//! for s in mail ftp share sftp; do tests/real/$s.sh start; done
//! cargo run --package mailqos-bench --bin couriers -- --faults 50
//! ```
//!
//! The destination's disk is filled if it is a separate small file system:
//! `mount -t tmpfs -o size=60m tmpfs FOLDER`.

use std::process::ExitCode;

use clap::Parser;
use mailqos_tests::{binaries, couriers, mail_couriers};

/// Deliver files through faults.
#[derive(Parser)]
struct Arguments {
    /// Targets.
    #[arg(long, value_delimiter = ',', default_values_t = couriers::targets())]
    targets: Vec<String>,
    /// Number of faults per target.
    #[arg(long, default_value_t = 50)]
    faults: usize,
    /// Size of each file in bytes.
    #[arg(long, default_value_t = 20_000_000)]
    size: usize,
    /// Number of reports through mail servers with each of the habits of real ones, in this
    /// process.
    #[arg(long, default_value_t = 3)]
    mail_habits: usize,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(code) = binaries::ensure() {
        return code;
    }
    let mut well = true;
    println!(
        "target                   faults  struck    once   twice    lost  half-visible  claimed but absent"
    );
    for target in arguments.targets {
        let toll = couriers::run(&couriers::Plan {
            target: target.clone(),
            faults: arguments.faults,
            size: arguments.size,
            seed: arguments.seed,
            only: Vec::new(),
        })
        .await;
        let half = toll.half_visible.map_or_else(|| "–".to_owned(), |half| half.to_string());
        println!(
            "{target:<24} {:>6} {:>7} {:>7} {:>7} {:>7} {half:>13} {:>19}",
            arguments.faults, toll.struck, toll.once, toll.twice, toll.lost, toll.claimed
        );
        for words in &toll.words {
            println!("  {words}");
        }
        well &= toll.once == arguments.faults as u64
            && toll.half_visible.unwrap_or(0) == 0
            && toll.claimed == 0;
    }
    if arguments.mail_habits > 0 {
        println!(
            "\nmail through a server with the habit   recipients    once   twice    lost  claimed but absent"
        );
        for habit in mail_couriers::HABITS {
            let count = mail_couriers::run(habit, arguments.mail_habits).await;
            let recipients = count.once + count.twice + count.lost;
            println!(
                "{:<38} {recipients:>10} {:>7} {:>7} {:>7} {:>19}",
                habit.name, count.once, count.twice, count.lost, count.claimed
            );
            well &= count.once == recipients && count.claimed == 0;
        }
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
