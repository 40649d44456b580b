//! Logs warnings about servers' certificates that will expire soon, once a day each. A monitor can
//! be configured to raise an alarm.

use std::{collections::HashMap, sync::Mutex};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::Monitor;
use mailqos_model::{Micros, Sample, Stage, UtcMicros};

/// Remaining validity at which warnings start.
const WARNED: Micros = Micros::from_secs(14 * 86_400);
/// Minimum interval between warnings.
const AGAIN: Micros = Micros::from_secs(86_400);

/// Servers with certificate warnings, and the time of the last warning.
#[derive(Debug, Default)]
pub struct Certificates(Mutex<HashMap<String, UtcMicros>>);

/// A warning about a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warning {
    Expired,
    /// It expires after this number of whole days.
    Expires {
        days: i64,
    },
}

impl Certificates {
    /// Checks the certificates received in a test.
    pub(super) fn look(&self, monitor: &Monitor, sample: &Sample) {
        for (stage, expires_at) in [
            (Stage::SmtpTls, sample.smtp_certificate_expires_at),
            (Stage::PickupTls, sample.pickup_certificate_expires_at),
        ] {
            let Some(expires_at) = expires_at else {
                continue;
            };
            let endpoint = monitor.kind.endpoint(stage);
            let server = format!("{} port {}", endpoint.server, endpoint.port);
            let warning = self.warning(&server, expires_at, sample.started_at);
            let monitor = &monitor.id;
            match warning {
                None => {}
                Some(Warning::Expired) => {
                    tracing::warn!(%monitor, %server, %expires_at, "the server's certificate has expired");
                }
                Some(Warning::Expires { days }) => {
                    tracing::warn!(%monitor, %server, %expires_at, days, "the server's certificate expires soon; renew it");
                }
            }
        }
    }

    /// Returns a warning about a server's certificate; `None` if it is valid for long enough, or if
    /// there was one today.
    fn warning(&self, server: &str, expires_at: UtcMicros, now: UtcMicros) -> Option<Warning> {
        let left = expires_at - now;
        if left >= WARNED {
            return None;
        }
        let mut warned = self.0.lock().ignore_poison();
        // If the clock has been set back since then, a day counts as passed.
        let lately = |at: &UtcMicros| *at <= now && now - *at < AGAIN;
        if warned.get(server).is_some_and(lately) {
            return None;
        }
        warned.insert(server.to_owned(), now);
        if left < Micros::ZERO {
            return Some(Warning::Expired);
        }
        Some(Warning::Expires { days: left.0 / 86_400_000_000 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_causes_a_warning_in_time_and_once_a_day() {
        let certificates = Certificates::default();
        let day = 86_400_000_000;
        let warning =
            |expires: i64, now: i64| certificates.warning("a", UtcMicros(expires), UtcMicros(now));
        assert_eq!(warning(20 * day, 0), None);
        assert_eq!(warning(20 * day, 6 * day), None);
        assert_eq!(warning(20 * day, 7 * day), Some(Warning::Expires { days: 13 }));
        assert_eq!(warning(20 * day, 8 * day - 1), None);
        for days in [2, 1, 0] {
            assert_eq!(warning(20 * day, (20 - days) * day), Some(Warning::Expires { days }));
        }
        assert_eq!(warning(20 * day, 21 * day), Some(Warning::Expired));
    }
}
