//! What failures have in common: hour, weekday, stage, reply, and a metric that differs during
//! failures.

use std::{collections::BTreeMap, ops::Range};

use mailqos_lake_tables::{Metric, Series, Values};
use mailqos_model::{Outcome, Stage, UtcMicros};

use super::super::{
    availability::Share, outages::Timeline, periods::Period, significance, significance::median,
};
use super::{EVENTS, Hourly, Pattern, TestedPattern, worth};

/// Looks for what failures have in common. Consecutive failed tests are one event, because they are
/// not independent.
pub(super) fn failures(
    series: &Series,
    period: &Period,
    hours: &Hourly,
    asked: &mut Vec<TestedPattern>,
) {
    let timeline = Timeline::of(series, period, None);
    let events: Vec<(usize, UtcMicros, Option<UtcMicros>)> = timeline
        .outages
        .iter()
        .filter(|outage| series.inside.contains(&outage.row))
        .map(|outage| (outage.row, outage.from, outage.to))
        .collect();
    let of = events.len() as u64;
    if of < EVENTS {
        return;
    }
    let local = |row: usize| period.timezone().to_datetime(series.at(row).timestamp());
    let (by_hour, by_day) = hours.tests();
    let tests: u64 = by_hour.iter().sum();
    let (mut event_hour, mut event_day) = ([0_u64; 24], [0_u64; 7]);
    for (row, ..) in &events {
        let local = local(*row);
        event_hour[local.hour() as usize % 24] += 1;
        event_day[local.weekday().to_monday_zero_offset() as usize % 7] += 1;
    }
    // Finds the clearest of all hours; its p-value is corrected for all of them.
    let clearest = |events: &[u64], all: &[u64]| {
        (0..events.len())
            .map(|slot| {
                let share = all[slot] as f64 / tests.max(1) as f64;
                (slot, share, significance::binomial_at_least(events[slot], of, share))
            })
            .min_by(|a, b| a.2.total_cmp(&b.2))
            .map(|(slot, share, p)| (slot, share, (p * events.len() as f64).min(1.0)))
    };
    if let Some((hour, share, p)) = clearest(&event_hour, &by_hour) {
        asked.push(TestedPattern {
            p,
            says: vec![Pattern::FailureHour {
                hour: hour as u8,
                events: event_hour[hour],
                of,
                tests: share,
            }],
        });
    }
    if let Some((day, share, p)) = clearest(&event_day, &by_day) {
        asked.push(TestedPattern {
            p,
            says: vec![Pattern::FailureWeekday {
                day: day as i8 + 1,
                events: event_day[day],
                of,
                tests: share,
            }],
        });
    }
    kind(series, &events, asked);
    reply(series, &events, asked);
    during(series, hours, &events, asked);
}

type Event = (usize, UtcMicros, Option<UtcMicros>);

