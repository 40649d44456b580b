//! The probe's end of the socket.

use std::{
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    sync::{Arc, PoisonError, RwLock},
};

use mailqos_core::{
    config::Config,
    model::{Micros, MonitorId, UtcMicros},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

use super::{MOST_REQUEST, PATIENCE, Request, folder};
use crate::{
    alarm::Alarms,
    maintenance::{Added, Maintenance},
};

/// The parts of a running probe.
pub struct Live {
    /// The configuration in force.
    pub config: RwLock<Arc<Config>>,
    /// States and alarms.
    pub alarms: Alarms,
    /// Windows without alarms.
    pub maintenance: Maintenance,
}

/// Answers commands until it is aborted. That there can be no socket is told, and no reason not to test.
pub async fn serve(live: Arc<Live>) {
    let listener = match listen(&live.config()) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("status, ack and the like will not reach this probe: {error}");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let live = live.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(PATIENCE, converse(stream, &live)).await;
                });
            }
            Err(error) => {
                tracing::warn!("a command can't be taken: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

fn listen(config: &Config) -> std::io::Result<UnixListener> {
    let folder = folder(config);
    if !folder.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
    let path = folder.join("socket");
    // This probe holds the site's lock: whatever lies there is of an earlier life.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)
        .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn converse(stream: UnixStream, live: &Arc<Live>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MOST_REQUEST)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => live
            .answer(request)
            .await
            .unwrap_or_else(|error| json!({ "error": error })),
        Err(error) => {
            json!({ "error": format!("this probe does not understand the command, is it of another version? {error}") })
        }
    };
    write.write_all(answer.to_string().as_bytes()).await?;
    write.shutdown().await
}

impl Live {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn select(&self, patterns: &[String]) -> Result<Vec<MonitorId>, String> {
        let config = self.config();
        let monitors = config
            .select(patterns)
            .map_err(|pattern| format!("{pattern:?} names no monitor"))?;
        Ok(monitors.into_iter().map(|monitor| monitor.id.clone()).collect())
    }

    async fn answer(&self, request: Request) -> Result<Value, String> {
        let now = UtcMicros::now();
        match request {
            Request::Status { monitors } => Err(format!("not yet: {monitors:?}")),
            Request::Ack { monitors, by, note } => {
                let chosen = self.select(&monitors)?;
                let found = self.alarms.acknowledge(&chosen, &by, note.as_deref()).await;
                Ok(json!({ "acknowledged": found }))
            }
            Request::MaintenanceAdd {
                name,
                monitors,
                from,
                to,
                reason,
                by,
                pause,
            } => {
                let from = from.unwrap_or(now);
                let name = name.unwrap_or_else(|| format!("added-{}", from.0 / 1_000_000));
                self.maintenance.add(Added {
                    name: name.clone(),
                    monitors: monitors.clone(),
                    from,
                    to,
                    reason,
                    by: Some(by),
                    pause,
                })?;
                Ok(
                    json!({ "name": name, "from": from.to_string(), "until": to.to_string(), "monitors": self.select(&monitors)?.len() }),
                )
            }
            Request::MaintenanceEnd { name } => {
                self.maintenance.end(&name)?;
                Ok(json!({ "ended": name }))
            }
            Request::MaintenanceList => {
                let rows = self.maintenance.list(now).into_iter();
                let rows = rows.map(|(name, (from, to), monitors, reason, by)| {
                    json!({ "name": name, "from": from.to_string(), "until": to.to_string(), "open": from <= now, "monitors": monitors, "reason": reason, "by": by })
                });
                Ok(Value::Array(rows.collect()))
            }
            Request::Simulate { monitors, lasts, by } => {
                if monitors.is_empty() {
                    return Err("name the monitors that are to count as failed".to_owned());
                }
                let chosen = self.select(&monitors)?;
                self.alarms.simulate(&chosen, Micros(lasts), &by).await;
                Ok(json!({ "simulated": chosen, "until": (now + Micros(lasts)).to_string() }))
            }
            Request::SimulateEnd { monitors } => {
                let chosen = self.select(&monitors)?;
                Ok(json!({ "ended": self.alarms.end_simulation(&chosen).await }))
            }
        }
    }
}
