//! One monitor's samples at one site as columns, sorted by time.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use mailqos_model::{Exclusion, Micros, Outcome, Stage, UtcMicros};

use super::{
    durations::{Durations, Values},
    metric::{Column, Metric},
    receipt::Receipt,
};

/// Identifies a series of a site: a monitor and the kind of its tests. A monitor whose kind was
/// changed has one series for each, so that figures don't mix kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Name of the monitor in the lake.
    pub monitor: Arc<str>,
    /// Kind of its tests; `None` is `mail-qos`.
    pub kind: Option<Arc<str>>,
}

/// Returns whether tests of a kind are about mails that arrive: others have neither a delivery rate
/// nor a share of mails delivered within a time.
pub fn has_mails(kind: Option<&str>) -> bool {
    kind != Some("mailbox")
}

/// The samples of one monitor at one site, by time; each column has one value per sample, or none
/// if it was not requested.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// Name of the site in the lake. Lakes of other writers may use names that are not valid in a
    /// configuration.
    pub site: Arc<str>,
    /// Name of the monitor in the lake.
    pub monitor: Arc<str>,
    /// Kind of its tests; `None` is `mail-qos`.
    pub kind: Option<Arc<str>>,
    /// Start of each test, in microseconds since 1970 UTC; ascending.
    pub started_at: Vec<i64>,
    /// Outcome of each test.
    pub outcome: Vec<Outcome>,
    /// Why each sample does not count, if so.
    pub excluded: Vec<Option<Exclusion>>,
    /// Whether the mail may still be found late.
    pub provisional: Vec<bool>,
    /// Where each test failed.
    pub stage: Vec<Option<Stage>>,
    /// Error of each failed test, in one line.
    pub error: Vec<Option<Arc<str>>>,
    /// The SMTP server's last reply code.
    pub smtp_reply_code: Vec<Option<i32>>,
    /// The monitor's test interval at each test.
    pub test_interval: Durations,
    /// The monitor's max round trip at each test.
    pub max_round_trip: Durations,
    /// Hops of each mail, oldest first: the server that wrote each `Received` field and the time
    /// since the previous one.
    pub hops: Vec<Option<Arc<[HopDelay]>>>,
    /// Whether a certificate was accepted unverified at each test.
    pub unverified: Vec<bool>,
    /// Facts about each mail.
    pub receipts: Vec<Receipt>,
    /// The metrics, by `Metric as usize`.
    pub metrics: [Durations; Metric::ALL.len()],
    /// Periods that were declared as maintenance afterwards. Tests in them count, unless
    /// [`Series::without_declared`] is used.
    pub declared: Vec<Range<UtcMicros>>,
    /// Rows in the period; those before and after it are context for outages.
    pub inside: Range<usize>,
}

/// One hop of a mail: the server's name and the time since the previous hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopDelay {
    /// The server that wrote the `Received` field.
    pub by: Option<Arc<str>>,
    /// Time since the previous hop, by the clocks of the two servers.
    pub delay: Option<Micros>,
    /// Whether the delay is implausible.
    pub clock_suspect: bool,
}

impl Series {
    /// Returns the number of samples, including context.
    #[inline]
    pub fn len(&self) -> usize {
        self.started_at.len()
    }