/// Finds where most failures began, if a significant majority did.
fn kind(series: &Series, events: &[Event], asked: &mut Vec<TestedPattern>) {
    let mut kinds: Vec<((Outcome, Option<Stage>), u64)> = Vec::new();
    for (row, ..) in events {
        let kind = (series.outcome[*row], series.stage.get(*row).copied().flatten());
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let Some(((outcome, stage), count)) = kinds.iter().max_by_key(|(_, count)| *count).copied()
    else {
        return;
    };
    let of = events.len() as u64;
    let p = significance::binomial_at_least(count, of, 0.5);
    // If there is only one kind of failure, that is a fact and not a finding, but its stage is
    // worth knowing.
    let says = (kinds.len() > 1 || stage.is_some())
        .then(|| Share::new(count, of))
        .flatten()
        .map(|share| Pattern::FailureKind { outcome, stage, share });
    asked.push(TestedPattern { p, says: says.into_iter().collect() });
}

/// Looks for a reply code that goes with failures.
fn reply(series: &Series, events: &[Event], asked: &mut Vec<TestedPattern>) {
    let code = |row: usize| series.smtp_reply_code.get(row).copied().flatten();
    let mut codes: BTreeMap<i32, u64> = BTreeMap::new();
    for (row, ..) in events {
        if let Some(code) = code(*row) {
            *codes.entry(code).or_default() += 1;
        }
    }
    let Some((wanted, count)) = codes
        .iter()
        .filter(|(code, _)| **code >= 400)
        .max_by_key(|(_, count)| **count)
        .map(|(code, count)| (*code, *count))
    else {
        return;
    };
    let (mut good, mut with) = (0_u64, 0_u64);
    for row in series.counted().filter(|row| series.outcome[*row] == Outcome::Ok) {
        good += 1;
        with += u64::from(code(row) == Some(wanted));
    }
    let of = events.len() as u64;
    let p = significance::fisher(count, of - count, with, good - with) * codes.len() as f64;
    let says = Share::new(count, of).map(|share| Pattern::FailureReply {
        code: wanted,
        share,
        good: with as f64 / good.max(1) as f64,
    });
    asked.push(TestedPattern { p: p.min(1.0), says: says.into_iter().collect() });
}

/// Tests whether a phase takes longer or shorter while tests fail: the median of each event against
/// hourly medians of good tests.
fn during(series: &Series, known: &Hourly, events: &[Event], asked: &mut Vec<TestedPattern>) {
    let counting = series.counting();
    let mut is_good = counting.clone();
    for (good, outcome) in is_good.iter_mut().zip(&series.outcome) {
        *good &= *outcome == Outcome::Ok;
    }
    let hours = hours(series);
    // In most hours no test fails, and their medians are known.
    let places: Vec<Option<usize>> = known
        .places(&hours)
        .into_iter()
        .zip(&hours)
        .map(|(place, rows)| place.filter(|_| counting[rows.clone()] == is_good[rows.clone()]))
        .collect();
    let mut values = Values::default();
    for metric in &Metric::CONTRACT[1..] {
        let column = series.metric(*metric);
        let mut failing = Vec::new();
        for (row, from, to) in events {
            let mut while_failing: Vec<f64> = (*row..series.inside.end)
                .take_while(|row| to.map_or(series.at(*row) == *from, |to| series.at(*row) < to))
                .filter(|row| series.counts(*row) && series.outcome[*row] != Outcome::Ok)
                .filter_map(|row| column.get(row).map(|value| value.0 as f64))
                .collect();
            failing.extend(median(&mut while_failing));
        }
        if (failing.len() as u64) < EVENTS {
            continue;
        }
        let mut good: Vec<f64> = Vec::new();
        for (rows, place) in hours.iter().zip(&places) {
            good.extend(place.and_then(|place| known.median(*metric, place)).or_else(|| {
                values.clear();
                series.values_into(*metric, rows.clone(), &is_good, &mut values);
                values.median()
            }));
        }
        let Some(p) = significance::mann_whitney(&failing, &good) else {
            continue;
        };
        let events = failing.len() as u64;
        let (Some(during), Some(good)) = (median(&mut failing), median(&mut good)) else {
            continue;
        };
        let says = worth(during, good).then_some(Pattern::FailureMetric {
            metric: *metric,
            during,
            good,
            events,
        });
        asked.push(TestedPattern { p, says: says.into_iter().collect() });
    }
}

/// Returns the rows of the period by the hour (UTC) in which their tests began, in order.
fn hours(series: &Series) -> Vec<Range<usize>> {
    let hour = |row: usize| series.started_at[row].div_euclid(3_600_000_000);
    let mut hours: Vec<Range<usize>> = Vec::new();
    for row in series.inside.clone() {
        match hours.last_mut() {
            Some(last) if hour(last.start) == hour(row) => last.end = row + 1,
            _ => hours.push(row..row + 1),
        }
    }
    hours
}
