//! The names of alarms about the probe itself, and what people read of them.

use mailqos_model::MonitorId;

/// What the alarm of the probe's own recording goes by.
pub(super) const RECORDER: &str = "mailqos.recorder";
/// What the alarm of a probe that can't test goes by.
pub(super) const BLIND: &str = "mailqos.probe";

/// Whether this is the name of an alarm about the probe itself.
pub(crate) fn is_own(monitor: &MonitorId) -> bool {
    [RECORDER, BLIND].contains(&monitor.as_str())
}

/// What such an alarm is about, and what it is when it is over.
pub(super) fn words(monitor: &MonitorId) -> Option<(&'static str, &'static str)> {
    match monitor.as_str() {
        RECORDER => Some(("samples can't be kept", "samples are kept again")),
        BLIND => Some(("the probe can't test", "the probe tests again")),
        _ => None,
    }
}

/// What to look at when it rises.
pub(super) fn remedy(monitor: &MonitorId) -> Option<&'static str> {
    match monitor.as_str() {
        RECORDER => Some(
            "The folders `data` and `state` of the configuration: free space, permissions, the disk's health. Tests go on, and their \
             samples are held in memory until they can be written.",
        ),
        BLIND => Some(
            "The network of the probe (cable, address, route, DNS, firewall), and the secrets that it needs: `mailqos-probe test MONITOR` \
             shows what hinders a test. Until it is mended, nobody would notice an outage.",
        ),
        _ => None,
    }
}
