//! Worst or best monitors by a figure.

use mailqos_config::{
    Problems, Table as Toml,
    key::{Defaulted, Word, key},
    keys, word,
};
use mailqos_model::Micros;

use super::{Kind, Section, View};
use crate::{
    document::{Block, Cell, Column, Row, Span, Table},
    facts::Monitor,
    findings,
    locale::{Locale, decimals_for},
};

/// Minimum reported change of the median; smaller ones round to 0 %.
const MIN_CHANGE: f64 = 0.005;

/// Figure by which monitors are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    Availability,
    Downtime,
    Outages,
    Median,
    P95,
    P99,
    Slower,
}

#[derive(Debug)]
struct Top {
    figure: Figure,
    best: bool,
    limit: usize,
}

const FIGURES: [(&str, Figure); 7] = [
    ("availability", Figure::Availability),
    ("downtime", Figure::Downtime),
    ("outages", Figure::Outages),
    ("median", Figure::Median),
    ("p95", Figure::P95),
    ("p99", Figure::P99),
    ("slower", Figure::Slower),
];

keys! {
    TOP: TopKeys {
        /// The figure by which monitors are ranked.
        figure: Word<Figure> = word!(FIGURES).default("\"availability\"");
        /// Which end of the ranking.
        end: Word<bool> = word!([("worst", false), ("best", true)]).default("\"worst\"");
        /// The maximum number of monitors.
        limit: Defaulted<u32> = key().default("10");
    }
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("The worst or best monitors by one figure.", TopKeys::KEYS, read);

fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let figure = table.read(&TOP.figure, problems);
    let best = table.read(&TOP.end, problems);
    let limit = table.read(&TOP.limit, problems);
    Some(Box::new(Top { figure, best, limit: limit.clamp(1, 1_000) as usize }))
}

impl Figure {
    /// Returns the value of a monitor; `None` if unknown.
    fn of(self, monitor: &Monitor) -> Option<f64> {
        let counts = &monitor.counts;
        // Median, p90, p95 and p99.
        let round_trip = |place: usize| monitor.round_trip.map(|figures| figures[place]);
        match self {
            Self::Availability => counts.availability(),
            Self::Downtime => (counts.tests() > 0).then_some(monitor.timeline.downtime.0 as f64),
            Self::Outages => (counts.tests() > 0).then_some(monitor.timeline.outages.len() as f64),
            Self::Median => round_trip(0),
            Self::P95 => round_trip(2),
            Self::P99 => round_trip(3),
            Self::Slower => {
                let (then, now) = findings::medians(monitor)?;
                (then > 0.0).then(|| now / then - 1.0)
            }
        }
    }

    fn cell(self, monitor: &Monitor, value: f64, decimals: usize, l: &Locale) -> Cell {
        match self {
            Self::Availability => {
                let counts = &monitor.counts;
                Cell::number(l.share_bare(counts.ok, counts.tests(), decimals), Some(value * 100.0))
            }
            Self::Downtime => Cell::number(l.about(Micros(value as i64)), Some(value / 1e6)),
            Self::Outages => Cell::number(l.integer(value as u64), Some(value)),
            Self::Median | Self::P95 | Self::P99 => {
                Cell::number(l.duration(value), Some(value / 1e6))
            }
            Self::Slower => Cell::number(l.change(value), Some(value * 100.0)),
        }
    }

    fn column(self, l: &Locale) -> Column {
        match self {
            Self::Availability => Column::number(l.t("Availability"), "%"),
            Self::Downtime => Column::measured(l.t("Downtime"), "s"),
            Self::Outages => Column::number(l.t("Outages"), ""),
            Self::Median => Column::measured(l.t("Median round trip"), "s"),
            Self::P95 => Column::measured(l.t("95 % within"), "s"),
            Self::P99 => Column::measured(l.t("99 % within"), "s"),
            Self::Slower => Column::measured(l.t("Change in median"), "%"),
        }
    }

