//! A monitor's slot: its place in the test interval, from its name alone, so that starts are spread evenly and stay where they are.

use mailqos_core::{
    config::Monitor,
    model::{Micros, SiteName, UtcMicros},
};
use sha2::{Digest as _, Sha256};

/// The first start of a monitor after `now`.
pub(super) fn next(site: &SiteName, monitor: &Monitor, now: UtcMicros) -> UtcMicros {
    let interval = monitor.test_interval.0.max(1);
    let slot = offset(site.as_str(), monitor.id.as_str(), monitor.test_interval).0;
    let begun = (now.0 - slot).div_euclid(interval);
    UtcMicros((begun + 1) * interval + slot)
}

/// Where in the interval a monitor starts.
fn offset(site: &str, monitor: &str, interval: Micros) -> Micros {
    let digest = Sha256::digest(format!("{site}\n{monitor}"));
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    // The high bits of the product: every place is equally likely, whatever the interval.
    let spread = (u128::from(u64::from_be_bytes(first)) * u128::from(interval.0.max(1).unsigned_abs())) >> 64;
    Micros(i64::try_from(spread).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_slot_lies_in_its_interval(id in "[a-z]{1,10}", interval in 1i64..i64::MAX / 4) {
            let slot = offset("site", &id, Micros(interval));
            prop_assert!(slot.0 >= 0 && slot.0 < interval);
            prop_assert_eq!(slot, offset("site", &id, Micros(interval)));
        }
    }

    #[test]
    fn slots_are_spread_evenly() {
        let mut tenths = [0; 10];
        for number in 0..10_000 {
            let slot = offset("site", &format!("monitor-{number}"), Micros::from_secs(60));
            tenths[usize::try_from(slot.0 / 6_000_000).expect("small")] += 1;
        }
        // Binomial: 1000 ± 30; six standard deviations.
        assert!(tenths.iter().all(|count| (820..1180).contains(count)), "{tenths:?}");
    }
}
