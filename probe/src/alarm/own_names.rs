//! Names of alarms about the probe itself, and their texts.

use mailqos_model::MonitorId;

/// Monitor id of the alarm about the probe's recording.
pub(super) const RECORDER: &str = "mailqos.recorder";
/// Monitor id of the alarm about a probe that can't test.
pub(super) const BLIND: &str = "mailqos.probe";
/// Monitor id of the alarm about credentials that expire.
pub(super) const EXPIRY: &str = "mailqos.credentials";

/// Returns whether this is the name of an alarm about the probe itself.
pub(crate) fn is_own(monitor: &MonitorId) -> bool {
    [RECORDER, BLIND, EXPIRY].contains(&monitor.as_str())
}

/// Returns the texts of such an alarm and of its end.
pub(super) fn words(monitor: &MonitorId) -> Option<(&'static str, &'static str)> {
    match monitor.as_str() {
        RECORDER => Some(("samples can't be stored", "samples are stored again")),
        BLIND => Some(("the probe can't run tests", "the probe runs tests again")),
        EXPIRY => Some(("credentials expire", "the credentials were renewed")),
        _ => None,
    }
}

/// Returns the remedy of such an alarm.
pub(super) fn remedy(monitor: &MonitorId) -> Option<&'static str> {
    match monitor.as_str() {
        RECORDER => Some(
            "Check the folders `data` and `state` of the configuration: free space, permissions, disk health. \
             Tests continue; samples are held in memory until they can be written.",
        ),
        BLIND => Some(
            "Check the probe's network (cable, address, route, DNS, firewall) and its secrets: `mailqos-probe \
             test MONITOR` shows the cause. Until this is fixed, outages go unnoticed.",
        ),
        EXPIRY => Some(
            "Sign in again with `mailqos-probe account login NAME`, or create a new client secret at the provider, \
             update its date in the configuration, and reload. Otherwise tests fail from that day on.",
        ),
        _ => None,
    }
}
