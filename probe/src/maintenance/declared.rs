//! Maintenance that is declared afterwards: a dated event that says of a past period what it was.
//! It changes no sample; analytics shows figures with and without it.

use mailqos_model::{Event, EventKind, MAX_DECLARATION_DELAY, Micros, UtcMicros};
use serde::{Deserialize, Serialize};

use super::Maintenance;

/// Longest declared period.
const MAX_LENGTH: Micros = Micros::from_secs(366 * 86_400);

/// A past period that was declared as maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredPeriod {
    /// Name of the declaration.
    pub name: String,
    /// Selections of monitors; all if empty.
    pub monitors: Vec<String>,
    /// Start of the period.
    pub from: UtcMicros,
    /// End of the period.
    pub to: UtcMicros,
    /// Reason of the maintenance.
    pub reason: String,
    /// Name of the person who declared it.
    pub by: String,
}

impl Maintenance {
    /// Declares a past period as maintenance; it is on disk when this returns. The caller records
    /// the event.
    ///
    /// # Errors
    /// The period is not in the past, is too long or too old, selects nothing, has the name of
    /// another one, or can't be written.
    pub fn declare(&self, period: DeclaredPeriod, now: UtcMicros) -> Result<Event, String> {
        if period.to <= period.from {
            return Err("the period ends before it starts".to_owned());
        }
        if period.to > now {
            return Err(
                "only a past period can be declared; add a maintenance window for the rest"
                    .to_owned(),
            );
        }
        if period.to - period.from > MAX_LENGTH {
            return Err("the period is longer than a year".to_owned());
        }
        if now - period.from > MAX_DECLARATION_DELAY {
            let days = MAX_DECLARATION_DELAY.0 / 86_400_000_000;
            return Err(format!("the period started more than {days} days ago"));
        }
        let mut inner = self.lock();
        let selected = inner
            .config
            .select(&period.monitors)
            .map_err(|pattern| format!("{pattern:?} matches no monitor"))?;
        let ids: Vec<String> = match period.monitors.is_empty() {
            true => Vec::new(),
            false => selected.iter().map(|monitor| monitor.id.to_string()).collect(),
        };
        if inner.kept.declared.iter().any(|known| known.name == period.name) {
            return Err(format!("a declaration named {} already exists", period.name));
        }
        let detail = serde_json::json!({
            "maintenance": period.name,
            "from": period.from.0,
            "to": period.to.0,
            "monitors": ids,
            "reason": period.reason,
        });
        let event = Event {
            actor: Some(period.by.clone()),
            until: Some(period.to),
            detail: Some(detail.to_string()),
            ..Event::new(None, now, EventKind::MaintenanceDeclared)
        }
        .text(format!("{}: {}", period.name, period.reason));
        // Those that no one can withdraw sensibly any more.
        inner.kept.declared.retain(|known| now - known.from <= MAX_LENGTH + MAX_DECLARATION_DELAY);
        inner.kept.declared.push(period);
        let kept = self.keep(&inner.kept);
        if kept.is_err() {
            inner.kept.declared.pop();
        }
        kept.map(|()| event)
    }

    /// Withdraws a declaration. The caller records the event.
    ///
    /// # Errors
    /// There is none of that name, or the change can't be written.
    pub fn withdraw(&self, name: &str, by: &str, now: UtcMicros) -> Result<Event, String> {
        let mut inner = self.lock();
        let Some(index) = inner.kept.declared.iter().position(|known| known.name == name) else {
            return Err(format!("there is no declaration named {name}"));
        };
        let period = inner.kept.declared.remove(index);
        if let Err(error) = self.keep(&inner.kept) {
            inner.kept.declared.insert(index, period);
            return Err(error);
        }
        let detail = serde_json::json!({ "maintenance": name });
        let event = Event {
            actor: Some(by.to_owned()),
            detail: Some(detail.to_string()),
            ..Event::new(None, now, EventKind::MaintenanceWithdrawn)
        };
        Ok(event.text(name))
    }

    /// Forgets a declaration whose event could not be recorded.
    pub fn forget_declared(&self, name: &str) {
        let mut inner = self.lock();
        inner.kept.declared.retain(|known| known.name != name);
        if let Err(error) = self.keep(&inner.kept) {
            tracing::error!(%error, "can't write the maintenance windows");
        }
    }

    /// Returns the declarations that were not withdrawn.
    pub fn declared(&self) -> Vec<DeclaredPeriod> {
        self.lock().kept.declared.clone()
    }
}