    fn title(self, best: bool, l: &Locale) -> &'static str {
        l.t(match (self, best) {
            (Self::Availability, false) => "Lowest availability",
            (Self::Availability, true) => "Highest availability",
            (Self::Downtime, false) => "Longest downtime",
            (Self::Downtime, true) => "Shortest downtime",
            (Self::Outages, false) => "Most outages",
            (Self::Outages, true) => "Fewest outages",
            (Self::Median | Self::P95 | Self::P99, false) => "Slowest",
            (Self::Median | Self::P95 | Self::P99, true) => "Fastest",
            (Self::Slower, false) => "Became slower",
            (Self::Slower, true) => "Became faster",
        })
    }
}

impl Top {
    /// Returns a paragraph in place of a list.
    fn instead(&self, text: &str, l: &Locale) -> Block {
        Block::Paragraph {
            spans: vec![
                Span::strong(format!("{}: ", self.figure.title(self.best, l))),
                Span::plain(text),
            ],
        }
    }
}

impl Section for Top {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let mut ranked: Vec<(&Monitor, f64)> = view
            .monitors
            .iter()
            .filter_map(|monitor| Some((*monitor, self.figure.of(monitor)?)))
            .collect();
        let known = ranked.len();
        let all = view.monitors.len();
        let unranked = match all - known {
            0 => String::new(),
            some => l.count(
                some as u64,
                "The figure is unknown for one monitor.",
                "The figure is unknown for {0} monitors.",
            ),
        };
        if known == 0 {
            return vec![self.instead(
                l.t("no monitor can be ranked, because the figure is unknown for all of them."),
                l,
            )];
        }
        // For availability, higher is better; for all other figures, lower.
        let rising = (self.figure == Figure::Availability) != self.best;
        ranked.sort_by(|(a, a_value), (b, b_value)| {
            let order = a_value.total_cmp(b_value);
            let order = if rising { order } else { order.reverse() };
            order.then_with(|| (&a.id, &a.site).cmp(&(&b.id, &b.site)))
        });
        if self.figure == Figure::Slower {
            // Changes that would be shown as zero don't count.
            ranked.retain(|(_, change)| {
                let change = if self.best { -change } else { *change };
                change >= MIN_CHANGE
            });
        }
        if ranked.is_empty() {
            let text = match (known, all) {
                (1, 1) => l.t("the only monitor did not.").to_owned(),
                (1, _) => l.t("the only monitor with a known figure did not.").to_owned(),
                _ => l.fill("none of {0} monitors.", &[&l.integer(known as u64)]),
            };
            return vec![self.instead(format!("{text} {unranked}").trim_end(), l)];
        }
        ranked.truncate(self.limit);
        let decimals = ranked
            .iter()
            .map(|(monitor, _)| decimals_for(monitor.counts.tests()))
            .max()
            .unwrap_or(2);
        let rows = ranked
            .iter()
            .map(|(monitor, value)| Row {
                cells: vec![
                    Cell::text(&monitor.name),
                    self.figure.cell(monitor, *value, decimals, l),
                    Cell::number(
                        l.integer(monitor.counts.tests()),
                        Some(monitor.counts.tests() as f64),
                    ),
                ],
                strong: false,
            })
            .collect();
        vec![Block::Table(Table {
            id: view.ids.unique("top"),
            title: self.figure.title(self.best, l).to_owned(),
            subtitle: if all == 1 {
                l.t("The only monitor").to_owned()
            } else {
                l.fill(
                    "{0} of {1} monitors",
                    &[&l.integer(ranked.len() as u64), &l.integer(all as u64)],
                )
            },
            columns: vec![
                Column::wide(5, l.t("Monitor")),
                self.figure.column(l),
                Column::number(l.t("Tests"), ""),
            ],
            rows,
            note: unranked,
        })]
    }
}
