//! Measures the whole system: one table of injected and survived faults, lost and duplicate samples
//! and reports, touched foreign mails, found secrets, memory and fuzz executions. Every row is
//! counted during the run.
//!
//! ```text
//! cargo run --package mailqos-bench --bin measure                     # some minutes
//! cargo run --package mailqos-bench --bin measure -- --faults 100 --reports 60 --deliveries 50
//! ```
//!
//! With `MAILQOS_REAL_SERVERS` (see `tests/real`) files go to real FTP, SFTP and SMB servers, too.
//! `--fuzzed FILE`, or the variable `MAILQOS_FUZZED`, names a file with a line
//! `fuzz executions: N`.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use mailqos_bench::measure;
use mailqos_tests::binaries;

/// Inject faults everywhere and count losses.
#[derive(Parser)]
struct Arguments {
    /// Faults for each path of the probe.
    #[arg(long, default_value_t = 12)]
    faults: usize,
    /// Scheduled reports, each with a fault, to three targets.
    #[arg(long, default_value_t = 12)]
    reports: usize,
    /// Faults for each target on a real server.
    #[arg(long, default_value_t = 5)]
    deliveries: usize,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File with a line `fuzz executions: N`.
    #[arg(long, env = "MAILQOS_FUZZED")]
    fuzzed: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(code) = binaries::ensure() {
        return code;
    }
    let toll = measure::run(&measure::Plan {
        faults: arguments.faults,
        reports: arguments.reports,
        deliveries: arguments.deliveries,
        seed: arguments.seed,
        fuzzed: arguments.fuzzed,
    })
    .await;
    print!("{toll}");
    for (secret, path) in &toll.search.found {
        eprintln!("{secret:?} is in {}", path.display());
    }
    if toll.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
