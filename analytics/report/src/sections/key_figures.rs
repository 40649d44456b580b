//! Key figures: availability, round trip, downtime and coverage, with their changes.

use mailqos_config::{Problems, Table};
use mailqos_lake_tables::Metric;

use super::{Kind, Section, View};
use crate::{
    digest::{Need, Needs},
    document::{Block, KeyFigure, Status},
    facts::Monitor,
    findings::{self, CombinedFigures},
    locale::{DASH, Locale, is_nothing},
};

#[derive(Debug)]
struct KeyFigures;

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("Availability, round trip, outages and coverage in large type.", &[], read);

fn read(_: &mut Table, _: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(KeyFigures))
}

impl Section for KeyFigures {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let together = CombinedFigures::of(&view.monitors);
        vec![Block::KeyFigures {
            figures: vec![
                availability(&together, l),
                round_trip(&view.monitors, l),
                downtime(&together, l),
                coverage(&together, l),
            ],
        }]
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Values(Metric::RoundTrip));
    }
}

fn better(change: f64) -> Status {
    match change {
        c if c > 0.0 => Status::Good,
        c if c < 0.0 => Status::Bad,
        _ => Status::Neutral,
    }
}

fn availability(together: &CombinedFigures, l: &Locale) -> KeyFigure {
    let counts = &together.counts;
    let (mut change, mut trend) = (String::new(), Status::Neutral);
    if let Some(compared) = together.compared
        && let Some(difference) = compared.change()
    {
        let points = l.points(difference);
        change = l.fill("{0} vs. previous period", &[&points]);
        // Changes that are insignificant or round to zero are not assessed.
        if compared.is_certain() && !is_nothing(&points) {
            trend = better(difference);
        }
    }
    KeyFigure {
        label: l.t("Availability").to_owned(),
        figure: "availability",
        value: l.share_text(counts.ok, counts.tests()),
        detail: if counts.tests() == 0 {
            l.t("no counted tests").to_owned()
        } else {
            l.fill("{0} of {1} tests", &[&l.integer(counts.ok), &l.integer(counts.tests())])
        },
        change,
        trend,
        exact: counts.availability().map(|share| share * 100.0),
        unit: "%",
        ..KeyFigure::default()
    }
}

fn round_trip(monitors: &[&Monitor], l: &Locale) -> KeyFigure {
    let figures = findings::round_trip(monitors);
    let (mut change, mut trend) = (String::new(), Status::Neutral);
    // The combined median of several monitors is unknown for the previous period.
    if let [only] = monitors
        && let Some((then, now)) = findings::medians(only)
        && then > 0.0
    {
        let share = now / then - 1.0;
        change = l.fill("{0} vs. previous period", &[&l.change(share)]);
        // Changes of the median below 10 % are normal variation.
        if share.abs() >= 0.1 {
            trend = better(-share);
        }
    }
    KeyFigure {
        label: l.t("Median round trip").to_owned(),
        figure: "round_trip_p50",
        value: figures.map_or_else(|| DASH.to_owned(), |figures| l.duration(figures[0])),
        detail: figures.map_or_else(String::new, |figures| {
            l.fill("95 % within {0}", &[&l.duration(figures[2])])
        }),
        change,
        trend,
        exact: figures.map(|figures| figures[0] / 1e6),
        unit: "s",
        ..KeyFigure::default()
    }
}

fn downtime(together: &CombinedFigures, l: &Locale) -> KeyFigure {
    let known = together.counts.tests() > 0;
    KeyFigure {
        label: l.t("Downtime").to_owned(),
        figure: "downtime",
        value: if known { l.about(together.downtime) } else { DASH.to_owned() },
        detail: if known {
            l.count(together.outages as u64, "1 outage", "{0} outages")
        } else {
            String::new()
        },
        change: together.downtime_before.map_or_else(String::new, |before| {
            l.fill("{0} in the previous period", &[&l.about(before)])
        }),
        exact: known.then_some(together.downtime.0 as f64 / 1e6),
        unit: "s",
        ..KeyFigure::default()
    }
}

fn coverage(together: &CombinedFigures, l: &Locale) -> KeyFigure {
    KeyFigure {
        label: l.t("Coverage").to_owned(),
        figure: "coverage",
        value: together.coverage.map_or_else(|| DASH.to_owned(), |coverage| l.percent(coverage, 1)),
        detail: l.t("of the period covered").to_owned(),
        status: match together.coverage {
            None => Status::Unknown,
            Some(coverage) if coverage < 0.9 => Status::Warn,
            Some(_) => Status::Neutral,
        },
        exact: together.coverage.map(|share| share * 100.0),
        unit: "%",
        ..KeyFigure::default()
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::findings::Compared;
    use mailqos_figures::Counts;

    #[test]
    fn a_change_that_rounds_to_zero_has_no_colour() {
        let counts = |lost| Counts { ok: 10_000_000_000, lost, ..Counts::default() };
        let locale = Locale::new("en", TimeZone::UTC).expect("English");
        for (lost, change, trend) in [
            (1_040_000, "0.000\u{a0}pp", Status::Neutral),
            (1_300_000, "\u{2212}0.003\u{a0}pp", Status::Bad),
        ] {
            let compared = Compared { now: counts(lost), before: counts(1_000_000) };
            assert!(compared.is_certain());
            let together = CombinedFigures {
                counts: compared.now,
                compared: Some(compared),
                ..CombinedFigures::of(&[])
            };
            let figure = availability(&together, &locale);
            assert!(figure.change.starts_with(change), "{}", figure.change);
            assert_eq!(figure.trend, trend);
        }
    }
}
