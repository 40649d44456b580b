//! Phases: the median of each phase, with a bar for each monitor.

use mailqos_charts::{WIDTH, phases};
use mailqos_config::{Problems, Table};
use mailqos_lake_tables::Metric;

use super::{Kind, Section, View, round_trip::stretch, rows_a_chart};
use crate::{
    digest::{Need, Needs},
    document::{Block, ChartBlock},
    facts::Monitor,
};

/// Phases in chronological order, with their metrics. The content is sent during transit, which
/// starts with it. The last phase is grey, so that each has a distinct colour.
const PHASES: [(&str, &[Metric]); 7] = [
    ("SMTP connection", &[Metric::SmtpTcp]),
    ("TLS", &[Metric::SmtpTls]),
    ("SMTP login", &[Metric::SmtpAuth]),
    ("send", &[Metric::SmtpEnvelope]),
    ("transit", &[Metric::RoundTrip]),
    ("pick-up connection and login", &[Metric::PickupConnect, Metric::PickupLogin]),
    ("download", &[Metric::PickupReceive]),
];

#[derive(Debug)]
struct Phases;

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("Where the time goes: connection, login, transit, receive.", &[], read);

fn read(_: &mut Table, _: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Phases))
}

impl Section for Phases {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let rows = view.monitors.iter().map(|monitor| phases::Row {
            name: monitor.name.clone(),
            parts: PHASES.iter().map(|(_, metrics)| sum_of_medians(monitor, metrics)).collect(),
        });
        let rows: Vec<_> = rows.filter(|row| row.parts.iter().any(Option::is_some)).collect();
        rows.chunks(rows_a_chart(rows.len()))
            .map(|rows| {
                let chart = phases::chart(
                    &phases::Phases {
                        title: String::new(),
                        measure: l.t("median").to_owned(),
                        width: WIDTH,
                        period: stretch(&view.facts.passed),
                        phases: PHASES.iter().map(|(name, _)| l.t(name).to_owned()).collect(),
                        rows: rows.to_vec(),
                    },
                    l,
                );
                Block::Chart(ChartBlock { id: view.ids.unique("phases"), chart })
            })
            .collect()
    }

    fn needs(&self, needs: &mut Needs) {
        for metric in PHASES.iter().flat_map(|(_, metrics)| *metrics) {
            needs.add(Need::Figures(*metric));
        }
    }
}

/// Returns the sum of the medians of some metrics; `None` if none has a value.
fn sum_of_medians(monitor: &Monitor, metrics: &[Metric]) -> Option<f64> {
    let medians = metrics.iter().filter_map(|metric| Some(monitor.digest.typical(*metric)?[0]));
    medians.reduce(|sum, median| sum + median)
}
