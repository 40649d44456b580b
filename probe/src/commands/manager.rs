//! What the service manager is told (systemd's notification socket): ready, reloading, stopping, and that the probe is alive.

use sd_notify::NotifyState;
use tokio::task::JoinSet;

fn tell(states: &[NotifyState<'_>]) {
    // Without a manager there is nobody to tell.
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!("the service manager can't be told: {error}");
    }
}

/// Tests run. If the manager wants to hear that the probe is alive, it does from now on.
pub(super) fn ready(helpers: &mut JoinSet<()>) {
    tell(&[NotifyState::Ready]);
    let mut micros = 0;
    if sd_notify::watchdog_enabled(false, &mut micros) {
        // Twice in the time that it may take, by a task of the runtime that runs the tests: if that hangs, so does this.
        let pause = std::time::Duration::from_micros(micros / 2);
        helpers.spawn(async move {
            loop {
                tell(&[NotifyState::Watchdog]);
                tokio::time::sleep(pause).await;
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
