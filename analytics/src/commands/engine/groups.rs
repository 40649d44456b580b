//! Figures of several monitors together: counts and times are summed, and percentiles are found by
//! counting the values in a few passes over the shards.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mailqos_figures::{
    radix::{Counted, Disagreement, Parts, Span},
    stats::{FiguresQuery, Orders, PartialGroup, Pool, Row, Subject},
};
use mailqos_lake_tables::{Lake, LakeError, Series, SeriesQuery};
use mailqos_model::UtcMicros;

use super::{
    Engine,
    collect::Answer,
    grouping::Grouping,
    shard::{Asked, Figures, Item, Shard, Work},
};
use crate::commands::{Failure, source::Source};

/// How often everything is counted again because files have changed between two passes.
const MAX_ATTEMPTS: usize = 3;
/// Most ranges that a pass divides: each is part of the input and output of workers.
const MAX_SPANS: usize = 50_000;

/// The values of a metric in a bucket of a group.
type Key = (Subject, Option<UtcMicros>, usize);

/// The figures of groups.
pub(in crate::commands) struct Groups {
    /// The rows, in the order of groups and buckets.
    pub(in crate::commands) rows: Vec<Row>,
    /// Whether some tests are not of kind `mail-qos`.
    pub(in crate::commands) kinds: bool,
}

/// Sites and names of monitors.
pub(in crate::commands) type Seen = BTreeSet<(Arc<str>, Arc<str>)>;

/// The groups that monitors without samples belong to, by the monitors that have some.
type Untested<'a> = &'a dyn Fn(&Seen) -> Vec<Subject>;

/// Computes the figures of the series of a shard by group.
pub(super) fn worker_groups(
    lake: &Lake,
    query: &SeriesQuery,
    question: &FiguresQuery,
    groups: &Grouping,
) -> Result<Vec<Item>, LakeError> {
    let mut pools: BTreeMap<Subject, Pool> = BTreeMap::new();
    let mut seen: BTreeSet<Arc<str>> = BTreeSet::new();
    lake.for_each(
        query,
        |series| (Arc::clone(&series.monitor), groups.of(series), question.share(series)),
        |(monitor, groups, share)| {
            if !share.is_empty() {
                seen.insert(monitor);
            }
            for group in groups {
                pools.entry(group).or_default().add(share.clone());
            }
            Ok::<_, LakeError>(())
        },
    )?;
    let mut items = vec![Item::Seen { monitors: seen.iter().map(ToString::to_string).collect() }];
    let each = pools.into_iter();
    items.extend(each.map(|(whose, pool)| Item::Group { whose, buckets: pool.counted() }));
    Ok(items)
}

/// Counts the values of the series of a shard in the asked ranges.
pub(super) fn worker_counts(
    lake: &Lake,
    query: &SeriesQuery,
    (question, groups): (&FiguresQuery, &Grouping),
    asked: &[Asked],
) -> Result<Vec<Item>, LakeError> {
    let places: BTreeMap<(&Subject, Option<UtcMicros>, usize), usize> = asked
        .iter()
        .enumerate()
        .map(|(index, one)| ((&one.whose, one.bucket, one.metric), index))
        .collect();
    let mut sums: Vec<Vec<Parts>> =
        asked.iter().map(|one| vec![Parts::new(); one.spans.len()]).collect();
    let count = |series: &mut Series| {
        let mut found: Vec<(usize, Vec<Parts>)> = Vec::new();
        let groups = groups.of(series);
        for (bucket, values) in question.values(series) {
            for (metric, values) in values.iter().enumerate() {
                for group in &groups {
                    if let Some(index) = places.get(&(group, bucket, metric)) {
                        found.push((*index, Span::count(&asked[*index].spans, values)));
                    }
                }
            }
        }
        found
    };
    lake.for_each(query, count, |found| {
        for (index, parts) in found {
            add(&mut sums[index], parts);
        }
        Ok::<_, LakeError>(())
    })?;
    Ok(vec![Item::Counts { parts: sums }])
}

fn add(sums: &mut [Parts], parts: impl IntoIterator<Item = Parts>) {
    for (sum, parts) in sums.iter_mut().zip(parts) {
        for (part, count) in parts {
            *sum.entry(part).or_default() += count;
        }
    }
}

/// What the first pass has found.
#[derive(Default)]
struct First {
    pools: BTreeMap<Subject, Pool<Counted>>,
    seen: Seen,
    /// The values that each shard has, by its position.
    values: Vec<BTreeSet<Key>>,
}

impl First {
    fn of(shards: &[Shard], answers: Vec<Answer>) -> Result<Self, Failure> {
        let mut first = Self::default();
        for (shard, answer) in shards.iter().zip(answers) {
            let site: Arc<str> = shard.site.as_str().into();
            let mut values = BTreeSet::new();
            for item in answer.items {
                match item {
                    Item::Seen { monitors } => first.seen.extend(
                        monitors.into_iter().map(|monitor| (Arc::clone(&site), monitor.into())),
                    ),
                    Item::Group { whose, buckets } => {
                        let pool = first.pools.entry(whose.clone()).or_default();
                        for group in buckets {
                            values.extend(keys(&whose, &group));
                            pool.add_counted(group);
                        }
                    }
                    _ => return Err(strange()),
                }
            }
            first.values.push(values);
        }
        Ok(first)
    }
}

