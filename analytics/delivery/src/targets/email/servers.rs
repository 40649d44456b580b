//! Through which mail servers a mail goes, and in which order.

use std::collections::HashSet;

use mailqos_config::{Config, DataLocation, EmailTarget, MailServer};
use mailqos_lake::Status;
use mailqos_model::{MonitorId, Name, UtcMicros};

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

/// The monitors in alarm according to the probe's published status; none if there is no probe, or its
/// status is stale.
fn failing(config: &Config) -> HashSet<MonitorId> {
    let data = match &config.data {
        DataLocation::Folder(folder) => folder.clone(),
        DataLocation::ObjectStore(_) => config.state.join("lake"),
    };
    let status = match Status::read(&data, &config.site) {
        Ok(status) => status,
        Err(error) => {
            tracing::warn!(%error, "mail servers are tried in the configured order");
            None
        }
    };
    status
        .filter(|status| !status.is_stale(UtcMicros::now()))
        .map(|status| status.monitors)
        .unwrap_or_default()
        .into_iter()
        .filter(|monitor| monitor.alarm.is_some())
        .map(|monitor| monitor.id)
        .collect()
}
