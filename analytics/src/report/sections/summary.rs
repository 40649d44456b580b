//! What mattered, in sentences, each with a small chart beside it.

use mailqos_core::{
    config::{Problems, Table},
    model::Micros,
};

use super::{Section, View};
use crate::{
    charts::{Measure, sparkline},
    figures::{Bucket, Counts, Metric, Unit, percentiles},
    report::{
        document::{Block, ChartBlock, Finding, Span},
        findings::{self, About},
    },
};

/// Up to these lengths of the period a chart has a value an hour, and a day.
const SHORT: Micros = Micros::from_secs(4 * 86_400);
const MEDIUM: Micros = Micros::from_secs(200 * 86_400);
/// Fewer values tell nothing.
const FEWEST: usize = 4;
/// A percentile of fewer values is none.
const FEWEST_TESTS: usize = 8;

#[derive(Debug)]
struct Summary;

pub(super) fn read(_table: &mut Table, _problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Summary))
}

impl Section for Summary {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let findings: Vec<Finding> = findings::sentences(&view.monitors, view.locale)
            .into_iter()
            .map(|sentence| Finding {
                spans: vec![Span::plain(sentence.text)],
                chart: sentence.about.and_then(|about| chart(&about, view)),
            })
            .collect();
        if findings.is_empty() {
            return Vec::new();
        }
        vec![Block::Findings { findings }]
    }
}

fn chart(about: &About<'_>, view: &View<'_>) -> Option<ChartBlock> {
    let (l, period) = (view.locale, &view.facts.passed);
    let (unit, by) = match period.duration() {
        length if length < SHORT => (Unit::Hour, "{0} by hour"),
        length if length < MEDIUM => (Unit::Day, "{0} by day"),
        _ => (Unit::Week, "{0} by week"),
    };
    let buckets = period.buckets(unit);
    let each = |value: &dyn Fn(&Bucket) -> Option<f64>| buckets.iter().map(value).collect::<Vec<_>>();
    let (name, measure, values, at) = match about {
        About::Availability(monitors, at) => {
            let values = each(&|bucket| {
                let mut counts = Counts::default();
                for monitor in monitors {
                    let rows = monitor.series.rows(bucket.start, bucket.end);
                    counts.add(&Counts::of(&monitor.series, rows));
                }
                counts.availability()
            });
            (l.t("availability"), Measure::Share, values, *at)
        }
        About::RoundTrip(monitor, q) => {
            let values = each(&|bucket| {
                let rows = monitor.series.rows(bucket.start, bucket.end);
                let mut trips = monitor.series.values(Metric::RoundTrip, rows);
                (trips.len() >= FEWEST_TESTS).then(|| percentiles(&mut trips, &[*q])[0])
            });
            let name = if *q > 0.5 {
                "95th percentile of the round trip"
            } else {
                "median round trip"
            };
            (l.t(name), Measure::Duration, values, None)
        }
    };
    if values.iter().flatten().count() < FEWEST {
        return None;
    }
    let marked = at.and_then(|at| {
        buckets
            .iter()
            .position(|bucket| (bucket.start..bucket.end).contains(&at))
    });
    let metric = l.fill(by, &[name]);
    Some(ChartBlock {
        id: view.ids.unique("finding"),
        chart: sparkline::chart(
            &sparkline::Sparkline {
                metric,
                measure,
                width: 160,
                height: 36,
                values,
                marked,
            },
            l,
        ),
    })
}
