//! Logs warnings about server certificates that are about to expire, once a day each. Monitors can
//! also raise an alarm about it.

use std::{collections::HashMap, sync::Mutex};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::Monitor;
use mailqos_model::{Micros, Sample, Stage, UtcMicros};

/// Remaining validity at which warnings start.
const WARNED: Micros = Micros::from_secs(14 * 86_400);
/// Minimum interval between warnings.
const AGAIN: Micros = Micros::from_secs(86_400);

/// Servers with warnings about their certificates, with the time of the last warning.
#[derive(Debug, Default)]
pub struct Certificates(Mutex<HashMap<String, UtcMicros>>);

impl Certificates {
    /// Checks the certificates seen in a test.
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
            if let Some(warning) = self.warning(&server, expires_at, sample.started_at) {
                tracing::warn!(monitor = %monitor.id, %server, expires_at = %expires_at, "{warning}");
            }
        }
    }

    /// Returns a warning about a server's certificate; `None` if it is valid for long enough, or if
    /// there was one today.
    fn warning(&self, server: &str, expires_at: UtcMicros, now: UtcMicros) -> Option<String> {
        let left = expires_at - now;
        if left >= WARNED {
            return None;
        }
        let mut warned = self.0.lock().ignore_poison();
        // If the clock has since been set back, the day counts as over.
        let lately = |at: &UtcMicros| *at <= now && now - *at < AGAIN;
        if warned.get(server).is_some_and(lately) {
            return None;
        }
        warned.insert(server.to_owned(), now);
        if left < Micros::ZERO {
            return Some("the server's certificate has expired".to_owned());
        }
        let when = match left.0 / 86_400_000_000 {
            0 => "within a day".to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        };
        Some(format!("the server's certificate expires {when}; renew it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_in_time_and_once_a_day() {
        let certificates = Certificates::default();
        let day = 86_400_000_000;
        let warning =
            |expires: i64, now: i64| certificates.warning("a", UtcMicros(expires), UtcMicros(now));
        assert_eq!(warning(20 * day, 0), None);
        assert_eq!(warning(20 * day, 6 * day), None);
        let said = warning(20 * day, 7 * day).expect("a warning");
        assert!(said.contains("in 13 days"), "{said}");
        assert_eq!(warning(20 * day, 8 * day - 1), None);
        for (now, when) in
            [(18 * day, "in 2 days"), (19 * day, "in 1 day;"), (20 * day, "within a day")]
        {
            let said = warning(20 * day, now).expect("a warning");
            assert!(said.contains(when), "{said}");
        }
        let expired = warning(20 * day, 21 * day).expect("a warning");
        assert!(expired.contains("has expired"), "{expired}");
    }
}
