//! Removes old files from targets by their rules, but only unchanged files that were delivered from
//! this outbox.

use std::collections::BTreeMap;

use mailqos_base::files;
use mailqos_config::{Config, FilesTarget, Target};
use mailqos_model::{Micros, Name, UtcMicros};

use super::{
    files::{OutboxError, failed, replace},
    ledger::{Line, Removal, removable},
    order::is_due,
    store::Outbox,
};
use crate::{DeliveryError, Retry, file_store::Old};

/// Time between two sweeps of a target.
const SWEEP_INTERVAL: Micros = Micros::from_secs(3_600);

/// Removes the files that the targets' rules no longer keep, at each target at most once an hour.
///
/// # Errors
/// The outbox can't be read or written. A target that can't be reached is tried again later.
pub async fn sweep(
    outbox: &Outbox,
    config: &Config,
    now: UtcMicros,
) -> Result<Vec<Removal>, OutboxError> {
    let file = outbox.folder.join("sweeps.json");
    let mut next: BTreeMap<String, i64> = files::read_state(&file)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let before = next.clone();
    let mut removals = Vec::new();
    for (name, target) in &config.targets {
        let Target::Files(files) = target else {
            continue;
        };
        if files.keep.is_none() && files.keep_last.is_none() {
            continue;
        }
        let next_sweep = next.get(name.as_str());
        if next_sweep.is_some_and(|next| !is_due(*next, now, SWEEP_INTERVAL)) {
            continue;
        }
        let Some(_lock) = outbox.lock_target(name.as_str())? else {
            continue;
        };
        next.insert(name.to_string(), (now + SWEEP_INTERVAL).0);
        removals.extend(Sweeper { outbox, config, now }.sweep_target(name, files).await?);
    }
    if next != before
        && let Ok(text) = serde_json::to_vec(&next)
    {
        replace(&file, &text).map_err(failed(&file))?;
    }
    Ok(removals)
}

struct Sweeper<'a> {
    outbox: &'a Outbox,
    config: &'a Config,
    now: UtcMicros,
}

impl Sweeper<'_> {
    async fn sweep_target(
        &self,
        name: &Name,
        files: &FilesTarget,
    ) -> Result<Vec<Removal>, OutboxError> {
        let oldest = files.keep.map(|keep| self.now - keep);
        let mut by_folder: BTreeMap<String, Vec<Old>> = BTreeMap::new();
        for old in removable(&self.outbox.ledger.lines()?, name.as_str(), oldest, files.keep_last) {
            by_folder.entry(old.folder).or_default().push(Old {
                name: old.name,
                size: old.size,
                sha256: old.sha256,
            });
        }
        let mut removals = Vec::new();
        for (folder, old) in by_folder {
            let (swept, end) = crate::sweep(self.config, files, &folder, &old).await;
            for (file, reason) in swept {
                let removal = Removal {
                    removed_at: self.now.to_string(),
                    target: name.to_string(),
                    folder: folder.clone(),
                    name: file,
                    reason,
                };
                self.outbox.ledger.add(&Line::Removed(removal.clone()))?;
                removals.push(removal);
            }
            if let Err(error) = end {
                tracing::warn!(target_name = %name, %error, "old files not removed");
                // A refusal in one folder may not apply to another. After a refused login, no other
                // folder is tried.
                let is_inside =
                    !matches!(error, DeliveryError::Unopened(_) | DeliveryError::Credentials(_));
                if !(is_inside && error.again() == Retry::WhenMended) {
                    break;
                }
            }
        }
        Ok(removals)
    }
}
