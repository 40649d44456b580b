//! Which samples to read, and what of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Range, RangeInclusive},
};

use jiff::civil::Date;
use mailqos_config::Config;
use mailqos_model::{Micros, UtcMicros};

use super::metric::{Column, Metric};

/// About how many bytes of decoded samples are held at a time.
const BUDGET: usize = 384 * 1024 * 1024;
/// No context is longer: that of the longest test interval that can be configured.
const MAX_CONTEXT: Micros = Micros::from_secs(3 * 31 * 86_400);

/// Which samples to read, and what of them.
#[derive(Debug, Clone)]
pub struct SeriesQuery {
    /// Only these sites; all if empty.
    pub sites: BTreeSet<String>,
    /// Only these monitors; all if empty.
    pub monitors: BTreeSet<String>,
    /// The period whose samples are `inside`.
    pub period: Range<UtcMicros>,
    /// How far before and after the period samples are read as context, for outages that go over
    /// its edges: at least, and of monitors with long test intervals as far as they need.
    pub context: Micros,
    /// The test intervals of monitors as they are configured: samples, of other tools for one, may
    /// carry none.
    pub intervals: BTreeMap<String, Micros>,
    /// Which metrics to read.
    pub metrics: BTreeSet<Metric>,
    /// Which further columns to read.
    pub columns: BTreeSet<Column>,
    /// About how many bytes of decoded samples are held at a time.
    pub budget: usize,
}

impl SeriesQuery {
    /// All sites and monitors of a period, without context and metrics.
    pub fn new(period: impl Into<Range<UtcMicros>>) -> Self {
        Self {
            sites: BTreeSet::new(),
            monitors: BTreeSet::new(),
            period: period.into(),
            context: Micros::ZERO,
            intervals: BTreeMap::new(),
            metrics: BTreeSet::new(),
            columns: BTreeSet::new(),
            budget: BUDGET,
        }
    }

    /// Only these monitors; all if there is none.
    #[must_use]
    pub fn monitors<S: Into<String>>(mut self, monitors: impl IntoIterator<Item = S>) -> Self {
        self.monitors = monitors.into_iter().map(Into::into).collect();
        self
    }

    /// Only these sites; all if there is none.
    #[must_use]
    pub fn sites<S: Into<String>>(mut self, sites: impl IntoIterator<Item = S>) -> Self {
        self.sites = sites.into_iter().map(Into::into).collect();
        self
    }

    /// These metrics, too.
    #[must_use]
    pub fn metrics(mut self, metrics: &[Metric]) -> Self {
        self.metrics.extend(metrics);
        self
    }

    /// These further columns, too.
    #[must_use]
    pub fn columns(mut self, columns: &[Column]) -> Self {
        self.columns.extend(columns);
        self
    }

    /// Holds about so many bytes of decoded samples at a time.
    #[must_use]
    pub fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// With the samples of a day before and after, and the test interval: what outages need. Of a
    /// monitor whose test interval is longer than eight hours, three of which are known, samples
    /// are read from further away.
    #[must_use]
    pub fn for_outages(mut self) -> Self {
        self.context = Micros::from_secs(86_400);
        self.columns.insert(Column::TestInterval);
        self
    }

    /// With context that is long enough for the test intervals as configured, too.
    #[must_use]
    pub fn intervals(mut self, config: &Config) -> Self {
        let monitors = config.monitors.values();
        self.intervals =
            monitors.map(|monitor| (monitor.id.to_string(), monitor.test_interval)).collect();
        self
    }

    /// The context that a monitor needs whose samples carry this test interval.
    pub(crate) fn context_of(&self, monitor: &str, interval: Option<Micros>) -> Micros {
        match interval.max(self.intervals.get(monitor).copied()) {
            Some(interval) if self.context > Micros::ZERO => {
                let three = Micros(interval.0.saturating_mul(3));
                self.context.max(three.min(MAX_CONTEXT))
            }
            _ => self.context,
        }
    }

    /// The UTC days of the period and its context.
    pub(crate) fn days(&self, context: Micros) -> RangeInclusive<Date> {
        (self.period.start - context).utc_date()
            ..=UtcMicros((self.period.end + context).0 - 1).utc_date()
    }
}
