//! Time since the machine was booted: a clock that nobody sets, that counts while the machine is suspended,
//! and that goes on when the probe is restarted.

use mailqos_model::{Micros, UtcMicros};

/// The clock of one boot beside the wall clock, at a moment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Boot {
    /// Tells boots apart.
    id: String,
    /// What the wall clock showed when the machine was booted, as it was set at that moment.
    began: UtcMicros,
}

impl Boot {
    /// As it is now; nothing where the system does not tell.
    pub fn now() -> Option<Self> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self {
            id: id.trim().to_owned(),
            began: UtcMicros::now() - since_boot()?,
        })
    }

    /// How long ago it was when the wall clock of this record showed `moment`, however the wall clock was
    /// set since; nothing if the machine was booted since.
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
    fn a_wall_clock_that_was_set_meanwhile_does_not_matter() {
        let boot = Boot::now().expect("Linux tells");
        let sent = UtcMicros::now() - Micros::from_secs(100);
        let close = |ago: Option<Micros>| (ago.expect("the same boot") - Micros::from_secs(100)).0.abs() < 60_000_000;
        assert!(close(boot.ago(sent)));
        // When the mail was sent the wall clock was an hour ahead.
        let hour = Micros::from_secs(3600);
        let ahead = Boot {
            began: boot.began + hour,
            ..boot.clone()
        };
        assert!(close(ahead.ago(sent + hour)));
        let other = Boot {
            id: "another boot".to_owned(),
            ..boot
        };
        assert_eq!(other.ago(sent), None);
    }
}
