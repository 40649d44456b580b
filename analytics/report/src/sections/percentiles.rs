//! Percentile table: the distribution of a metric per monitor, with the confidence interval of its
//! p95 and with undelivered mail taken into account.

use mailqos_config::{Problems, Table as Toml};
use mailqos_figures::{DeliveredPercentile, Summary};
use mailqos_lake_tables::Metric;

use super::{Kind, METRIC, Scope, Section, View};
use crate::{
    digest::{Need, Needs},
    document::{Block, Cell, Column, Row, Status, Table},
    locale::{DASH, Locale},
};

#[derive(Debug)]
struct Percentiles {
    metric: Metric,
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("The distribution of a metric per monitor.", &[], read).of_metric();

fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Percentiles { metric: table.read(&METRIC.metric, problems) }))
}

/// Returns the display name of a metric.
pub(crate) fn metric_name(metric: Metric, l: &Locale) -> &'static str {
    l.t(match metric {
        Metric::RoundTrip => "Round trip",
        Metric::SmtpConnect => "SMTP connection",
        Metric::SmtpSend => "SMTP send time",
        Metric::PickupConnect => "Pick-up connection",
        Metric::PickupLogin => "Pick-up login",
        Metric::PickupReceive => "Pick-up download",
        Metric::RoundTripError => "Round-trip uncertainty",
        Metric::SmtpTcp => "SMTP: TCP connection",
        Metric::SmtpTls => "SMTP: TLS handshake",
        Metric::SmtpGreeting => "SMTP: greeting",
        Metric::SmtpEhlo => "SMTP: EHLO",
        Metric::SmtpAuth => "SMTP: authentication",
        Metric::SmtpEnvelope => "SMTP: envelope",
        Metric::SmtpData => "SMTP: content",
        Metric::PickupTcp => "Pick-up: TCP connection",
        Metric::PickupTls => "Pick-up: TLS handshake",
        Metric::PickupGreeting => "Pick-up: greeting",
        Metric::PickupList => "Pick-up: listing",
    })
}

/// Index of the percentile whose interval is shown.
const P95: usize = 2;

impl Section for Percentiles {
    fn scope(&self) -> Scope {
        Scope::of(self.metric)
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let figures: Vec<_> = view
            .monitors
            .iter()
            .map(|monitor| {
                let round_trip = self.metric == Metric::RoundTrip;
                let none = (round_trip && monitor.counts.tests() > 0)
                    .then_some(DeliveredPercentile::NotDelivered);
                let found = monitor.digest.figures(self.metric);
                let summary = found.map(|found| &found.distribution.summary);
                let p95 = found
                    .and_then(|found| found.distribution.intervals.get(P95).copied().flatten());
                let delivered = found.and_then(|found| found.delivered);
                (*monitor, summary, p95, delivered.or(none))
            })
            .collect();
        if figures.iter().all(|(_, summary, ..)| summary.is_none()) {
            return Vec::new();
        }
        let medians = figures
            .iter()
            .filter_map(|(_, summary, ..)| *summary)
            .flat_map(|summary| [summary.percentiles[0], summary.percentiles[2]]);
        let (unit, per) = Locale::unit_for(medians);
        let number = |micros: Option<f64>| {
            Cell::number(
                micros.map_or_else(|| DASH.to_owned(), |micros| l.bare(micros, per)),
                micros.map(|micros| micros / per),
            )
        };
        let round_trip = self.metric == Metric::RoundTrip;
        let rows = figures
            .iter()
            .map(|(monitor, summary, p95, delivered)| {
                let of = |pick: fn(&Summary) -> f64| number(summary.map(pick));
                let interval = p95.map_or_else(String::new, |(low, high)| {
                    format!("({}–{})", l.bare(low, per), l.bare(high, per))
                });
                let mut cells = vec![
                    Cell::text(&monitor.name),
                    Cell::number(
                        l.integer(summary.map_or(0, |summary| summary.count)),
                        summary.map(|summary| summary.count as f64),
                    ),
                    of(|summary| summary.min.0 as f64),
                    of(|summary| summary.percentiles[0]),
                    of(|summary| summary.mean),
                    of(|summary| summary.percentiles[1]),
                    of(|summary| summary.percentiles[2]).detail(interval),
                    of(|summary| summary.percentiles[3]),
                    of(|summary| summary.max.0 as f64),
                ];
                if round_trip {
                    cells.push(match delivered {
                        Some(DeliveredPercentile::Within(micros)) => number(Some(*micros)),
                        Some(DeliveredPercentile::NotDelivered) => {
                            Cell::text(l.t("not delivered")).status(Status::Bad)
                        }
                        None => Cell::text(DASH),
                    });
                }
                Row { cells, strong: false }
            })
            .collect();
        let mut columns = vec![
            Column::wide(3, l.t("Monitor")),
            Column::number(l.t("Values"), ""),
            Column::number(l.t("Min"), unit),
            Column::number(l.t("Median"), unit),
            Column::number(l.t("Mean"), unit),
            Column::number("p90", unit),
            Column { width: 3, ..Column::number("p95", unit) },
            Column::number("p99", unit),
            Column::number(l.t("Max"), unit),
        ];
        if round_trip {
            columns.push(Column::number(l.t("p99 of all mails"), unit));
        }
        vec![Block::Table(Table {
            id: view.ids.unique(&format!("percentiles-{}", self.metric)),
            title: l.fill("{0}: distribution", &[metric_name(self.metric, l)]),
            subtitle: if round_trip {
                l.t("Delivered mails only; 95 % confidence interval in brackets; the last column counts lost mails as slower than all others")
                    .to_owned()
            } else {
                l.t("Tests that reached the phase; 95 % confidence interval in brackets").to_owned()
            },
            columns,
            rows,
            note: String::new(),
        })]
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Figures(self.metric));
    }
}
