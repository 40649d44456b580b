//! Figures about deliverability in outputs, in the order of the CSV columns.

use mailqos_figures::{
    Deliverability,
    deliverability::LEGS,
    explain::mail_figure::{MailFigure, status_name},
};
use mailqos_model::Verdict;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::commands::table::Cell;

/// Returns the names of the CSV columns.
pub(super) fn columns() -> impl Iterator<Item = String> {
    MailFigure::all().flat_map(|figure| {
        let name = figure.name();
        let interval = (figure.unit() == "share")
            .then(|| [format!("{name}_low"), format!("{name}_high")])
            .into_iter()
            .flatten();
        std::iter::once(name.to_owned()).chain(interval)
    })
}

/// Returns the cells of [`columns`].
pub(super) fn cells(mails: Option<&Deliverability>, tests: u64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for figure in MailFigure::all() {
        let value = mails.and_then(|mails| figure.value(mails));
        match figure.unit() {
            "share" => {
                let interval = mails.and_then(|mails| figure.interval(mails));
                cells.push(Cell::share(value, tests));
                cells.push(Cell::share(interval.map(|(low, _)| low), tests));
                cells.push(Cell::share(interval.map(|(_, high)| high), tests));
            }
            "" => cells.push(value.map_or(Cell::None, |value| Cell::Count(value as u64))),
            _ => cells.push(Cell::number(value, 1)),
        }
    }
    cells
}

/// Writes deliverability as a JSON object.
pub(super) struct JsonMails<'a>(pub(super) &'a Deliverability);

impl Serialize for JsonMails<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mails = self.0;
        let mut map = serializer.serialize_map(None)?;
        for figure in MailFigure::all() {
            let value = figure.value(mails);
            if figure.unit().is_empty() {
                map.serialize_entry(figure.name(), &value.map(|count| count as u64))?;
            } else {
                map.serialize_entry(figure.name(), &value)?;
            }
            if figure.unit() == "share" {
                let name = format!("{}_interval", figure.name());
                map.serialize_entry(&name, &figure.interval(mails))?;
            }
        }
        for (name, verdicts) in ["spf", "dkim", "dmarc"].into_iter().zip(&mails.verdicts) {
            map.serialize_entry(name, &JsonVerdicts(verdicts))?;
        }
        map.serialize_entry("bounces", &JsonBounces(mails))?;
        for (leg, name) in LEGS.into_iter().enumerate() {
            map.serialize_entry(&format!("{name}_tls"), &JsonConnections(mails, leg))?;
            let expires_at = mails.expires_at(leg).map(|at| at.to_string());
            map.serialize_entry(&format!("{name}_certificate_expires_at"), &expires_at)?;
        }
        map.end()
    }
}

struct JsonVerdicts<'a>(&'a std::collections::BTreeMap<Verdict, u64>);

impl Serialize for JsonVerdicts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(verdict, count)| (verdict.as_str(), count)))
    }
}

struct JsonBounces<'a>(&'a Deliverability);

impl Serialize for JsonBounces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bounces = self.0.bounces.iter();
        serializer.collect_map(bounces.map(|(status, count)| (status_name(*status), count)))
    }
}

struct JsonConnections<'a>(&'a Deliverability, usize);

impl Serialize for JsonConnections<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let connections = self.0.connections[self.1].iter();
        serializer.collect_map(connections.map(|((version, cipher), count)| {
            let cipher = cipher.as_deref().unwrap_or("unknown cipher");
            (format!("{version} {cipher}"), count)
        }))
    }
}
