//! Benchmark of the recorder: acknowledged samples per second, each on disk before it counts,
//! compared with a file that is synced for every sample on the same disk.
//!
//! ```text
//! cargo run --release --package mailqos-probe --example acknowledge -- [SECONDS] [TESTS AT ONCE]
//! ```

#![allow(clippy::expect_used)]

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use mailqos_model::{Micros, Outcome, Sample, UtcMicros};
use mailqos_probe::record::Recorder;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let lasting = Duration::from_secs(arguments.next().unwrap_or(5));
    let at_once = arguments.next().unwrap_or(256);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mailqos.toml");
    std::fs::write(&path, "site = \"here\"\nseal_interval = \"1h\"\n").expect("a file");
    let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    let recorder = Recorder::open(&config).await.expect("a recorder");

    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..at_once {
        let recorder = recorder.clone();
        tasks.spawn(async move {
            let mut count = 0_u64;
            while begun.elapsed() < lasting {
                recorder.record(sample(task, count)).await.expect("recorded");
                count += 1;
            }
            count
        });
    }
    let count: u64 = tasks.join_all().await.into_iter().sum();
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let sealed = recorder.close().await.expect("sealed");
    let sealing = begun.elapsed().as_secs_f64();

    let mut file = std::fs::File::create(folder.path().join("peer")).expect("a file");
    let (begun, mut alone) = (Instant::now(), 0_u64);
    while begun.elapsed() < lasting {
        let text = serde_json::to_vec(&sample(0, alone)).expect("JSON");
        file.write_all(&text).and_then(|()| file.sync_data()).expect("written");
        alone += 1;
    }
    let alone = alone as f64 / begun.elapsed().as_secs_f64();

    println!("simultaneous tests      {at_once:>12}");
    println!("acknowledged            {count:>12}");
    println!("acknowledged a second   {rate:>12.0}");
    println!("one sync for each       {alone:>12.0} a second");
    println!("ratio                   {:>12.1}", rate / alone);
    println!("sealed                  {:>12} in {sealing:.2} s", sealed.merged);
}

fn sample(task: u64, count: u64) -> Sample {
    let at = UtcMicros(i64::try_from(count).unwrap_or(0) * 1_000);
    let mut sample =
        Sample::new(format!("monitor-{task}").parse().expect("a name"), at, Outcome::Ok);
    let number = i64::try_from(count % 9_000).unwrap_or(0);
    sample.smtp_connect = Some(Micros(3_000 + number));
    sample.smtp_send = Some(Micros(120_000 + number));
    sample.pickup_connect = Some(Micros(4_000 + number));
    sample.pickup_login = Some(Micros(9_000 + number));
    sample.pickup_receive = Some(Micros(6_000 + number));
    sample.round_trip = Some(Micros(200_000 + number));
    sample
}
