//! Notifications to the service manager (systemd's notification socket): ready, reloading,
//! stopping, and the watchdog.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::task::JoinSet;

use crate::schedule::Board;

fn tell(states: &[NotifyState<'_>]) {
    let name = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    // Without a service manager there is nothing to notify.
    let told = match name.as_encoded_bytes().strip_prefix(b"@") {
        // An abstract socket (unix(7)), as used by containers and older managers; the library
        // supports only paths.
        Some(name) => {
            let lines: Vec<String> =
                states.iter().map(|state| state.to_string().trim().to_owned()).collect();
            notify_abstract(name, &lines.join("\n"))
        }
        None => sd_notify::notify(false, states),
    };
    if let Err(error) = told {
        tracing::warn!(%error, "can't notify the service manager");
    }
}

/// Reports that the probe is ready. From now on, a manager with a watchdog is notified as long as
/// due tests are started: a probe that hangs, or whose scheduler has stopped, counts as dead.
pub(super) fn ready(helpers: &mut JoinSet<()>, board: Arc<Board>) {
    tell(&[NotifyState::Ready]);
    let mut micros = 0;
    if sd_notify::watchdog_enabled(false, &mut micros) {
        // Notify several times within the limit, because a suspension of the probe makes it miss one.
        let limit = Duration::from_micros(micros);
        helpers.spawn(async move {
            let mut well = true;
            loop {
                let alive = board.is_alive(limit / 2);
                if alive {
                    tell(&[NotifyState::Watchdog]);
                } else if well {
                    tracing::error!(
                        "no test has started for too long; watchdog notifications stop"
                    );
                }
                well = alive;
                tokio::time::sleep(limit / 4).await;
            }
        });
    }
}

#[cfg(target_os = "linux")]
fn notify_abstract(name: &[u8], text: &str) -> std::io::Result<()> {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    socket.send(text.as_bytes()).map(|_| ())
}

#[cfg(not(target_os = "linux"))]
fn notify_abstract(_name: &[u8], _text: &str) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Reports that the configuration is being reloaded.
pub(super) fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    let text = format!("MONOTONIC_USEC={micros}");
    tell(&[NotifyState::Reloading, NotifyState::Custom(&text)]);
}

/// Reports that the configuration was reloaded or rejected.
pub(super) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Reports that no more tests are started.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };

    use super::*;

    #[test]
    fn an_abstract_socket_is_notified() {
        let name = format!("mailqos-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let manager = UnixDatagram::bind_addr(&address).expect("a socket");
        let lines = [NotifyState::Ready, NotifyState::Custom("X=1")]
            .map(|state| state.to_string().trim().to_owned());
        notify_abstract(name.as_bytes(), &lines.join("\n")).expect("told");
        let mut space = [0; 64];
        let count = manager.recv(&mut space).expect("a message");
        assert_eq!(&space[..count], b"READY=1\nX=1");
    }
}
