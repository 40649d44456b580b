//! Through which mail servers a mail goes, and in which order.

use std::collections::{BTreeMap, HashSet};

use mailqos_config::{Config, EmailTarget, MailServer};
use mailqos_model::{MonitorId, Name};

use crate::DeliveryError;

/// Mail servers by their names.
pub(super) type Servers<'a> = Vec<(Name, &'a MailServer)>;

/// The servers in the order in which they are tried: those last through which a monitor is in alarm.
pub(super) fn servers<'a>(
    config: &'a Config,
    target: &EmailTarget,
) -> Result<(Servers<'a>, Option<String>), DeliveryError> {
    let mut servers = Vec::new();
    for name in &target.mail_servers {
        let server = config
            .mail_servers
            .get(name)
            .ok_or_else(|| DeliveryError::NoTarget(name.to_string()))?;
        servers.push((name.clone(), server));
    }
    if servers.len() < 2 {
        return Ok((servers, None));
    }
    let failing = failing(config);
    let ill = |server: &MailServer| {
        config.monitors.values().find(|monitor| {
            failing.contains(&monitor.id)
                && monitor.kind.smtp().is_some_and(|smtp| {
                    smtp.port == server.endpoint.port && smtp.server.eq_ignore_ascii_case(&server.endpoint.server)
                })
        })
    };
    let why = servers.first().and_then(|(name, server)| {
        ill(server).map(|monitor| format!("not through {name}: the monitor {} is in alarm", monitor.id))
    });
    let first = servers.first().map(|(name, _)| name.clone());
    servers.sort_by_key(|(_, server)| ill(server).is_some());
    // All of them in alarm: the order is as it was.
    let changed = servers.first().map(|(name, _)| name.clone()) != first;
    Ok((servers, why.filter(|_| changed)))
}

/// The monitors in alarm, as the probe of this machine keeps them; none where there is no probe.
fn failing(config: &Config) -> HashSet<MonitorId> {
    #[derive(serde::Deserialize)]
    struct Kept {
        #[serde(default)]
        states: BTreeMap<MonitorId, State>,
    }
    #[derive(serde::Deserialize)]
    struct State {
        #[serde(default)]
        status: String,
    }
    let file = config.state.join(format!("site={}", config.site)).join("alarms.json");
    let kept: Option<Kept> = std::fs::read(file)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    kept.map(|kept| kept.states)
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, state)| state.status == "alarm")
        .map(|(monitor, _)| monitor)
        .collect()
}
