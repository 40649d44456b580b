//! The measure of the recorder: kills the real probe at random moments, on a sound disk, on one
//! that fails at random, or on one that is full now and then, and prints kills survived and samples
//! acknowledged, lost and doubled.
//!
//! ```text
//! cargo run --package mailqos-bench --bin crash -- --kills 300
//! cargo run --package mailqos-bench --bin crash -- --kills 300 --failing 20
//! mount -t tmpfs -o size=2m tmpfs /mnt/small && cargo run --package mailqos-bench --bin crash -- --data /mnt/small/data --fill
//! ```

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use mailqos_tests::{binaries, crash};

/// Kills the real probe under load and counts what is lost.
#[derive(Parser)]
struct Arguments {
    /// How often the probe is killed.
    #[arg(long, default_value_t = 300)]
    kills: usize,
    /// What the moments are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many monitors are tested each second.
    #[arg(long, default_value_t = 60)]
    monitors: usize,
    /// The longest life, in milliseconds.
    #[arg(long, default_value_t = 2500)]
    longest: u64,
    /// Where the lake is [default: a temporary folder].
    #[arg(long)]
    data: Option<PathBuf>,
    /// Fill the disk of the lake now and then; needs --data on a small file system of its own.
    #[arg(long, requires = "data")]
    fill: bool,
    /// Of a thousand reads, writes and syncs of the lake so many fail, torn or whole (Linux only).
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
