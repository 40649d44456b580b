//! Selects the mail servers for a mail and their order.

use std::{collections::HashSet, time::Duration};

use mailqos_config::{Config, DataLocation, EmailTarget, MailServer};
use mailqos_lake::{Status, local_folder};
use mailqos_model::{MonitorId, Name, UtcMicros};

use crate::{DeliveryError, targets::object_store::Store};

/// Mail servers by their names.
pub(super) type Servers<'a> = Vec<(Name, &'a MailServer)>;

/// Returns the servers in the order of attempts. Servers with a monitor in alarm come last.
pub(super) async fn servers<'a>(
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
    let failing = failing(config).await;
    let ill = |server: &MailServer| {
        config.monitors.values().find(|monitor| {
            failing.contains(&monitor.id)
                && monitor.kind.smtp().is_some_and(|smtp| {
                    smtp.port == server.endpoint.port
                        && smtp.server.eq_ignore_ascii_case(&server.endpoint.server)
                })
        })
    };
    let why = servers.first().and_then(|(name, server)| {
        ill(server).map(|monitor| {
            format!("mail server {name} is tried last: the monitor {} is in alarm", monitor.id)
        })
    });
    let first = servers.first().map(|(name, _)| name.clone());
    servers.sort_by_key(|(_, server)| ill(server).is_some());
    // If all of them are in alarm, the order stays.
    let changed = servers.first().map(|(name, _)| name.clone()) != first;
    Ok((servers, why.filter(|_| changed)))
}

/// Deadline for reading the status from an object store.
const STATUS_DEADLINE: Duration = Duration::from_secs(10);

/// Returns the monitors in alarm according to the probe's published status; none if there is no
/// status, or it is stale.
async fn failing(config: &Config) -> HashSet<MonitorId> {
    let status = match status(config).await {
        Ok(Some(status)) if status.is_stale(UtcMicros::now()) => {
            tracing::warn!(
                site = %status.site, written_at = %status.written_at,
                "the probe's status is stale; mail servers are tried in the configured order"
            );
            None
        }
        Ok(status) => status,
        Err(error) => {
            tracing::warn!(%error, "alarm status unreadable; mail servers are tried in the configured order");
            None
        }
    };
    let monitors = status.map(|status| status.monitors).unwrap_or_default().into_iter();
    monitors.filter(|monitor| monitor.alarm.is_some()).map(|monitor| monitor.id).collect()
}

/// Reads the probe's status from this machine if it is current, otherwise from the lake's object
/// store.
async fn status(config: &Config) -> Result<Option<Status>, String> {
    let local =
        Status::read(&local_folder(config), &config.site).map_err(|error| error.to_string());
    let DataLocation::ObjectStore(address) = &config.data else {
        return local;
    };
    if let Ok(Some(status)) = &local
        && !status.is_stale(UtcMicros::now())
    {
        return local;
    }
    let download = async {
        let store = Store::open(config, address, &config.object_store).await;
        let store = store.map_err(|error| error.to_string())?;
        store.status(&config.site).await.map_err(|error| error.to_string())
    };
    let late = |_| Err(format!("{address}: no answer within {} s", STATUS_DEADLINE.as_secs()));
    tokio::time::timeout(STATUS_DEADLINE, download).await.unwrap_or_else(late)
}
