//! Availability table: counted tests, failures by kind, availability with its confidence interval,
//! delivery rate, downtime and coverage.

use mailqos_config::{Problems, Table as Toml};
use mailqos_figures::Counts;

use super::{Kind, Section, View};
use crate::{
    document::{Block, Cell, Column, Row, Status, Table},
    locale::{DASH, Locale, decimals_for},
};

#[derive(Debug)]
struct Availability;

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("Counts, availability and delivery rate per monitor.", &[], read);

fn read(_: &mut Toml, _: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Availability))
}

impl Section for Availability {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        if view.monitors.is_empty() {
            return Vec::new();
        }
        // All values of a column have the same decimals: the most that any of its monitors
        // supports.
        let has_mails = view.monitors.iter().any(|monitor| monitor.has_mails());
        let decimals = view
            .monitors
            .iter()
            .map(|monitor| decimals_for(monitor.counts.tests()))
            .max()
            .unwrap_or(2);
        let mut rows: Vec<Row> = view
            .monitors
            .iter()
            .map(|monitor| {
                let mut row =
                    row(&monitor.name, &monitor.counts, (monitor.has_mails(), decimals), l);
                row.cells.push(span_cell(monitor.counts.tests() > 0, monitor.timeline.downtime, l));
                let coverage = monitor.timeline.coverage();
                row.cells.push(
                    Cell::number(l.percent_bare(coverage, 1), Some(coverage * 100.0))
                        .status(if coverage < 0.9 { Status::Warn } else { Status::Neutral }),
                );
                row
            })
            .collect();
        if view.monitors.len() > 1 {
            let mut counts = Counts::default();
            let mut downtime = mailqos_model::Micros::ZERO;
            for monitor in &view.monitors {
                counts.add(&monitor.counts);
                downtime = downtime + monitor.timeline.downtime;
            }
            let mut all = row(l.t("All monitors"), &counts, (has_mails, decimals), l);
            all.cells.push(span_cell(counts.tests() > 0, downtime, l));
            all.cells.push(Cell::default());
            all.strong = true;
            rows.push(all);
        }
        vec![Block::Table(Table {
            id: view.ids.unique("availability"),
            title: l.t("Availability by monitor").to_owned(),
            subtitle: l
                .t(if has_mails {
                    "Share of counted tests whose mail arrived within the maximum round trip; 95 % confidence interval in brackets"
                } else {
                    "Share of counted tests that opened and listed the mailbox; 95 % confidence interval in brackets"
                })
                .to_owned(),
            columns: vec![
                Column::wide(3, l.t("Monitor")),
                Column::number(l.t("Tests"), ""),
                Column::number(l.t("Late"), ""),
                Column::number(l.t("Lost"), ""),
                Column::number(l.t("Not sent"), ""),
                Column::number(l.t("Not picked up"), ""),
                Column { width: 3, ..Column::number(l.t("Availability"), "%") },
                Column::number(l.t("Delivered"), "%"),
                Column::measured(l.t("Downtime"), "s"),
                Column::number(l.t("Coverage"), "%"),
            ],
            rows,
            note: declared_note(view),
        })]
    }
}

/// Returns a note with the figures that exclude maintenance declared afterwards; empty if there is
/// none.
fn declared_note(view: &View<'_>) -> String {
    let l = view.locale;
    let of_monitors = view.monitors.iter().filter_map(|monitor| {
        let (counts, downtime) = monitor.excluding_declared.as_ref()?;
        let tests = monitor.counts.tests() - counts.tests();
        (tests > 0).then(|| {
            l.fill(
                "{0}: {1}, downtime {2} ({3} tests excluded)",
                &[
                    &monitor.name,
                    &l.share(counts.ok, counts.tests()),
                    &l.about(*downtime),
                    &l.integer(tests),
                ],
            )
        })
    });
    let lines: Vec<String> = of_monitors.collect();
    if lines.is_empty() {
        return String::new();
    }
    l.fill("Excluding maintenance that was declared afterwards: {0}.", &[&lines.join("; ")])
}

fn row(name: &str, counts: &Counts, (has_mails, decimals): (bool, usize), l: &Locale) -> Row {
    let tests = counts.tests();
    let count = |count: u64| {
        if tests == 0 {
            return Cell::text(DASH);
        }
        let cell = Cell::number(l.integer(count), Some(count as f64));
        if count > 0 { cell.status(Status::Bad) } else { cell }
    };
    // Mailbox tests have no late or lost mails.
    let of_mails = |cell: Cell| if has_mails { cell } else { Cell::text(DASH) };
    let late = Cell {
        status: if counts.late > 0 { Status::Warn } else { Status::Neutral },
        ..count(counts.late)
    };
    Row {
        cells: vec![
            Cell::text(name),
            Cell::number(l.integer(tests), Some(tests as f64)),
            of_mails(late),
            of_mails(count(counts.lost)),
            of_mails(count(counts.smtp_failed)),
            count(counts.pickup_failed),
            availability_cell(counts, decimals, l),
            of_mails(Cell::number(
                l.share_bare(counts.ok + counts.late, tests, decimals),
                counts.delivery_rate().map(|share| share * 100.0),
            )),
        ],
        strong: false,
    }
}

/// Returns a cell with the availability as a percentage, without the percent sign, and its
/// confidence interval.
pub(super) fn availability_cell(counts: &Counts, decimals: usize, l: &Locale) -> Cell {
    let interval = counts.availability_interval().map_or_else(String::new, |share| {
        format!(
            "({}–{})",
            l.number(share.low * 100.0, decimals),
            l.number(share.high * 100.0, decimals)
        )
    });
    Cell::number(
        l.share_bare(counts.ok, counts.tests(), decimals),
        counts.availability().map(|share| share * 100.0),
    )
    .detail(interval)
}

fn span_cell(known: bool, span: mailqos_model::Micros, l: &Locale) -> Cell {
    let text = match (known, span.0) {
        (false, _) => DASH.to_owned(),
        (true, 0) => "0".to_owned(),
        (true, _) => l.about(span),
    };
    Cell::number(text, known.then_some(span.0 as f64 / 1e6))
}
