//! Which samples to read, and which of their columns.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use jiff::civil::Date;
use mailqos_config::Config;
use mailqos_model::{Micros, UtcMicros};

use super::metric::{Column, Metric};

/// Approximate size of the decoded samples that are held at a time, in bytes.
const BUDGET: usize = 384 * 1024 * 1024;
/// Longest context: that of the longest test interval that can be configured.
const MAX_CONTEXT: Micros = Micros::from_secs(3 * 31 * 86_400);

/// Which samples to read, and which of their columns.
#[derive(Debug, Clone)]
pub struct SeriesQuery {
    /// Sites; all if empty.
    pub sites: BTreeSet<String>,
    /// Monitors; all if empty.
    pub monitors: BTreeSet<String>,
    /// The first monitor name, and the one after the last; not limited if absent.
    pub range: (Option<Arc<str>>, Option<Arc<str>>),
    /// The period whose samples are `inside`.
    pub period: Range<UtcMicros>,
    /// Minimum time before and after the period from which samples are read as context, for outages
    /// that cross its limits. Monitors with long test intervals get more.
    pub context: Micros,
    /// Configured test intervals of monitors: samples imported from other tools may not have any.
    pub intervals: BTreeMap<String, Micros>,
    /// Which metrics to read.
    pub metrics: BTreeSet<Metric>,
    /// Which further columns to read.
    pub columns: BTreeSet<Column>,
    /// Whether to read the receipts of mails.
    pub receipts: bool,
    /// Approximate size of the decoded samples that are held at a time, in bytes.
    pub budget: usize,
}

impl SeriesQuery {
    /// Selects all sites and monitors of a period, without context and metrics.
    pub fn new(period: impl Into<Range<UtcMicros>>) -> Self {
        Self {
            sites: BTreeSet::new(),
            monitors: BTreeSet::new(),
            range: (None, None),
            period: period.into(),
            context: Micros::ZERO,
            intervals: BTreeMap::new(),
            metrics: BTreeSet::new(),
            columns: BTreeSet::new(),
            receipts: false,
            budget: BUDGET,
        }
    }

    /// Selects these monitors; all if the list is empty.
    #[must_use]
    pub fn monitors<S: Into<String>>(mut self, monitors: impl IntoIterator<Item = S>) -> Self {
        self.monitors = monitors.into_iter().map(Into::into).collect();
        self
    }

    /// Selects the monitors from one name to another, which is excluded.
    #[must_use]
    pub fn range(mut self, from: Option<&str>, to: Option<&str>) -> Self {
        self.range = (from.map(Arc::from), to.map(Arc::from));
        self
    }

    /// Selects these sites; all if the list is empty.
    #[must_use]
    pub fn sites<S: Into<String>>(mut self, sites: impl IntoIterator<Item = S>) -> Self {
        self.sites = sites.into_iter().map(Into::into).collect();
        self
    }

    /// Adds the receipts of mails, if `wanted`.
    #[must_use]
    pub fn receipts(mut self, wanted: bool) -> Self {
        self.receipts |= wanted;
        self
    }

    /// Adds metrics.
    #[must_use]
    pub fn metrics(mut self, metrics: &[Metric]) -> Self {
        self.metrics.extend(metrics);
        self
    }

    /// Adds columns.
    #[must_use]
    pub fn columns(mut self, columns: &[Column]) -> Self {
        self.columns.extend(columns);
        self
    }

    /// Sets the approximate size of the decoded samples that are held at a time.
    #[must_use]
    pub fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// Adds the test interval and the context that outages need: samples of a day before and after,
    /// or of three test intervals if they are longer than eight hours.
    #[must_use]
    pub fn for_outages(mut self) -> Self {
        self.context = Micros::from_secs(86_400);
        self.columns.insert(Column::TestInterval);
        self
    }

    /// Extends the context for the configured test intervals.
    #[must_use]
    pub fn intervals(mut self, config: &Config) -> Self {
        let monitors = config.monitors.values();
        self.intervals =
            monitors.map(|monitor| (monitor.id.to_string(), monitor.test_interval)).collect();
        self
    }

    /// Returns the context that a monitor needs if its samples have this test interval.
    pub(crate) fn context_of(&self, monitor: &str, interval: Option<Micros>) -> Micros {
        match interval.max(self.intervals.get(monitor).copied()) {
            Some(interval) if self.context > Micros::ZERO => {
                let three = Micros(interval.0.saturating_mul(3));
                self.context.max(three.min(MAX_CONTEXT))
            }
            _ => self.context,
        }
    }

    /// Returns the UTC days of the period and its context.
    pub(crate) fn days(&self, context: Micros) -> RangeInclusive<Date> {
        (self.period.start - context).utc_date()
            ..=UtcMicros((self.period.end + context).0 - 1).utc_date()
    }
}
