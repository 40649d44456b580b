//! Runs a console with simulated monitors, to look at its pages: `console-scene MONITORS DAYS PORT
//! [INTERVAL]`. A monitor is tested every INTERVAL seconds (default 300); with 5, every monitor
//! changes with every status. It prints the one-time link and keeps the status fresh until it is
//! killed.

#![allow(clippy::expect_used)]

use std::{io::Write as _, time::Duration};

use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::console::Scene;

/// Time between two tests of a monitor, in seconds, unless another one is given.
const INTERVAL: usize = 300;
/// Time between two published statuses.
const PAUSE: Duration = Duration::from_secs(5);

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let (monitors, days) = (numbers.next().unwrap_or(48), numbers.next().unwrap_or(3));
    let port = numbers.next().unwrap_or(8025);
    let interval = i64::try_from(numbers.next().unwrap_or(INTERVAL)).expect("seconds");
    let scene = Scene::new(monitors, i64::try_from(days).expect("days"));
    let server = scene.serve_with(&["--listen", &format!("127.0.0.1:{port}"), "--no-schedule"]);
    let mut out = std::io::stdout();
    writeln!(out, "process {}\nhttp://{}{}", server.id(), server.address, server.welcome())
        .expect("printed");
    out.flush().expect("printed");
    let begun = UtcMicros::now();
    loop {
        std::thread::sleep(PAUSE);
        let now = UtcMicros::now();
        scene.publish(|status| {
            // As with real probes, only monitors that were tested since then have changed.
            for (number, monitor) in status.monitors.iter_mut().enumerate() {
                let turn = Micros::from_secs(number as i64 % interval);
                let since = (now - begun).0 - turn.0;
                let rounds = since.div_euclid(interval * 1_000_000);
                let at = begun + turn + Micros::from_secs(rounds * interval);
                if let Some(last) = monitor.last.as_mut() {
                    last.started_at = at.timestamp();
                    // A round trip that differs from test to test.
                    last.round_trip_us = last
                        .round_trip_us
                        .map(|time| time + rounds.unsigned_abs() as i64 % 7 * 9_000);
                }
                let is_failing = monitor.failing_since.is_some();
                monitor.last_ok = Some(if is_failing { begun } else { at }.timestamp());
                monitor.next = Some((at + Micros::from_secs(interval)).timestamp());
                monitor.failing_since = monitor.failing_since.map(|_| begun.timestamp());
                if let Some(alarm) = monitor.alarm.as_mut() {
                    (alarm.since, alarm.notified_at) = (begun.timestamp(), Some(begun.timestamp()));
                    if let Some(acknowledged) = alarm.acknowledged.as_mut() {
                        acknowledged.at = begun.timestamp();
                    }
                }
                if let Some(maintenance) = monitor.maintenance.as_mut() {
                    maintenance.until = (begun + Micros::from_secs(86_400)).timestamp();
                }
            }
        });
    }
}