    /// Returns whether there are no samples at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.started_at.is_empty()
    }

    /// Returns a metric's column.
    #[inline]
    pub fn metric(&self, metric: Metric) -> &Durations {
        &self.metrics[metric as usize]
    }

    /// Returns when a test began.
    #[inline]
    pub fn at(&self, row: usize) -> UtcMicros {
        UtcMicros(self.started_at[row])
    }

    /// Returns why a sample does not count.
    #[inline]
    pub fn exclusion(&self, row: usize) -> Option<Exclusion> {
        self.excluded.get(row).copied().flatten()
    }

    /// Returns whether a test counts: its outcome is not `not_tested`, and it is outside
    /// maintenance.
    #[inline]
    pub fn counts(&self, row: usize) -> bool {
        self.outcome[row] != Outcome::NotTested && self.exclusion(row).is_none()
    }

    /// Returns the facts about the mail of a test, if receipts were read.
    #[inline]
    pub fn receipt(&self, row: usize) -> Option<&Receipt> {
        self.receipts.get(row)
    }

    /// Returns whether a counted test began in a period that was declared as maintenance afterwards.
    pub fn is_declared(&self, row: usize) -> bool {
        let at = self.at(row);
        self.declared.iter().any(|period| period.contains(&at)) && self.counts(row)
    }

    /// Returns the series as if declared maintenance had been planned: its tests are excluded.
    /// `None` if no counted test is concerned.
    #[must_use]
    pub fn without_declared(&self) -> Option<Self> {
        if self.declared.is_empty() || !(0..self.len()).any(|row| self.is_declared(row)) {
            return None;
        }
        let mut without = self.clone();
        without.excluded.resize(self.len(), None);
        for row in 0..self.len() {
            if self.is_declared(row) {
                without.excluded[row] = Some(Exclusion::Maintenance);
            }
        }
        without.declared.clear();
        Some(without)
    }

    /// Returns the rows of the counted tests in the period.
    #[inline]
    pub fn counted(&self) -> impl Iterator<Item = usize> + '_ {
        self.counted_in(self.inside.clone())
    }

    /// Returns the counted rows in a range.
    #[inline]
    pub fn counted_in(&self, rows: Range<usize>) -> impl Iterator<Item = usize> + '_ {
        rows.filter(|row| self.counts(*row))
    }

    /// Returns the rows of tests that began in `[from, to)` and in the period.
    pub fn rows(&self, from: UtcMicros, to: UtcMicros) -> Range<usize> {
        let inside = &self.started_at[self.inside.clone()];
        let first = inside.partition_point(|at| *at < from.0);
        let last = inside.partition_point(|at| *at < to.0);
        self.inside.start + first..self.inside.start + last.max(first)
    }

    /// Returns the non-null values of a metric over the counted tests of a range, in microseconds.
    pub fn values(&self, metric: Metric, rows: Range<usize>) -> Vec<i64> {
        let column = self.metric(metric);
        if column.is_empty() {
            return Vec::new();
        }
        rows.filter(|row| self.counts(*row))
            .filter_map(|row| column.get(row).map(|value| value.0))
            .collect()
    }

    /// Returns which rows count; see [`Series::counts`].
    pub fn counting(&self) -> Vec<bool> {
        let mut counting: Vec<bool> =
            self.outcome.iter().map(|outcome| *outcome != Outcome::NotTested).collect();
        for (counts, excluded) in counting.iter_mut().zip(&self.excluded) {
            *counts &= excluded.is_none();
        }
        counting
    }

    /// Appends the non-null values of a metric over a range; `counting` is [`Series::counting`].
    pub fn values_into(
        &self,
        metric: Metric,
        rows: Range<usize>,
        counting: &[bool],
        values: &mut Values,
    ) {
        let column = self.metric(metric);
        if !column.is_empty() {
            column.collect_into(rows, counting, values);
        }
    }

    /// Restarts with another monitor's samples, in the same memory.
    pub(crate) fn restart(&mut self, site: &Arc<str>, key: &SeriesKey) {
        let Self {
            site: own_site,
            monitor: own_monitor,
            kind,
            started_at,
            outcome,
            excluded,
            provisional,
            stage,
            error,
            smtp_reply_code,
            test_interval,
            max_round_trip,
            hops,
            unverified,
            receipts,
            metrics,
            declared,
            inside,
        } = self;
        declared.clear();
        (*own_site, *own_monitor, *inside) = (Arc::clone(site), Arc::clone(&key.monitor), 0..0);
        kind.clone_from(&key.kind);
        started_at.clear();
        outcome.clear();
        excluded.clear();
        provisional.clear();
        stage.clear();
        error.clear();
        smtp_reply_code.clear();
        hops.clear();
        unverified.clear();
        receipts.clear();
        for durations in [test_interval, max_round_trip].into_iter().chain(metrics) {
            durations.clear();
        }
    }

    pub(crate) fn reserve(
        &mut self,
        rows: usize,
        metrics: &BTreeSet<Metric>,
        columns: &BTreeSet<Column>,
    ) {
        self.started_at.reserve_exact(rows);
        self.outcome.reserve_exact(rows);
        for metric in metrics {
            self.metrics[*metric as usize].reserve(rows);
        }
        for (column, durations) in [
            (Column::TestInterval, &mut self.test_interval),
            (Column::MaxRoundTrip, &mut self.max_round_trip),
        ] {
            if columns.contains(&column) {
                durations.reserve(rows);
            }
        }
    }

    /// Frees columns without values: they read as before, and a year of them has to fit into
    /// memory.
    pub fn leave_out_empty(&mut self) {
        fn drop_if<T>(column: &mut Vec<T>, is_empty: impl Fn(&T) -> bool) {
            if column.iter().all(is_empty) {
                *column = Vec::new();
            }
        }
        drop_if(&mut self.excluded, Option::is_none);
        drop_if(&mut self.stage, Option::is_none);
        drop_if(&mut self.error, Option::is_none);
        drop_if(&mut self.smtp_reply_code, Option::is_none);
        drop_if(&mut self.hops, Option::is_none);
        drop_if(&mut self.unverified, |unverified| !unverified);
        drop_if(&mut self.receipts, |receipt| *receipt == Receipt::default());
        drop_if(&mut self.provisional, |provisional| !provisional);
        for column in
            self.metrics.iter_mut().chain([&mut self.test_interval, &mut self.max_round_trip])
        {
            if column.iter().all(|value| value.is_none()) {
                *column = Durations::default();
            }
        }
    }

    /// Restricts the inside to the samples in `period`; the others become context.
    pub fn confine(&mut self, period: impl Into<Range<UtcMicros>>) {
        let period = period.into();
        let first = self.started_at.partition_point(|at| *at < period.start.0);
        let last = self.started_at.partition_point(|at| *at < period.end.0);
        self.inside = first..last.max(first);
    }

    /// Returns a copy with only these rows, all inside: for tests and filtered figures.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        fn pick<T: Clone>(column: &[T], rows: &[u32]) -> Vec<T> {
            if column.is_empty() {
                return Vec::new();
            }
            rows.iter().map(|row| column[*row as usize].clone()).collect()
        }
        let durations = |column: &Durations| {
            let mut column = column.clone();
            if !column.is_empty() {
                column.select(rows);
            }
            column
        };
        Self {
            site: Arc::clone(&self.site),
            monitor: Arc::clone(&self.monitor),
            kind: self.kind.clone(),
            started_at: pick(&self.started_at, rows),
            outcome: pick(&self.outcome, rows),
            excluded: pick(&self.excluded, rows),
            provisional: pick(&self.provisional, rows),
            stage: pick(&self.stage, rows),
            error: pick(&self.error, rows),
            smtp_reply_code: pick(&self.smtp_reply_code, rows),
            test_interval: durations(&self.test_interval),
            max_round_trip: durations(&self.max_round_trip),
            hops: pick(&self.hops, rows),
            unverified: pick(&self.unverified, rows),
            receipts: pick(&self.receipts, rows),
            metrics: std::array::from_fn(|metric| durations(&self.metrics[metric])),
            declared: self.declared.clone(),
            inside: 0..rows.len(),
        }
    }
}
