//! Figures of several series together: counts and times are summed, and values are pooled, or
//! counted if they are in several processes.

use std::collections::{BTreeMap, btree_map};

use mailqos_lake_tables::{Metric, Values, has_mails};
use mailqos_model::{Micros, UtcMicros};

use super::{
    super::{
        availability::Counts,
        percentiles::{DeliveredPercentile, Distribution, Needed},
        radix::{Counted, Order},
    },
    FiguresQuery, Part, Row, Subject, Time,
};

/// The contribution of a series to figures of several.
#[derive(Debug, Clone)]
pub struct Share(Vec<(Part, Vec<Values>)>);

impl Share {
    pub(super) fn new(parts: Vec<(Part, Vec<Values>)>) -> Self {
        Self(parts)
    }

    /// Returns whether it has no samples.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|(part, _)| !part.has_samples)
    }
}

/// Combines the samples of several series by bucket.
#[derive(Debug)]
pub struct Pool<V = Values>(BTreeMap<Option<UtcMicros>, (Part, u64, Vec<V>)>);

impl<V> Default for Pool<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl Pool {
    /// Adds the contribution of a series.
    pub fn add(&mut self, share: Share) {
        for (part, values) in share.0 {
            let monitors = u64::from(part.has_samples);
            self.add_part(part, monitors, values, |pooled, mut more| pooled.append(&mut more));
        }
    }

    /// Counts the values of each bucket.
    pub fn counted(self) -> Vec<PartialGroup> {
        let count = |values: &[Values]| values.iter().map(Counted::of).collect();
        let parts = self.0.into_values();
        parts
            .map(|(part, monitors, values)| PartialGroup { part, monitors, values: count(&values) })
            .collect()
    }
}

/// A bucket of some monitors of a group, with counted values.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PartialGroup {
    part: Part,
    /// Number of monitors with samples.
    monitors: u64,
    /// Values of each metric.
    values: Vec<Counted>,
}

impl PartialGroup {
    /// Returns the start of the bucket; `None` for the whole period.
    pub fn bucket(&self) -> Option<UtcMicros> {
        self.part.bucket
    }

    /// Returns the number of metrics.
    pub fn metrics(&self) -> usize {
        self.values.len()
    }

    /// Returns whether there are values of a metric, given by its index.
    pub fn has_values(&self, metric: usize) -> bool {
        self.values.get(metric).is_some_and(|values| values.count() > 0)
    }
}

impl<V> Pool<V> {
    /// Adds a bucket of some monitors, `of` of which have samples.
    fn add_part(&mut self, part: Part, of: u64, values: Vec<V>, append: impl Fn(&mut V, V)) {
        let (sum, monitors, pooled) = match self.0.entry(part.bucket) {
            btree_map::Entry::Vacant(place) => {
                place.insert((part, of, values));
                return;
            }
            btree_map::Entry::Occupied(place) => place.into_mut(),
        };
        if sum.declared.is_some() || part.declared.is_some() {
            let (counts, time) = sum.declared.get_or_insert((sum.counts, sum.time));
            let (more, longer) = part.declared.unwrap_or((part.counts, part.time));
            counts.add(&more);
            time.add(&longer);
        }
        sum.counts.add(&part.counts);
        sum.time.add(&part.time);
        for (sum, more) in sum.within.iter_mut().zip(part.within) {
            *sum += more;
        }
        if let (Some(sum), Some(more)) = (&mut sum.mails, &part.mails) {
            sum.add(more);
        }
        sum.has_samples |= part.has_samples;
        *monitors += of;
        for (pooled, more) in pooled.iter_mut().zip(values) {
            append(pooled, more);
        }
    }

    /// Adds a monitor without samples: all its time is unknown.
    pub fn add_untested(&mut self, question: &FiguresQuery) {
        let Some(past) = &question.past else { return };
        for bucket in &question.buckets {
            let Some((sum, ..)) = self.0.get_mut(&question.by.map(|_| bucket.start)) else {
                continue;
            };
            let length = Micros((bucket.end.min(past.to) - bucket.start.max(past.from)).0.max(0));
            let nothing = Time { length, unknown: length, ..Time::default() };
            sum.time.add(&nothing);
            if let Some((_, time)) = &mut sum.declared {
                time.add(&nothing);
            }
        }
    }

