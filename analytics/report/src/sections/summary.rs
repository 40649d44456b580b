//! Most important findings in sentences, each with a sparkline.

use mailqos_charts::{Measure, sparkline};
use mailqos_config::{Problems, Table};
use mailqos_figures::Unit;

use super::{Kind, Section, View};
use crate::{
    digest::{Need, Needs, spark_of},
    document::{Block, ChartBlock, Finding, Span},
    findings::{self, About},
};

/// Minimum number of values for a sparkline.
const MIN: usize = 4;

#[derive(Debug)]
struct Summary;

/// The kind of section.
pub(super) const KIND: Kind = Kind::new("The most important findings, in sentences.", &[], read);

fn read(_: &mut Table, _: &mut Problems) -> Option<Box<dyn Section>> {
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

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Sparks);
    }
}

fn chart(about: &About<'_>, view: &View<'_>) -> Option<ChartBlock> {
    let (l, period) = (view.locale, &view.facts.passed);
    let unit = spark_of(period);
    let by = match unit {
        Unit::Hour => "{0} by hour",
        Unit::Day => "{0} by day",
        _ => "{0} by week",
    };
    let buckets = view.facts.buckets(period, unit);
    let (name, measure, values, at) = match about {
        About::Availability(monitors, at) => {
            let mut counts = vec![(0_u64, 0_u64); buckets.len()];
            for monitor in monitors {
                for (sum, tally) in counts.iter_mut().zip(monitor.digest.tests(period, unit)) {
                    sum.0 += u64::from(tally.tests - tally.failed);
                    sum.1 += u64::from(tally.tests);
                }
            }
            let availability =
                |(ok, tests): &(u64, u64)| (*tests > 0).then(|| *ok as f64 / *tests as f64);
            let values = counts.iter().map(availability).collect();
            (l.t("availability"), Measure::Share, values, *at)
        }
        About::RoundTrip(monitor, q) => {
            let figure = |figures: &Option<[f64; 2]>| {
                figures.map(|[median, p95]| if *q > 0.5 { p95 } else { median })
            };
            let values: Vec<Option<f64>> = monitor.digest.sparks().iter().map(figure).collect();
            let name =
                if *q > 0.5 { "95th percentile of the round trip" } else { "median round trip" };
            (l.t(name), Measure::Duration, values, None)
        }
    };
    if values.iter().flatten().count() < MIN {
        return None;
    }
    let marked = at
        .and_then(|at| buckets.iter().position(|bucket| (bucket.start..bucket.end).contains(&at)));
    let metric = l.fill(by, &[name]);
    Some(ChartBlock {
        id: view.ids.unique("finding"),
        chart: sparkline::chart(
            &sparkline::Sparkline { metric, measure, width: 160, height: 36, values, marked },
            l,
        ),
    })
}
