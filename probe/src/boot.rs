//! Time since the machine was booted: a monotonic clock that continues while the machine is
//! suspended, and across restarts of the probe.

use mailqos_model::{Micros, UtcMicros};

/// The clock of a boot, related to the wall clock at a given time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Boot {
    /// Identifier of the boot.
    id: String,
    /// Wall-clock time of the boot, as the clock was set at that time.
    began: UtcMicros,
}

impl Boot {
    /// Returns the current state; `None` if the system does not provide it.
    pub fn now() -> Option<Self> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { id: id.trim().to_owned(), began: UtcMicros::now() - since_boot()? })
    }

    /// Returns how long ago the wall clock of this record showed `moment`, however it was set
    /// since; `None` if the machine was booted since.
    pub fn ago(&self, moment: UtcMicros) -> Option<Micros> {
        let now = Self::now().filter(|now| now.id == self.id)?;
        Some((UtcMicros::now() - now.began) - (moment - self.began))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn since_boot() -> Option<Micros> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Some(Micros::from_secs(now.tv_sec) + Micros(now.tv_nsec / 1_000))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn since_boot() -> Option<Micros> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_does_not_matter() {
        let boot = Boot::now().expect("Linux tells");
        let sent = UtcMicros::now() - Micros::from_secs(100);
        let close = |ago: Option<Micros>| {
            (ago.expect("the same boot") - Micros::from_secs(100)).0.abs() < 60_000_000
        };
        assert!(close(boot.ago(sent)));
        // When the mail was sent, the wall clock was an hour ahead.
        let hour = Micros::from_secs(3600);
        let ahead = Boot { began: boot.began + hour, ..boot.clone() };
        assert!(close(ahead.ago(sent + hour)));
        let other = Boot { id: "another boot".to_owned(), ..boot };
        assert_eq!(other.ago(sent), None);
    }
}
