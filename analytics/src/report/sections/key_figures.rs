//! Key figures: availability, round trip, outages and coverage, large, each with its change.

use mailqos_core::config::{Problems, Table};

use super::{Section, View};
use crate::report::{
    document::{Block, KeyFigure, Status},
    findings::{self, Together},
    locale::DASH,
};

#[derive(Debug)]
struct KeyFigures;

pub(super) fn read(_table: &mut Table, _problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(KeyFigures))
}

impl Section for KeyFigures {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let together = Together::of(&view.monitors);
        let counts = &together.counts;
        let round_trip_now = findings::round_trip(&view.monitors);
        let better = |change: f64| match change {
            c if c > 0.0 => Status::Good,
            c if c < 0.0 => Status::Bad,
            _ => Status::Neutral,
        };
        let (mut change, mut trend) = (String::new(), Status::Neutral);
        if let (Some(now), Some(then)) = (
            counts.availability(),
            together.before.and_then(|before| before.availability()),
        ) {
            change = l.fill("{0} against the period before", &[&l.points(now - then, 2)]);
            // A change that chance explains is not judged.
            let certain = counts
                .availability_interval()
                .zip(together.before.and_then(|before| before.availability_interval()))
                .is_some_and(|(a, b)| a.low > b.high || a.high < b.low);
            trend = if certain { better(now - then) } else { Status::Neutral };
        }
        let availability = KeyFigure {
            label: l.t("Availability").to_owned(),
            value: l.share_said(counts.ok, counts.tests()),
            detail: if counts.tests() == 0 {
                l.t("no counted test").to_owned()
            } else {
                l.fill("{0} of {1} tests", &[&l.integer(counts.ok), &l.integer(counts.tests())])
            },
            change,
            trend,
            exact: counts.availability().map(|share| share * 100.0),
            unit: "%",
            ..KeyFigure::default()
        };
        let (mut change, mut trend) = (String::new(), Status::Neutral);
        let medians: Vec<f64> = view
            .monitors
            .iter()
            .filter_map(|monitor| monitor.before.as_ref()?.round_trip)
            .map(|values| values[0])
            .collect();
        if let (Some(now), [then]) = (round_trip_now, &medians[..])
            && *then > 0.0
        {
            let share = now[0] / then - 1.0;
            let sign = if share > 0.0 { "+" } else { "" };
            change = l.fill(
                "{0} against the period before",
                &[&format!("{sign}{}\u{202f}%", l.number(share * 100.0, 0))],
            );
            // Below a tenth a change of the median is everyday life.
            trend = if share.abs() < 0.1 {
                Status::Neutral
            } else {
                better(-share)
            };
        }
        let round_trip = KeyFigure {
            label: l.t("Median round trip").to_owned(),
            value: round_trip_now.map_or_else(|| DASH.to_owned(), |values| l.duration(values[0])),
            detail: round_trip_now.map_or_else(String::new, |values| {
                l.fill("95 % within {0}", &[&l.duration(values[2])])
            }),
            change,
            trend,
            exact: round_trip_now.map(|values| values[0] / 1e6),
            unit: "s",
            ..KeyFigure::default()
        };
        let outages = KeyFigure {
            label: l.t("Downtime").to_owned(),
            value: if counts.tests() == 0 {
                DASH.to_owned()
            } else {
                l.about(together.downtime)
            },
            detail: if counts.tests() == 0 {
                String::new()
            } else {
                l.count(together.outages as u64, "1 outage", "{0} outages")
            },
            change: if together.before.is_some() {
                l.fill("{0} in the period before", &[&l.about(together.downtime_before)])
            } else {
                String::new()
            },
            exact: (counts.tests() > 0).then_some(together.downtime.0 as f64 / 1e6),
            unit: "s",
            ..KeyFigure::default()
        };
        let coverage = KeyFigure {
            label: l.t("Coverage").to_owned(),
            value: together
                .coverage
                .map_or_else(|| DASH.to_owned(), |coverage| l.percent(coverage, 1)),
            detail: l.t("of the period is known").to_owned(),
            status: match together.coverage {
                None => Status::Unknown,
                Some(coverage) if coverage < 0.9 => Status::Warn,
                Some(_) => Status::Neutral,
            },
            exact: together.coverage.map(|share| share * 100.0),
            unit: "%",
            ..KeyFigure::default()
        };
        vec![Block::KeyFigures {
            figures: vec![availability, round_trip, outages, coverage],
        }]
    }
}
