//! Writes the JSON of a row as defined by the contract, and on request all other figures.

use mailqos_figures::{
    DeliveredPercentile, Distribution, delivered_within::LIMITS, explain::percentile::limit_name,
    periods::Period, stats::Row,
};
use mailqos_lake_tables::has_mails;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{mail_figure::JsonMails, shape::Shape};
use crate::commands::table::{moment, seconds};

pub(super) struct JsonRow<'a> {
    pub(super) row: &'a Row,
    pub(super) shape: &'a Shape,
    /// The compared period, and its figures if there are any.
    pub(super) before: Option<(&'a Period, Option<&'a Row>)>,
    pub(super) skipped: &'a [String],
}

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.row;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("site", &row.whose.site.as_deref())?;
        map.serialize_entry("monitor", &row.whose.monitor.as_deref())?;
        if let Some(name) = self.shape.group.name() {
            map.serialize_entry(name, &row.whose.group.as_deref())?;
        }
        if let Some(kind) = &row.whose.kind {
            map.serialize_entry("kind", &**kind)?;
        }
        map.serialize_entry("bucket", &self.shape.bucket(row))?;
        figures(&mut map, row, self.shape)?;
        if let Some((period, before)) = self.before {
            map.serialize_entry("before", &JsonBefore(period, before, self.shape))?;
        }
        if !self.skipped.is_empty() {
            map.serialize_entry("skipped_files", self.skipped)?;
        }
        map.end()
    }
}

struct JsonBefore<'a>(&'a Period, Option<&'a Row>, &'a Shape);

impl Serialize for JsonBefore<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("from", &moment(&self.0.calendar, self.0.from))?;
        map.serialize_entry("to", &moment(&self.0.calendar, self.0.to))?;
        match self.1 {
            Some(row) => figures(&mut map, row, self.2)?,
            None => map.serialize_entry("tests", &0)?,
        }
        map.end()
    }
}

fn figures<M: serde::ser::SerializeMap>(
    map: &mut M,
    row: &Row,
    shape: &Shape,
) -> Result<(), M::Error> {
    let (counts, time) = (&row.counts, &row.time);
    map.serialize_entry("tests", &counts.tests())?;
    map.serialize_entry("ok", &counts.ok)?;
    map.serialize_entry("late", &counts.late)?;
    map.serialize_entry("lost", &counts.lost)?;
    map.serialize_entry("smtp_failed", &counts.smtp_failed)?;
    map.serialize_entry("pickup_failed", &counts.pickup_failed)?;
    map.serialize_entry("not_tested", &counts.not_tested)?;
    map.serialize_entry("availability", &counts.availability())?;
    map.serialize_entry("metrics", &JsonMetrics(row, shape))?;
    if !shape.full {
        return Ok(());
    }
    let interval = counts.availability_interval();
    map.serialize_entry("monitors", &row.monitors)?;
    map.serialize_entry("excluded", &counts.excluded)?;
    map.serialize_entry("provisional", &counts.provisional)?;
    map.serialize_entry("availability_interval", &interval.map(|share| (share.low, share.high)))?;
    map.serialize_entry("delivery_rate", &row.delivery_rate())?;
    map.serialize_entry("coverage", &time.coverage())?;
    map.serialize_entry("availability_by_time", &time.availability())?;
    map.serialize_entry("downtime_s", &seconds(time.downtime))?;
    map.serialize_entry("unknown_s", &seconds(time.unknown))?;
    map.serialize_entry("maintenance_s", &seconds(time.excluded))?;
    map.serialize_entry("outages", &time.outages)?;
    map.serialize_entry("longest_outage_s", &time.longest.map(seconds))?;
    map.serialize_entry("mttr_s", &time.mttr().map(seconds))?;
    map.serialize_entry("mtbf_s", &time.mtbf().map(seconds))?;
    map.serialize_entry("delivered_within", &JsonWithin(row))?;
    map.serialize_entry("delivered", &JsonDelivered(row, shape))?;
    let (without, time_without) = row.excluding_declared();
    map.serialize_entry("declared", &row.declared_tests())?;
    map.serialize_entry("availability_excluding_declared", &without.availability())?;
    let by_time = time_without.availability();
    map.serialize_entry("availability_by_time_excluding_declared", &by_time)?;
    let downtime = seconds(time_without.downtime);
    map.serialize_entry("downtime_excluding_declared_s", &downtime)?;
    map.serialize_entry("declared_s", &seconds(row.declared_time()))?;
    let mails = row.mails.as_deref().filter(|_| has_mails(row.whose.kind.as_deref()));
    map.serialize_entry("deliverability", &mails.map(JsonMails))
}

struct JsonWithin<'a>(&'a Row);

impl Serialize for JsonWithin<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(LIMITS.len() + 1))?;
        for (index, limit) in LIMITS.iter().enumerate() {
            map.serialize_entry(&limit_name(*limit), &self.0.delivered_within(Some(index)))?;
        }
        map.serialize_entry("max_round_trip", &self.0.delivered_within(None))?;
        map.end()
    }
}

/// Percentiles of the round trip that count undelivered mail as slower than any delivered mail.
struct JsonDelivered<'a>(&'a Row, &'a Shape);

impl Serialize for JsonDelivered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (index, asked) in self.1.percentiles.iter().enumerate() {
            match self.0.delivered.get(index) {
                None => map.serialize_entry(&asked.name(), &None::<f64>)?,
                Some(DeliveredPercentile::NotDelivered) => {
                    map.serialize_entry(&asked.name(), "not delivered")?
                }
                Some(DeliveredPercentile::Within(micros)) => {
                    map.serialize_entry(&asked.name(), &(micros / 1000.0))?
                }
            }
        }
        map.end()
    }
}

struct JsonMetrics<'a>(&'a Row, &'a Shape);

impl Serialize for JsonMetrics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.1.metrics.len()))?;
        for (metric, found) in self.1.metrics.iter().zip(&self.0.metrics) {
            map.serialize_entry(metric.as_str(), &JsonDistribution(found.as_ref(), self.1))?;
        }
        map.end()
    }
}

struct JsonDistribution<'a>(Option<&'a Distribution>, &'a Shape);

impl Serialize for JsonDistribution<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let summary = self.0.map(|found| &found.summary);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("count", &summary.map_or(0, |summary| summary.count))?;
        map.serialize_entry("min", &summary.map(|s| s.min.as_millis_f64()))?;
        map.serialize_entry("mean", &summary.map(|s| s.mean / 1000.0))?;
        map.serialize_entry("max", &summary.map(|s| s.max.as_millis_f64()))?;
        for (index, asked) in self.1.percentiles.iter().enumerate() {
            let value = summary.and_then(|summary| summary.percentiles.get(index));
            map.serialize_entry(&asked.name(), &value.map(|micros| micros / 1000.0))?;
        }
        if self.1.full {
            map.serialize_entry("intervals", &JsonIntervals(self.0, self.1))?;
        }
        map.end()
    }
}

struct JsonIntervals<'a>(Option<&'a Distribution>, &'a Shape);

impl Serialize for JsonIntervals<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.1.percentiles.len()))?;
        for (index, asked) in self.1.percentiles.iter().enumerate() {
            let interval = self.0.and_then(|found| found.intervals.get(index).copied().flatten());
            map.serialize_entry(
                &asked.name(),
                &interval.map(|(low, high)| (low / 1000.0, high / 1000.0)),
            )?;
        }
        map.end()
    }
}
