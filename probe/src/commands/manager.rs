//! What the service manager is told (systemd's notification socket): ready, reloading, stopping, and that the probe is alive.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::task::JoinSet;

use crate::schedule::Board;

fn tell(states: &[NotifyState<'_>]) {
    // Without a manager there is nobody to tell.
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!("the service manager can't be told: {error}");
    }
}

/// The probe tests. A manager that wants to hear that it is alive does from now on, as long as tests that are due are started: a probe
/// that hangs, or whose scheduler has stopped, is not alive.
pub(super) fn ready(helpers: &mut JoinSet<()>, board: Arc<Board>) {
    tell(&[NotifyState::Ready]);
    let mut micros = 0;
    if sd_notify::watchdog_enabled(false, &mut micros) {
        // Several times within the time that it may take: that the probe was suspended for a while makes one of them miss.
        let limit = Duration::from_micros(micros);
        helpers.spawn(async move {
            let mut well = true;
            loop {
                let alive = board.is_alive(limit / 2);
                if alive {
                    tell(&[NotifyState::Watchdog]);
                } else if well {
                    tracing::error!("no test has been started for too long: the service manager is no longer told that the probe is alive");
                }
                well = alive;
                tokio::time::sleep(limit / 4).await;
            }
        });
    }
}

/// The configuration is being read.
pub(super) fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    let text = format!("MONOTONIC_USEC={micros}");
    tell(&[NotifyState::Reloading, NotifyState::Custom(&text)]);
}

/// It has been read, or refused.
pub(super) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// No more tests.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}
