//! Measures the recorder: kills the real probe at random times, on a sound disk, on one that fails
//! at random, or on one that is sometimes full, and prints the survived kills and the acknowledged,
//! lost and duplicate samples.
//!
//! ```text
//! cargo run --package mailqos-bench --bin crash -- --kills 300
//! cargo run --package mailqos-bench --bin crash -- --kills 300 --failing 20
//! mount -t tmpfs -o size=2m tmpfs /mnt/small && cargo run --package mailqos-bench --bin crash -- --data /mnt/small/data --fill
//! ```

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use mailqos_tests::{binaries, crash};

/// Kill the real probe under load and count lost samples.
#[derive(Parser)]
struct Arguments {
    /// Number of kills.
    #[arg(long, default_value_t = 300)]
    kills: usize,
    /// Seed of the random times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of monitors, each tested every second.
    #[arg(long, default_value_t = 60)]
    monitors: usize,
    /// Maximum lifetime of a process, in milliseconds.
    #[arg(long, default_value_t = 2500)]
    longest: u64,
    /// Folder of the lake [default: a temporary folder].
    #[arg(long)]
    data: Option<PathBuf>,
    /// Fill the disk of the lake now and then; needs --data on a separate small file system.
    #[arg(long, requires = "data")]
    fill: bool,
    /// Reads, writes and syncs of the lake that fail, per thousand, partly or completely (Linux
    /// only).
    #[arg(long, default_value_t = 0, value_name = "PER_MILLE")]
    failing: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(code) = binaries::ensure() {
        return code;
    }
    let toll = crash::run(&crash::Plan {
        kills: arguments.kills,
        seed: arguments.seed,
        monitors: arguments.monitors,
        longest: Duration::from_millis(arguments.longest),
        data: arguments.data,
        fill: arguments.fill,
        failing: arguments.failing,
    })
    .await;
    println!("kills survived        {:>9}", toll.kills);
    println!("  with samples        {:>9}", toll.fruitful);
    println!("times the disk filled {:>9}", toll.filled);
    println!("reads, writes failed  {:>9}", toll.failed);
    println!("samples acknowledged  {:>9}", toll.acknowledged);
    println!("refused for a while   {:>9}", toll.refused);
    println!("in the lake           {:>9}", toll.in_lake);
    println!("lost                  {:>9}", toll.lost);
    println!("doubled               {:>9}", toll.doubled);
    println!("day files opened      {:>9}", toll.opened);
    println!("unreadable            {:>9}", toll.unreadable);
    if toll.lost == 0
        && toll.doubled == 0
        && toll.unreadable == 0
        && toll.acknowledged > 0
        && toll.opened > 0
    {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
