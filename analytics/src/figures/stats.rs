//! The contracts' `stats`: counts, availability and the metrics of each bucket of a series.

use std::sync::Arc;

use mailqos_core::model::UtcMicros;

use super::{
    availability::Counts,
    percentiles::Summary,
    periods::{Period, Unit},
    series::{Metric, Series},
};

/// The figures of a bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The site.
    pub site: Arc<str>,
    /// The monitor.
    pub monitor: Arc<str>,
    /// When the bucket begins; `None` for the whole period.
    pub bucket: Option<UtcMicros>,
    /// How many tests had which outcome.
    pub counts: Counts,
    /// The metrics asked for, in the order asked for, over their non-null values; `None` where there is none.
    pub metrics: Vec<Option<Summary>>,
}

/// The figures of each bucket of a period that has samples; of the whole period without a unit.
pub fn rows(series: &Series, period: &Period, by: Option<Unit>, metrics: &[Metric], qs: &[f64]) -> Vec<Row> {
    let row = |bucket: Option<UtcMicros>, range: std::ops::Range<usize>| Row {
        site: Arc::clone(&series.site),
        monitor: Arc::clone(&series.monitor),
        bucket,
        counts: Counts::of(series, range.clone()),
        metrics: metrics
            .iter()
            .map(|metric| Summary::of_metric(series, *metric, range.clone(), qs))
            .collect(),
    };
    let Some(unit) = by else {
        return if series.inside.is_empty() {
            Vec::new()
        } else {
            vec![row(None, series.inside.clone())]
        };
    };
    period
        .buckets(unit)
        .into_iter()
        .filter_map(|bucket| {
            let range = series.rows(bucket.start, bucket.end);
            (!range.is_empty()).then(|| row(Some(bucket.start), range))
        })
        .collect()
}
