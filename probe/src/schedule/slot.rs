//! Slots of monitors in the test interval, derived from the name alone, so that starts are evenly
//! distributed and stay the same.

use mailqos_config::Monitor;
use mailqos_model::{Micros, SiteName, UtcMicros};
use sha2::{Digest as _, Sha256};

/// Maximum delay of starts after their slots in microseconds. Servers stamp whole seconds, so mails
/// always sent at the same fraction of a second would reveal a server's clock only to that second.
const WANDER: i64 = 1_000_000;

/// Returns the first start of a monitor after `now`.
pub(super) fn next(site: &SiteName, monitor: &Monitor, now: UtcMicros) -> UtcMicros {
    let interval = monitor.test_interval.0.max(1);
    let slot = offset(site.as_str(), monitor.id.as_str(), monitor.test_interval).0;
    let number = (now.0 - slot).div_euclid(interval);
    let start = |number: i64| UtcMicros(number * interval + slot + wander(number, interval));
    let this = start(number);
    if this > now { this } else { start(number + 1) }
}

/// Returns the delay of a start after its slot, which never repeats, with all fractions of a second
/// equally frequent (multiples of the golden ratio; H. Weyl, 1916).
fn wander(number: i64, interval: i64) -> i64 {
    let part = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let most = WANDER.min(interval / 2);
    i64::try_from((u128::from(part) * u128::from(most.unsigned_abs())) >> 64).unwrap_or(0)
}

/// Returns a monitor's position within the interval.
pub(super) fn offset(site: &str, monitor: &str, interval: Micros) -> Micros {
    let digest = Sha256::digest(format!("{site}\n{monitor}"));
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    // The high bits of the product: every position is equally likely, whatever the interval.
    let spread = (u128::from(u64::from_be_bytes(first))
        * u128::from(interval.0.max(1).unsigned_abs()))
        >> 64;
    Micros(i64::try_from(spread).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_slot_is_within_its_interval(id in "[a-z]{1,10}", interval in 1i64..i64::MAX / 4) {
            let slot = offset("site", &id, Micros(interval));
            prop_assert!(slot.0 >= 0 && slot.0 < interval);
            prop_assert_eq!(slot, offset("site", &id, Micros(interval)));
        }
    }

    fn monitor(interval: i64) -> Monitor {
        let text = format!(
            "site = \"here\"\n[account.a]\nuser = \"a\"\npassword = {{ env = \"A\" }}\n[object.o]\naddress = \"o\"\n[monitor.m]\nobject = \"o\"\nfrom = \"a@b.c\"\nto = \"a@b.c\"\ntest_interval = \"{interval}s\"\nsmtp = {{ account = \"a\" }}\npickup = {{ protocol = \"pop3\", account = \"a\" }}\n"
        );
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, text).expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        config.monitors.into_values().next().expect("a monitor")
    }

    #[test]
    fn starts_stay_near_their_slots_and_fall_on_all_parts_of_a_second() {
        let site: SiteName = "here".parse().expect("a name");
        let monitor = monitor(60);
        let mut now = UtcMicros(1_795_456_800_000_000);
        let mut tenths = [0; 10];
        let slot = offset("here", "m", monitor.test_interval).0;
        for _ in 0..100 {
            let start = next(&site, &monitor, now);
            assert!(start > now);
            assert_eq!(next(&site, &monitor, start - Micros(1)), start, "the same after a restart");
            let behind = (start.0 - slot).rem_euclid(60_000_000);
            assert!((0..WANDER).contains(&behind), "{behind}");
            tenths[usize::try_from(behind / 100_000).expect("small")] += 1;
            now = start;
        }
        assert!(tenths.iter().all(|count| (8..=12).contains(count)), "{tenths:?}");
    }

    #[test]
    fn slots_are_evenly_distributed() {
        let mut tenths = [0; 10];
        for number in 0..10_000 {
            let slot = offset("site", &format!("monitor-{number}"), Micros::from_secs(60));
            tenths[usize::try_from(slot.0 / 6_000_000).expect("small")] += 1;
        }
        // Binomial: 1000 ± 30; six standard deviations.
        assert!(tenths.iter().all(|count| (820..1180).contains(count)), "{tenths:?}");
    }
}
