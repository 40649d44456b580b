//! Where the time goes: the median of each phase, a bar for each monitor.

use mailqos_core::config::{Problems, Table};

use super::{Section, View, round_trip::stretch};
use crate::{
    charts::{WIDTH, phases},
    figures::{Metric, percentiles},
    report::document::{Block, ChartBlock},
};

/// The phases in the order in which they happen; six, so that each has a colour of its own.
const PHASES: [(&str, Metric); 6] = [
    ("SMTP connection", Metric::SmtpConnect),
    ("SMTP login", Metric::SmtpAuth),
    ("transit", Metric::RoundTrip),
    ("pick-up connection", Metric::PickupConnect),
    ("mailbox login", Metric::PickupLogin),
    ("receive", Metric::PickupReceive),
];
/// Bars in one chart at most.
const MOST: usize = 40;

#[derive(Debug)]
struct Phases;

pub(super) fn read(_table: &mut Table, _problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Phases))
}

impl Section for Phases {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let rows: Vec<phases::Row> = view
            .monitors
            .iter()
            .map(|monitor| phases::Row {
                name: monitor.name.clone(),
                parts: PHASES
                    .iter()
                    .map(|(_, metric)| {
                        let mut values = monitor.series.values(*metric, monitor.series.inside.clone());
                        (!values.is_empty()).then(|| percentiles(&mut values, &[0.5])[0])
                    })
                    .collect(),
            })
            .filter(|row: &phases::Row| row.parts.iter().any(Option::is_some))
            .collect();
        rows.chunks(MOST)
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
                Block::Chart(ChartBlock {
                    id: view.ids.unique("phases"),
                    chart,
                })
            })
            .collect()
    }
}
