//! Maintenance that was declared afterwards: dated events that say of a past period what it was.

use std::{ops::Range, sync::Arc};

use mailqos_model::{Event, EventKind, UtcMicros};
use serde_json::Value;

/// A past period that was declared as maintenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// Site of the probe.
    pub site: Arc<str>,
    /// Name of the declaration.
    pub name: String,
    /// Start of the period.
    pub from: UtcMicros,
    /// End of the period.
    pub to: UtcMicros,
    /// Ids of the monitors; all monitors of the site if empty.
    pub monitors: Vec<String>,
    /// Reason of the maintenance.
    pub reason: Option<String>,
    /// Name of the person who declared it.
    pub by: Option<String>,
    /// Time of the declaration.
    pub at: UtcMicros,
}

impl Declaration {
    /// Returns whether it applies to a monitor.
    pub fn applies_to(&self, site: &str, monitor: &str) -> bool {
        *self.site == *site
            && (self.monitors.is_empty() || self.monitors.iter().any(|known| known == monitor))
    }

    /// Reads an event; `None` if it is not a valid declaration.
    fn of_event(site: &Arc<str>, event: &Event) -> Option<Self> {
        let detail = detail(event);
        let moment = |key: &str| detail[key].as_i64().map(UtcMicros);
        let (from, to) = (moment("from")?, moment("to")?);
        let monitors = detail["monitors"].as_array()?;
        (from < to).then(|| Self {
            site: Arc::clone(site),
            name: detail["maintenance"].as_str().unwrap_or_default().to_owned(),
            from,
            to,
            monitors: monitors.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect(),
            reason: detail["reason"].as_str().map(str::to_owned),
            by: event.actor.clone(),
            at: event.at,
        })
    }
}

fn detail(event: &Event) -> Value {
    event.detail.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Declarations of several sites that have not been withdrawn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declarations(Vec<Declaration>);

impl Declarations {
    /// Adds the declarations in the events of a site, which must be in order.
    pub(crate) fn add(&mut self, site: &Arc<str>, events: &[Event]) {
        for event in events {
            match event.kind {
                EventKind::MaintenanceDeclared => self.0.extend(Declaration::of_event(site, event)),
                EventKind::MaintenanceWithdrawn => {
                    let detail = detail(event);
                    let name = detail["maintenance"].as_str().unwrap_or_default();
                    self.0.retain(|known| known.site != *site || known.name != name);
                }
                _ => {}
            }
        }
    }

    /// Keeps the declarations that overlap a period.
    pub(crate) fn keep(&mut self, period: &Range<UtcMicros>) {
        self.0.retain(|known| known.from < period.end && known.to > period.start);
    }

    /// Returns all declarations, in the order in which they were made.
    pub fn all(&self) -> &[Declaration] {
        &self.0
    }

    /// Returns the declared periods of a monitor.
    pub fn ranges(&self, site: &str, monitor: &str) -> Vec<Range<UtcMicros>> {
        let mine = self.0.iter().filter(|known| known.applies_to(site, monitor));
        mine.map(|known| known.from..known.to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: i64, kind: EventKind, detail: &Value) -> Event {
        Event { detail: Some(detail.to_string()), ..Event::new(None, UtcMicros(at), kind) }
    }

    fn declared(at: i64, name: &str, from: i64, to: i64, monitors: &[&str]) -> Event {
        let detail = serde_json::json!({
            "maintenance": name, "from": from, "to": to, "monitors": monitors, "reason": "disks",
        });
        event(at, EventKind::MaintenanceDeclared, &detail)
    }

    #[test]
    fn a_declaration_holds_until_it_is_withdrawn() {
        let site: Arc<str> = "here".into();
        let mut all = Declarations::default();
        all.add(
            &site,
            &[
                declared(100, "a", 10, 20, &["m"]),
                declared(101, "b", 15, 30, &[]),
                // Not a period.
                declared(102, "c", 30, 30, &[]),
                event(103, EventKind::MaintenanceDeclared, &Value::Null),
                event(
                    104,
                    EventKind::MaintenanceWithdrawn,
                    &serde_json::json!({ "maintenance": "a" }),
                ),
                // Declared again, rightly.
                declared(105, "a", 12, 14, &["m"]),
            ],
        );
        let ranges = |site, monitor| {
            let ranges = all.ranges(site, monitor);
            ranges.into_iter().map(|range| (range.start.0, range.end.0)).collect::<Vec<_>>()
        };
        assert_eq!(ranges("here", "m"), [(15, 30), (12, 14)]);
        assert_eq!(ranges("here", "n"), [(15, 30)]);
        assert_eq!(ranges("there", "m"), []);
        let mut kept = all.clone();
        kept.keep(&(UtcMicros(14)..UtcMicros(15)));
        assert!(kept.all().is_empty(), "neither end overlaps");
        all.keep(&(UtcMicros(13)..UtcMicros(16)));
        assert_eq!(all.all().len(), 2);
    }
}