    /// Returns the figures of each bucket with samples; `distribution` computes those of the values
    /// of a metric, given by its index.
    fn rows_with(
        self,
        question: &FiguresQuery,
        whose: &Subject,
        mut distribution: impl FnMut(
            (Option<UtcMicros>, usize),
            V,
            Option<(&Counts, &mut Vec<DeliveredPercentile>)>,
        ) -> Option<Distribution>,
    ) -> Vec<Row> {
        self.0
            .into_values()
            .filter(|(part, ..)| part.has_samples)
            .map(|(part, monitors, values)| {
                let mut delivered = Vec::new();
                let metrics = question
                    .metrics
                    .iter()
                    .zip(values)
                    .enumerate()
                    .map(|(index, (metric, values))| {
                        let round_trip =
                            *metric == Metric::RoundTrip && has_mails(whose.kind.as_deref());
                        let round_trip = round_trip.then_some((&part.counts, &mut delivered));
                        distribution((part.bucket, index), values, round_trip)
                    })
                    .collect();
                Row {
                    whose: whose.clone(),
                    bucket: part.bucket,
                    monitors,
                    counts: part.counts,
                    within: part.within,
                    time: part.time,
                    metrics,
                    delivered,
                    declared: part.declared,
                    mails: part.mails,
                }
            })
            .collect()
    }
}

impl Pool {
    /// Returns the figures of each bucket with samples, exact over all of them.
    pub fn rows(self, question: &FiguresQuery, whose: &Subject) -> Vec<Row> {
        self.rows_with(question, whose, |_, mut values, round_trip| {
            question.distribution(&mut values, round_trip)
        })
    }
}

/// Orders of the values of a group, by bucket and by the index of the metric.
pub type Orders = BTreeMap<(Option<UtcMicros>, usize), Order>;

impl Pool<Counted> {
    /// Adds a bucket of some monitors of the group.
    pub fn add_counted(&mut self, group: PartialGroup) {
        let PartialGroup { part, monitors, values } = group;
        self.add_part(part, monitors, values, |pooled, more| pooled.add(&more));
    }

    fn needed(question: &FiguresQuery, values: &Counted, tests: Option<usize>) -> Option<Needed> {
        let count = usize::try_from(values.count()).ok().filter(|count| *count > 0)?;
        Some(Needed::new(count, &question.qs, tests))
    }

    /// Returns the orders whose ranks the figures need.
    pub fn orders(&self, question: &FiguresQuery, whose: &Subject) -> Orders {
        let mut orders = Orders::new();
        let mails = has_mails(whose.kind.as_deref());
        for (bucket, (part, _, values)) in &self.0 {
            for (index, (metric, values)) in question.metrics.iter().zip(values).enumerate() {
                let is_round_trip = *metric == Metric::RoundTrip && mails;
                let tests = is_round_trip.then(|| part.counts.tests() as usize);
                if part.has_samples
                    && let Some(needed) = Self::needed(question, values, tests)
                {
                    orders.insert((*bucket, index), values.order(needed.ranks));
                }
            }
        }
        orders
    }

    /// Returns the figures of each bucket with samples, exact over all of them, once the orders
    /// have been narrowed to single values.
    pub fn rows(self, question: &FiguresQuery, whose: &Subject, orders: &Orders) -> Vec<Row> {
        self.rows_with(question, whose, |key, values, round_trip| {
            let mut round_trip =
                round_trip.map(|(counts, delivered)| (counts.tests() as usize, delivered));
            let tests = round_trip.as_ref().map(|(tests, _)| *tests);
            match (Self::needed(question, &values, tests), orders.get(&key)) {
                (Some(needed), Some(order)) => {
                    Some(needed.distribution(order.sum, &order.ranked(), &question.qs, round_trip))
                }
                _ => {
                    if let Some((tests, delivered)) = &mut round_trip {
                        question.none_delivered(*tests, delivered);
                    }
                    None
                }
            }
        })
    }
}