fn keys(whose: &Subject, group: &PartialGroup) -> Vec<Key> {
    let metrics = (0..group.metrics()).filter(|metric| group.has_values(*metric));
    metrics.map(|metric| (whose.clone(), group.bucket(), metric)).collect()
}

fn strange() -> Failure {
    Failure::work("a worker answered another question than it was asked")
}

impl Engine {
    /// Returns the figures of groups of monitors.
    ///
    /// # Errors
    /// A worker failed, or its answer is incomplete; the lake can't be read.
    pub(in crate::commands) fn groups(
        &self,
        source: &Source,
        (query, question): (&SeriesQuery, &FiguresQuery),
        groups: &Grouping,
        untested: Untested<'_>,
    ) -> Result<Groups, Failure> {
        for _ in 0..MAX_ATTEMPTS {
            let work = Work::Groups { figures: Figures::of(question), groups: groups.clone() };
            let asked = self.question(source, (query, &question.period), question.now, work)?;
            let mut shards = self.plan(source, query, &asked)?;
            let answers = self.run(&mut shards, &source.lake)?;
            let kinds = answers.iter().any(|answer| answer.kinds);
            let files: Vec<String> = answers.iter().map(|answer| answer.files.clone()).collect();
            let answers = answers.into_iter().map(|mut answer| {
                super::note(&source.lake, &mut answer);
                answer
            });
            let mut first = First::of(&shards, answers.collect())?;
            // A monitor without samples lowers the coverage of its group.
            for group in untested(&first.seen) {
                if let Some(pool) = first.pools.get_mut(&group) {
                    pool.add_untested(question);
                }
            }
            let mut orders: BTreeMap<Subject, Orders> = first
                .pools
                .iter()
                .map(|(whose, pool)| (whose.clone(), pool.orders(question, whose)))
                .collect();
            if self.passes(source, &shards, (&files, &first.values), &mut orders)? {
                let rows = first.pools.into_iter().flat_map(|(whose, pool)| {
                    let orders = orders.remove(&whose).unwrap_or_default();
                    pool.rows(question, &whose, &orders)
                });
                return Ok(Groups { rows: rows.collect(), kinds });
            }
        }
        Err(Failure::work_help(
            "files changed between two passes over the same samples, in every attempt",
            "try again, or end the period before the current day",
        ))
    }

    /// Narrows all orders to single values; returns false if files have changed since the first
    /// pass.
    fn passes(
        &self,
        source: &Source,
        shards: &[Shard],
        (files, values): (&[String], &[BTreeSet<Key>]),
        orders: &mut BTreeMap<Subject, Orders>,
    ) -> Result<bool, Failure> {
        loop {
            let open = open(orders);
            if open.is_empty() {
                return Ok(true);
            }
            let mut sums: BTreeMap<Key, Vec<Parts>> = open
                .iter()
                .map(|(key, spans)| (key.clone(), vec![Parts::new(); spans.len()]))
                .collect();
            // Each shard is only asked about values that it has.
            let (mut asked, mut places) = (Vec::new(), Vec::new());
            for (place, shard) in shards.iter().enumerate() {
                let of_shard: Vec<&Key> =
                    open.keys().filter(|key| values[place].contains(*key)).collect();
                if !of_shard.is_empty() {
                    asked.push(counting(shard, asked.len(), &of_shard, &open));
                    places.push((place, of_shard));
                }
            }
            let answers = self.run(&mut asked, &source.lake)?;
            for ((place, keys), answer) in places.iter().zip(answers) {
                if answer.files != files[*place] {
                    return Ok(false);
                }
                let [Item::Counts { parts }] =
                    <[Item; 1]>::try_from(answer.items).map_err(|_| strange())?
                else {
                    return Err(strange());
                };
                if parts.len() != keys.len() {
                    return Err(strange());
                }
                for (key, parts) in keys.iter().zip(parts) {
                    if let Some(sum) = sums.get_mut(*key) {
                        add(sum, parts);
                    }
                }
            }
            for ((whose, bucket, metric), parts) in &sums {
                let order = orders.get_mut(whose).and_then(|of| of.get_mut(&(*bucket, *metric)));
                if order.is_some_and(|order| order.narrow(parts) == Err(Disagreement)) {
                    return Ok(false);
                }
            }
        }
    }
}

/// Returns the ranges that the next pass divides.
fn open(orders: &BTreeMap<Subject, Orders>) -> BTreeMap<Key, Vec<Span>> {
    let (mut open, mut count) = (BTreeMap::new(), 0);
    for (whose, orders) in orders {
        for ((bucket, metric), order) in orders {
            let spans = order.spans();
            if !spans.is_empty() && count < MAX_SPANS {
                count += spans.len();
                open.insert((whose.clone(), *bucket, *metric), spans);
            }
        }
    }
    open
}

/// Returns a shard that counts values.
fn counting(shard: &Shard, number: usize, keys: &[&Key], open: &BTreeMap<Key, Vec<Span>>) -> Shard {
    let mut shard = Shard { shard: number, ..shard.clone() };
    let asked = keys.iter().filter_map(|key| {
        let (whose, bucket, metric) = (*key).clone();
        Some(Asked { whose, bucket, metric, spans: open.get(*key)?.clone() })
    });
    let asked = asked.collect();
    if let Work::Groups { figures, groups } = shard.question.work {
        shard.question.work = Work::Counts { figures, groups, asked };
    }
    // Neither context nor receipts are needed for values.
    shard.question.receipts = false;
    shard
}
