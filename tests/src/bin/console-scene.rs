//! Runs a console with simulated monitors, to look at its pages: `console-scene MONITORS DAYS PORT`.
//! It prints the one-time link and keeps the status fresh until it is killed.

#![allow(clippy::expect_used)]

use std::{io::Write as _, time::Duration};

use mailqos_tests::console::Scene;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let (monitors, days) = (numbers.next().unwrap_or(48), numbers.next().unwrap_or(3));
    let port = numbers.next().unwrap_or(8025);
    let scene = Scene::new(monitors, i64::try_from(days).expect("days"));
    let server = scene.serve_with(&["--listen", &format!("127.0.0.1:{port}"), "--no-schedule"]);
    let mut out = std::io::stdout();
    writeln!(out, "process {}\nhttp://{}{}", server.id(), server.address, server.welcome())
        .expect("printed");
    out.flush().expect("printed");
    loop {
        std::thread::sleep(Duration::from_secs(5));
        scene.publish(|status| {
            // One monitor's round trip changes all the time.
            if let Some(last) = status.monitors.first_mut().and_then(|first| first.last.as_mut()) {
                last.round_trip_us = Some(last.started_at.as_microsecond() % 3_000_000 + 500_000);
            }
        });
    }
}
