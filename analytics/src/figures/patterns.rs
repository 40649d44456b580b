//! What the samples have in common: lasting changes, habits of the week and the day, days that stand out, what rises
//! together, where on the way the time is spent, and what failures have in common.
//!
//! Every question that is asked yields a p-value, also where the answer is no; all of them together are corrected for
//! their number (Holm). What is left stands out more than chance would let anything stand out in one of twenty runs. And
//! a difference that is certain but small is not worth a sentence.

use std::{collections::BTreeMap, sync::Arc};

use mailqos_core::model::{Outcome, Stage, UtcMicros};

use super::{
    availability::Share,
    outages::Timeline,
    percentiles::percentiles,
    periods::{Period, Unit},
    series::{Metric, Series},
    significance::{self, LEVEL, median},
    trend,
};

/// Days that a question about days needs.
const DAYS: usize = 14;
/// Days that a question about weekdays needs: three weeks.
const WEEKS: usize = 21;
/// Values that a day or an hour needs to have a median.
const FEW: usize = 3;
/// A change or difference of less than this share of the level is not worth a sentence.
const WORTH: f64 = 0.05;
/// A correlation weaker than this explains next to nothing.
const LOOSE: f64 = 0.3;
/// Failures of fewer events have nothing in common that could be told from chance.
const EVENTS: u64 = 5;

/// A finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The site.
    pub site: Arc<str>,
    /// The monitor.
    pub monitor: Arc<str>,
    /// What was found.
    pub pattern: Pattern,
    /// How many questions were asked in all.
    pub questions: usize,
    /// The chance that anything as clear as this comes up by chance, after all questions that were asked.
    pub p: f64,
}

/// What can be found. Times are in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// A steady change.
    Trend {
        /// Of which metric.
        metric: Metric,
        /// A day.
        per_day: f64,
        /// Its 95 % confidence interval.
        interval: (f64, f64),
        /// The level at the first day.
        from: f64,
        /// The level at the last.
        to: f64,
        /// Days with values.
        days: usize,
    },
    /// A lasting shift.
    Shift {
        /// Of which metric.
        metric: Metric,
        /// The first day of the new level.
        at: UtcMicros,
        /// Median of the days before, since the shift before that.
        before: f64,
        /// Median of the days after, until the next shift.
        after: f64,
    },
    /// A weekday that differs from the others.
    Weekday {
        /// Of which metric.
        metric: Metric,
        /// Which: 1 for Monday to 7 for Sunday.
        day: i8,
        /// Its median.
        value: f64,
        /// The median of the other days.
        others: f64,
    },
    /// Hours that differ from the others.
    Hours {
        /// Of which metric.
        metric: Metric,
        /// The slowest hour of the day.
        slowest: u8,
        /// Its median.
        slow: f64,
        /// The fastest.
        fastest: u8,
        /// Its median.
        fast: f64,
    },
    /// A day unlike what its weekday and the level of the time let expect.
    Day {
        /// Of which metric.
        metric: Metric,
        /// When the day began.
        at: UtcMicros,
        /// Its median.
        value: f64,
        /// What was to be expected.
        expected: f64,
    },
    /// Two metrics that rise and fall together, by the hour.
    Correlation {
        /// The one.
        metric: Metric,
        /// The other.
        with: Metric,
        /// Spearman's coefficient.
        rho: f64,
        /// Hours.
        hours: usize,
    },
    /// The station of the way at which most of the time is spent.
    Hop {
        /// The server that wrote the stamp.
        by: Arc<str>,
        /// In how many mails it was the longest.
        longest: Share,
        /// Its median delay.
        delay: f64,
        /// Median of all delays of a mail together.
        way: f64,
    },
    /// The hour in which failures begin.
    FailureHour {
        /// From this hour to the next.
        hour: u8,
        /// How many began in it.
        events: u64,
        /// How many there were.
        of: u64,
        /// The share of the tests that lie in it.
        tests: f64,
    },
    /// The weekday on which failures begin.
    FailureWeekday {
        /// Which: 1 for Monday to 7 for Sunday.
        day: i8,
        /// How many began on it.
        events: u64,
        /// How many there were.
        of: u64,
        /// The share of the tests that lie on it.
        tests: f64,
    },
    /// How or where most failures happened.
    FailureKind {
        /// What became of the first test.
        outcome: Outcome,
        /// Where it failed.
        stage: Option<Stage>,
        /// How many, of how many.
        share: Share,
    },
    /// What the server replied when tests failed, and does not otherwise.
    FailureReply {
        /// The SMTP reply code.
        code: i32,
        /// How many, of how many.
        share: Share,
        /// The share of good tests that had it.
        good: f64,
    },
    /// A metric that is different while tests fail.
    FailureMetric {
        /// Which.
        metric: Metric,
        /// Median during failures.
        during: f64,
        /// Median of good tests.
        good: f64,
        /// How many failures.
        events: u64,
    },
}

impl Pattern {
    /// Its kind, in data.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trend { .. } => "trend",
            Self::Shift { .. } => "shift",
            Self::Weekday { .. } => "weekday",
            Self::Hours { .. } => "hours",
            Self::Day { .. } => "day",
            Self::Correlation { .. } => "correlation",
            Self::Hop { .. } => "hop",
            Self::FailureHour { .. } => "failure_hour",
            Self::FailureWeekday { .. } => "failure_weekday",
            Self::FailureKind { .. } => "failure_kind",
            Self::FailureReply { .. } => "failure_reply",
            Self::FailureMetric { .. } => "failure_metric",
        }
    }

    /// Whether it is about a change over time rather than a habit.
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Trend { .. } | Self::Shift { .. })
    }

    /// The metric that it is about, if any.
    pub fn metric(&self) -> Option<Metric> {
        match self {
            Self::Trend { metric, .. }
            | Self::Shift { metric, .. }
            | Self::Weekday { metric, .. }
            | Self::Hours { metric, .. }
            | Self::Day { metric, .. }
            | Self::Correlation { metric, .. }
            | Self::FailureMetric { metric, .. } => Some(*metric),
            _ => None,
        }
    }

    /// By how much it differs: a factor's logarithm, or a share; to sort by.
    pub fn effect(&self) -> f64 {
        let factor = |a: f64, b: f64| (a / b).ln().abs();
        let effect = match self {
            Self::Trend { from, to, .. } => factor(*to, *from),
            Self::Shift { before, after, .. } => factor(*after, *before),
            Self::Weekday { value, others, .. } => factor(*value, *others),
            Self::Hours { slow, fast, .. } => factor(*slow, *fast),
            Self::Day { value, expected, .. } => factor(*value, *expected),
            Self::Correlation { rho, .. } => rho.abs(),
            Self::Hop { longest, .. } => longest.value,
            Self::FailureHour { events, of, .. } | Self::FailureWeekday { events, of, .. } => {
                *events as f64 / *of as f64
            }
            Self::FailureKind { share, .. } | Self::FailureReply { share, .. } => share.value,
            Self::FailureMetric { during, good, .. } => factor(*during, *good),
        };
        if effect.is_finite() { effect } else { 0.0 }
    }
}

/// A question that was asked: how likely its answer is by chance, and what it says.
#[derive(Debug)]
struct Asked {
    p: f64,
    /// Several where one question has several answers, such as all shifts of a metric.
    says: Vec<Pattern>,
}

/// What was asked of one series.
#[derive(Debug)]
pub struct Answers {
    site: Arc<str>,
    monitor: Arc<str>,
    asked: Vec<Asked>,
}

/// All that stands out, the clearest first: changes before habits before failures of each monitor.
pub fn find(answers: Vec<Answers>) -> Vec<Found> {
    let values: Vec<f64> = answers
        .iter()
        .flat_map(|answers| answers.asked.iter().map(|asked| asked.p))
        .collect();
    let questions = values.len();
    let mut adjusted = significance::holm(&values).into_iter();
    let mut found = Vec::new();
    for answers in answers {
        for asked in answers.asked {
            let p = adjusted.next().unwrap_or(1.0);
            if p > LEVEL {
                continue;
            }
            found.extend(asked.says.into_iter().map(|pattern| Found {
                site: Arc::clone(&answers.site),
                monitor: Arc::clone(&answers.monitor),
                pattern,
                questions,
                p,
            }));
        }
    }
    found
}

/// Asks one series, of its samples in the period.
///
/// It needs the six metrics of the contracts; stages, reply codes and hops are used where they were read.
pub fn ask(series: &Series, period: &Period) -> Answers {
    let mut asked = Vec::new();
    let hours = Hourly::of(series, period);
    for metric in Metric::CONTRACT {
        levels(series, period, metric, &mut asked);
        hours.habit(metric, &mut asked);
    }
    for with in &Metric::CONTRACT[1..] {
        hours.correlation(*with, &mut asked);
    }
    hop(series, &mut asked);
    failures(series, period, &mut asked);
    Answers {
        site: Arc::clone(&series.site),
        monitor: Arc::clone(&series.monitor),
        asked,
    }
}

/// Whether two levels differ enough for a sentence.
fn worth(a: f64, b: f64) -> bool {
    a > 0.0 && b > 0.0 && (a / b).ln().abs() >= (1.0 + WORTH).ln()
}

/// The shifts of a metric in a period, by themselves: for the chart of one monitor.
pub fn shifts(found: &[Found], series: &Series, metric: Metric) -> Vec<(UtcMicros, f64, f64)> {
    found
        .iter()
        .filter(|found| found.site == series.site && found.monitor == series.monitor)
        .filter_map(|found| match &found.pattern {
            Pattern::Shift {
                metric: of,
                at,
                before,
                after,
            } if *of == metric => Some((*at, *before, *after)),
            _ => None,
        })
        .collect()
}

/// Slope, shifts, weekdays and single days of a metric, from its daily medians.
fn levels(series: &Series, period: &Period, metric: Metric, asked: &mut Vec<Asked>) {
    let mut days: Vec<(UtcMicros, i8, f64)> = Vec::new();
    let mut first = None;
    for (index, bucket) in period.buckets(Unit::Day).into_iter().enumerate() {
        let mut values = series.values(metric, series.rows(bucket.start, bucket.end));
        if values.len() >= FEW {
            first.get_or_insert(index);
            let weekday = period.calendar.zoned(bucket.start).weekday().to_monday_one_offset();
            days.push((bucket.start, weekday, percentiles(&mut values, &[0.5])[0]));
        }
    }
    if days.len() < DAYS {
        return;
    }
    // Days count from the first; a missing one leaves a gap.
    let origin = days[0].0;
    let x = |at: UtcMicros| (at - origin).0 as f64 / 86_400e6;
    let raw: Vec<f64> = days.iter().map(|(_, _, value)| *value).collect();
    let habit = weekdays(&days, &raw);
    let plain: Vec<(f64, f64)> = days
        .iter()
        .map(|(at, weekday, value)| (x(*at), value / habit[*weekday as usize - 1]))
        .collect();
    let values: Vec<f64> = plain.iter().map(|(_, y)| *y).collect();
    let Some(slope) = trend::slope(&plain) else { return };
    let places = trend::shifts(&values, 3);
    let level_of = level_around(&values, &places);
    let around_levels: Vec<f64> = values
        .iter()
        .zip(&level_of)
        .map(|(value, level)| value - level)
        .collect();
    let p_shift = trend::pettitt(&values, trend::inflation(&around_levels));
    let steps = !places.is_empty() && trend::steps_fit_better(&plain, &places, &slope);
    let says_shifts: Vec<Pattern> = places
        .iter()
        .filter(|_| steps)
        .map(|place| Pattern::Shift {
            metric,
            at: days[*place].0,
            before: level_of[place - 1],
            after: level_of[*place],
        })
        .filter(|shift| matches!(shift, Pattern::Shift { before, after, .. } if worth(*before, *after)))
        .collect();
    let last = plain.last().map_or(0.0, |(x, _)| *x);
    let (from, to) = (slope.at_first, slope.at_first + slope.per_unit * last);
    let says_trend = if !steps && worth(from, to) {
        vec![Pattern::Trend {
            metric,
            per_day: slope.per_unit,
            interval: slope.interval,
            from,
            to,
            days: days.len(),
        }]
    } else {
        Vec::new()
    };
    asked.push(Asked {
        p: slope.p,
        says: says_trend,
    });
    asked.push(Asked {
        p: p_shift,
        says: says_shifts,
    });
    // What is left without the change: by weekday, and each day by itself.
    let expected: Vec<f64> = if steps {
        level_of.clone()
    } else if slope.p <= LEVEL {
        plain.iter().map(|(x, _)| slope.at_first + slope.per_unit * x).collect()
    } else {
        vec![median(&mut values.clone()).unwrap_or(1.0); values.len()]
    };
    if days.len() >= WEEKS {
        let relative: Vec<f64> = raw.iter().zip(&expected).map(|(value, level)| value / level).collect();
        let mut groups = vec![Vec::new(); 7];
        for ((_, weekday, _), value) in days.iter().zip(&relative) {
            groups[*weekday as usize - 1].push(*value);
        }
        if let Some((day, value, others, p)) = extreme_day(&groups) {
            let level = median(&mut raw.clone()).unwrap_or(0.0);
            let says = worth(value, others).then_some(Pattern::Weekday {
                metric,
                day,
                value: value * level,
                others: others * level,
            });
            asked.push(Asked {
                p,
                says: says.into_iter().collect(),
            });
        }
    }
    let relative: Vec<f64> = values
        .iter()
        .zip(&expected)
        .map(|(value, level)| (value / level).max(1e-9).ln())
        .collect();
    asked.push(outlier(&relative, |index, _| Pattern::Day {
        metric,
        at: days[index].0,
        value: raw[index],
        expected: expected[index] * habit[days[index].1 as usize - 1],
    }));
}

/// How each weekday compares with the middle of its own week: 1 where there are too few weeks to say.
fn weekdays(days: &[(UtcMicros, i8, f64)], raw: &[f64]) -> [f64; 7] {
    let mut habit = [1.0; 7];
    if days.len() < WEEKS {
        return habit;
    }
    let mut by_weekday = vec![Vec::new(); 7];
    for (index, (_, weekday, value)) in days.iter().enumerate() {
        // Seven days around it, so that a change over the weeks is no habit.
        let from = index.saturating_sub(3).min(days.len() - 7);
        let around = median(&mut raw[from..from + 7].to_vec()).unwrap_or(1.0);
        if around > 0.0 {
            by_weekday[*weekday as usize - 1].push(value / around);
        }
    }
    for (habit, values) in habit.iter_mut().zip(&mut by_weekday) {
        if values.len() >= FEW
            && let Some(middle) = median(values).filter(|middle| *middle > 0.0)
        {
            *habit = middle;
        }
    }
    habit
}

/// The median of the level that each value belongs to.
fn level_around(values: &[f64], shifts: &[usize]) -> Vec<f64> {
    let mut edges = vec![0];
    edges.extend(shifts);
    edges.push(values.len());
    edges
        .windows(2)
        .flat_map(|pair| {
            let level = median(&mut values[pair[0]..pair[1]].to_vec()).unwrap_or(0.0);
            std::iter::repeat_n(level, pair[1] - pair[0])
        })
        .collect()
}

/// The weekday that differs most clearly from the others: its number, its median, theirs, and its chance, which counts
/// all seven.
fn extreme_day(groups: &[Vec<f64>]) -> Option<(i8, f64, f64, f64)> {
    (0..7_usize)
        .filter(|day| groups[*day].len() >= FEW)
        .filter_map(|day| {
            let mut others: Vec<f64> = (0..7)
                .filter(|other| *other != day)
                .flat_map(|other| groups[other].iter().copied())
                .collect();
            let p = (significance::mann_whitney(&groups[day], &others)? * 7.0).min(1.0);
            let value = median(&mut groups[day].clone())?;
            Some((day as i8 + 1, value, median(&mut others)?, p))
        })
        .min_by(|a, b| a.3.total_cmp(&b.3))
}

/// The value that stands out most, by its distance from the middle in robust deviations; its chance counts all values.
fn outlier(relative: &[f64], says: impl Fn(usize, f64) -> Pattern) -> Asked {
    let middle = median(&mut relative.to_vec()).unwrap_or(0.0);
    let mut distances: Vec<f64> = relative.iter().map(|value| (value - middle).abs()).collect();
    let spread = median(&mut distances).unwrap_or(0.0) * 1.482_602_218_505_602;
    let found = relative
        .iter()
        .enumerate()
        .map(|(index, value)| (index, (value - middle).abs()))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    let (Some((index, distance)), true) = (found, spread > 0.0) else {
        return Asked {
            p: 1.0,
            says: Vec::new(),
        };
    };
    // Deviations that were estimated from so few days make for heavier tails than the normal distribution's.
    let degrees = (relative.len() as f64 / 4.0).max(3.0);
    let p = (significance::student(distance / spread, degrees) * relative.len() as f64).min(1.0);
    let worth = distance >= (1.0 + WORTH).ln();
    Asked {
        p,
        says: worth.then(|| says(index, distance)).into_iter().collect(),
    }
}

/// Medians of each metric by the hour of local time.
struct Hourly {
    /// Number of the local day and hour of the day of each hour with samples.
    hours: Vec<(i64, u8)>,
    /// By metric of the contracts, then by hour.
    medians: Vec<Vec<Option<f64>>>,
}

impl Hourly {
    fn of(series: &Series, period: &Period) -> Self {
        let mut keys: Vec<(i64, u8, Vec<usize>)> = Vec::new();
        let mut offset = (i64::MIN, 0_i64);
        for row in series.counted() {
            let at = series.started_at[row];
            // Clocks change at full quarters of an hour of UTC.
            let quarter = at.div_euclid(900_000_000);
            if quarter != offset.0 {
                let seconds = period.timezone().to_offset(series.at(row).timestamp()).seconds();
                offset = (quarter, i64::from(seconds) * 1_000_000);
            }
            let local = at + offset.1;
            let (day, hour) = (
                local.div_euclid(86_400_000_000),
                (local.rem_euclid(86_400_000_000) / 3_600_000_000) as u8,
            );
            match keys.last_mut() {
                Some(last) if (last.0, last.1) == (day, hour) => last.2.push(row),
                _ => keys.push((day, hour, vec![row])),
            }
        }
        let medians = Metric::CONTRACT
            .iter()
            .map(|metric| {
                let column = series.metric(*metric);
                keys.iter()
                    .map(|(_, _, rows)| {
                        let mut values: Vec<f64> = rows
                            .iter()
                            .filter_map(|row| column.get(*row).map(|value| value.0 as f64))
                            .collect();
                        if values.len() >= FEW { median(&mut values) } else { None }
                    })
                    .collect()
            })
            .collect();
        Self {
            hours: keys.iter().map(|(day, hour, _)| (*day, *hour)).collect(),
            medians,
        }
    }

    /// Whether the hour of the day matters: hourly medians against the middle of their own day.
    fn habit(&self, metric: Metric, asked: &mut Vec<Asked>) {
        let Some(place) = Metric::CONTRACT.iter().position(|of| *of == metric) else {
            return;
        };
        let medians = &self.medians[place];
        let mut days: BTreeMap<i64, Vec<(u8, f64)>> = BTreeMap::new();
        for ((day, hour), value) in self.hours.iter().zip(medians) {
            if let Some(value) = value {
                days.entry(*day).or_default().push((*hour, *value));
            }
        }
        // Days that were seen in full: half a day would be compared with another middle.
        days.retain(|_, hours| hours.len() >= 18);
        if days.len() < DAYS / 2 {
            return;
        }
        let mut groups = vec![Vec::new(); 24];
        let mut middles = Vec::new();
        for hours in days.values() {
            let mut values: Vec<f64> = hours.iter().map(|(_, value)| *value).collect();
            let Some(middle) = median(&mut values).filter(|middle| *middle > 0.0) else {
                continue;
            };
            middles.push(middle);
            for (hour, value) in hours {
                groups[usize::from(*hour)].push(value / middle);
            }
        }
        let (Some(p), Some(level)) = (significance::kruskal_wallis(&groups), median(&mut middles)) else {
            return;
        };
        let mut of_hours: Vec<(u8, f64)> = groups
            .iter_mut()
            .enumerate()
            .filter(|(_, values)| values.len() >= FEW)
            .filter_map(|(hour, values)| Some((hour as u8, median(values)? * level)))
            .collect();
        of_hours.sort_by(|a, b| a.1.total_cmp(&b.1));
        let says = match (of_hours.first(), of_hours.last()) {
            // Of 24 hours one is always the slowest: it takes more to be worth a sentence.
            (Some((fastest, fast)), Some((slowest, slow))) if *slow >= *fast * (1.0 + 2.0 * WORTH) => {
                vec![Pattern::Hours {
                    metric,
                    slowest: *slowest,
                    slow: *slow,
                    fastest: *fastest,
                    fast: *fast,
                }]
            }
            _ => Vec::new(),
        };
        asked.push(Asked { p, says });
    }

    /// Whether the round trip rises and falls with another metric.
    fn correlation(&self, with: Metric, asked: &mut Vec<Asked>) {
        let place = |metric: Metric| Metric::CONTRACT.iter().position(|of| *of == metric);
        let (Some(trip), Some(other)) = (place(Metric::RoundTrip), place(with)) else {
            return;
        };
        let (a, b): (Vec<f64>, Vec<f64>) = self.medians[trip]
            .iter()
            .zip(&self.medians[other])
            .filter_map(|(a, b)| Some(((*a)?, (*b)?)))
            .unzip();
        if a.len() < 48 {
            return;
        }
        let Some((rho, p)) = significance::spearman(&a, &b) else {
            return;
        };
        let says = (rho.abs() >= LOOSE).then_some(Pattern::Correlation {
            metric: Metric::RoundTrip,
            with,
            rho,
            hours: a.len(),
        });
        asked.push(Asked {
            p,
            says: says.into_iter().collect(),
        });
    }
}

/// At which station most of the time is spent: the one that is the longest of a mail's way most often, against the next.
fn hop(series: &Series, asked: &mut Vec<Asked>) {
    let mut longest: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    let mut delays: BTreeMap<Arc<str>, Vec<f64>> = BTreeMap::new();
    let mut ways = Vec::new();
    for row in series.counted() {
        let Some(Some(hops)) = series.hops.get(row) else {
            continue;
        };
        let known: Vec<(&Arc<str>, i64)> = hops
            .iter()
            .filter(|hop| !hop.clock_suspect)
            .filter_map(|hop| Some((hop.by.as_ref()?, hop.delay?.0)))
            .filter(|(_, delay)| *delay >= 0)
            .collect();
        // With one station there is nothing to compare.
        if known.len() < 2 {
            continue;
        }
        ways.push(known.iter().map(|(_, delay)| *delay as f64).sum::<f64>());
        for (by, delay) in &known {
            delays.entry(Arc::clone(by)).or_default().push(*delay as f64);
        }
        let most = known.iter().map(|(_, delay)| *delay).max().unwrap_or(0);
        let mut at_most = known.iter().filter(|(_, delay)| *delay == most);
        // Stamps are of whole seconds: a tie says nothing.
        if let (Some((by, _)), None) = (at_most.next(), at_most.next()) {
            *longest.entry(Arc::clone(by)).or_default() += 1;
        }
    }
    let mut ranked: Vec<(&Arc<str>, u64)> = longest.iter().map(|(by, count)| (by, *count)).collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let Some((by, first)) = ranked.first().copied() else {
        return;
    };
    if delays.len() < 2 {
        return;
    }
    let second = ranked.get(1).map_or(0, |(_, count)| *count);
    // The sign test of the two, times the stations among which the first was chosen.
    let p = significance::binomial_at_least(first, first + second, 0.5) * 2.0 * delays.len() as f64;
    let share = Share::new(first, ways.len() as u64);
    let says = match (
        share,
        delays.get_mut(by).and_then(|delays| median(delays)),
        median(&mut ways),
    ) {
        (Some(share), Some(delay), Some(way)) if share.value >= 0.5 && delay > 0.0 => vec![Pattern::Hop {
            by: Arc::clone(by),
            longest: share,
            delay,
            way,
        }],
        _ => Vec::new(),
    };
    asked.push(Asked { p: p.min(1.0), says });
}

/// What failures have in common. Tests that fail in a row are one event: they are no witnesses of their own.
fn failures(series: &Series, period: &Period, asked: &mut Vec<Asked>) {
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
    let (mut by_hour, mut by_day) = ([0_u64; 24], [0_u64; 7]);
    let mut tests = 0_u64;
    for row in series.counted() {
        let local = local(row);
        by_hour[local.hour() as usize % 24] += 1;
        by_day[local.weekday().to_monday_zero_offset() as usize % 7] += 1;
        tests += 1;
    }
    let (mut event_hour, mut event_day) = ([0_u64; 24], [0_u64; 7]);
    for (row, ..) in &events {
        let local = local(*row);
        event_hour[local.hour() as usize % 24] += 1;
        event_day[local.weekday().to_monday_zero_offset() as usize % 7] += 1;
    }
    // The clearest of all hours; its chance counts all of them.
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
        asked.push(Asked {
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
        asked.push(Asked {
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
    during(series, &events, asked);
}

type Event = (usize, UtcMicros, Option<UtcMicros>);

/// Where most failures began, if it is more than half of them for sure.
fn kind(series: &Series, events: &[Event], asked: &mut Vec<Asked>) {
    let mut kinds: Vec<((Outcome, Option<Stage>), u64)> = Vec::new();
    for (row, ..) in events {
        let kind = (series.outcome[*row], series.stage.get(*row).copied().flatten());
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let Some(((outcome, stage), count)) = kinds.iter().max_by_key(|(_, count)| *count).copied() else {
        return;
    };
    let of = events.len() as u64;
    let p = significance::binomial_at_least(count, of, 0.5);
    // One kind only, as where there is no other way to fail, is a fact and no finding; but a stage is worth knowing.
    let says = (kinds.len() > 1 || stage.is_some())
        .then(|| Share::new(count, of))
        .flatten()
        .map(|share| Pattern::FailureKind { outcome, stage, share });
    asked.push(Asked {
        p,
        says: says.into_iter().collect(),
    });
}

/// A reply code that goes with failures.
fn reply(series: &Series, events: &[Event], asked: &mut Vec<Asked>) {
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
    asked.push(Asked {
        p: p.min(1.0),
        says: says.into_iter().collect(),
    });
}

/// Whether a phase takes longer or shorter while tests fail: the median of each event against hourly medians of good tests.
fn during(series: &Series, events: &[Event], asked: &mut Vec<Asked>) {
    for metric in &Metric::CONTRACT[1..] {
        let column = series.metric(*metric);
        let mut failing = Vec::new();
        for (row, from, to) in events {
            let mut values: Vec<f64> = (*row..series.inside.end)
                .take_while(|row| to.map_or(series.at(*row) == *from, |to| series.at(*row) < to))
                .filter(|row| series.counts(*row) && series.outcome[*row] != Outcome::Ok)
                .filter_map(|row| column.get(row).map(|value| value.0 as f64))
                .collect();
            failing.extend(median(&mut values));
        }
        if (failing.len() as u64) < EVENTS {
            continue;
        }
        let mut good = Vec::new();
        let mut hour: (i64, Vec<f64>) = (i64::MIN, Vec::new());
        for row in series.counted().filter(|row| series.outcome[*row] == Outcome::Ok) {
            let Some(value) = column.get(row) else { continue };
            let at = series.started_at[row].div_euclid(3_600_000_000);
            if at != hour.0 {
                good.extend(median(&mut hour.1));
                hour = (at, Vec::new());
            }
            hour.1.push(value.0 as f64);
        }
        good.extend(median(&mut hour.1));
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
        asked.push(Asked {
            p,
            says: says.into_iter().collect(),
        });
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use mailqos_core::model::Micros;

    use super::{
        super::{Calendar, Durations, series::HopDelay, service_level::SplitMix64},
        *,
    };

    /// Six weeks with a change of the clocks, in a zone that is 5:45 h off, or one that changes by half an hour.
    fn weeks(zone: &str) -> Period {
        Period::between(
            "2026-09-14",
            "2026-10-26",
            Calendar::new(TimeZone::get(zone).expect("a zone")),
        )
        .expect("six weeks")
    }

    struct Test {
        day: f64,
        hour: i8,
        weekday: i8,
        outcome: Outcome,
        metrics: [f64; 6],
    }

    /// A test every twenty minutes of pure noise, which `plant` may change.
    fn series(period: &Period, seed: u64, plant: impl Fn(&mut Test)) -> Series {
        let mut random = SplitMix64(seed);
        // The sum of twelve even draws is nearly normal.
        let mut normal = || {
            (0..12)
                .map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20))
                .sum::<f64>()
                - 6.0
        };
        let mut series = Series {
            site: "x".into(),
            monitor: "m".into(),
            ..Series::default()
        };
        let mut columns: [Vec<Option<i64>>; 6] = Default::default();
        let mut at = period.from;
        while at < period.to {
            let local = period.calendar.zoned(at);
            let mut test = Test {
                day: (at - period.from).0 as f64 / 86_400e6,
                hour: local.hour(),
                weekday: local.weekday().to_monday_one_offset(),
                outcome: if normal() > 2.9 { Outcome::Lost } else { Outcome::Ok },
                metrics: std::array::from_fn(|_| (normal() * 0.3).exp() * 1e6),
            };
            plant(&mut test);
            series.started_at.push(at.0);
            series.outcome.push(test.outcome);
            for (column, value) in columns.iter_mut().zip(test.metrics) {
                column.push(Some(value as i64));
            }
            at = at + mailqos_core::model::Micros::from_secs(1_200);
        }
        for (metric, column) in Metric::CONTRACT.iter().zip(columns) {
            let durations: Durations = column
                .into_iter()
                .map(|value| value.map(mailqos_core::model::Micros))
                .collect();
            series.metrics[*metric as usize] = durations;
        }
        series.excluded = vec![None; series.started_at.len()];
        series.inside = 0..series.len();
        series
    }

    fn found(period: &Period, series: &Series) -> Vec<Pattern> {
        find(vec![ask(series, period)])
            .into_iter()
            .map(|found| found.pattern)
            .collect()
    }

    #[test]
    fn of_noise_at_most_one_run_in_twenty_claims_anything() {
        let period = weeks("Europe/Berlin");
        let runs = 100;
        let claims = (0..runs)
            .filter(|seed| !found(&period, &series(&period, 1_000 + seed, |_| ())).is_empty())
            .count();
        assert!(claims <= 5, "{claims} of {runs} runs claim something");
    }

    #[test]
    fn a_planted_slope_is_found_with_its_figure() {
        let period = weeks("Asia/Kathmandu");
        // From 1 s by 1 % of it a day.
        let series = series(&period, 1, |test| test.metrics[0] *= 1.0 + 0.01 * test.day);
        let found = found(&period, &series);
        let [
            Pattern::Trend {
                metric,
                per_day,
                interval,
                from,
                to,
                days,
            },
        ] = &found[..]
        else {
            panic!("{found:?}")
        };
        assert_eq!((*metric, *days), (Metric::RoundTrip, 42));
        assert!((per_day - 10_000.0).abs() < 1_500.0, "{per_day} µs a day");
        assert!(interval.0 < 10_000.0 && 10_000.0 < interval.1, "{interval:?}");
        assert!((to / from - 1.41).abs() < 0.06, "{from} to {to}");
    }

    #[test]
    fn a_planted_step_is_found_on_its_day() {
        let period = weeks("Australia/Lord_Howe");
        let series = series(&period, 2, |test| {
            if test.day >= 17.0 {
                test.metrics[4] *= 1.5;
            }
        });
        let found = found(&period, &series);
        let [
            Pattern::Shift {
                metric,
                at,
                before,
                after,
            },
        ] = &found[..]
        else {
            panic!("{found:?}")
        };
        assert_eq!(*metric, Metric::PickupLogin);
        assert_eq!(period.calendar.zoned(*at).date(), jiff::civil::date(2026, 10, 1));
        assert!((after / before - 1.5).abs() < 0.05, "{before} to {after}");
    }

    #[test]
    fn a_planted_weekday_is_found() {
        let period = weeks("Europe/Berlin");
        let series = series(&period, 3, |test| {
            if test.weekday == 2 {
                test.metrics[0] *= 1.4;
            }
        });
        let found = found(&period, &series);
        let [Pattern::Weekday { day, value, others, .. }] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(*day, 2);
        // Six Tuesdays of noise: their median is known to some three per cent.
        assert!((value / others - 1.4).abs() < 0.1, "{value} against {others}");
    }

    #[test]
    fn a_planted_hour_is_found_in_local_time() {
        for zone in ["Australia/Lord_Howe", "Asia/Kathmandu", "Europe/Berlin"] {
            let period = weeks(zone);
            let series = series(&period, 4, |test| {
                if test.hour == 9 {
                    test.metrics[0] *= 1.6;
                }
            });
            // The other metrics are noise, of which one run in twenty may claim something.
            let mut found = found(&period, &series);
            found.retain(|pattern| pattern.metric() == Some(Metric::RoundTrip));
            let [Pattern::Hours { slowest, slow, .. }] = &found[..] else {
                panic!("{zone}: {found:?}")
            };
            assert_eq!(*slowest, 9, "{zone}");
            assert!((slow / 1.6e6 - 1.0).abs() < 0.05, "{zone}: {slow}");
        }
    }

    #[test]
    fn a_planted_correlation_is_found() {
        let period = weeks("Europe/Berlin");
        let series = series(&period, 5, |test| test.metrics[0] *= (test.metrics[4] / 1e6).powf(1.5));
        let found = found(&period, &series);
        let [Pattern::Correlation { with, rho, .. }] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(*with, Metric::PickupLogin);
        // Medians of three of either: less than the 0.8 of single tests.
        assert!((0.6..0.85).contains(rho), "{rho}");
    }

    #[test]
    fn failures_that_begin_at_night_are_found() {
        let period = weeks("Europe/Berlin");
        let series = series(&period, 6, |test| {
            test.outcome = if test.hour == 3 && test.day as i64 % 3 == 0 {
                Outcome::SmtpFailed
            } else {
                Outcome::Ok
            };
        });
        let found = found(&period, &series);
        assert!(
            matches!(
                &found[..],
                [Pattern::FailureHour {
                    hour: 3,
                    events: 14,
                    of: 14,
                    ..
                }]
            ),
            "{found:?}"
        );
    }

    #[test]
    fn a_planted_day_is_found() {
        let period = weeks("Asia/Kathmandu");
        let series = series(&period, 9, |test| {
            if test.day.floor() == 20.0 {
                test.metrics[1] *= 1.8;
            }
        });
        let found = found(&period, &series);
        let [
            Pattern::Day {
                metric,
                at,
                value,
                expected,
                ..
            },
        ] = &found[..]
        else {
            panic!("{found:?}")
        };
        assert_eq!(*metric, Metric::CONTRACT[1]);
        assert_eq!(period.calendar.zoned(*at).date(), jiff::civil::date(2026, 10, 4));
        assert!((value / expected - 1.8).abs() < 0.2, "{value} against {expected}");
    }

    #[test]
    fn the_station_where_mail_waits_is_found() {
        let period = weeks("Europe/Berlin");
        let mut series = series(&period, 10, |_| ());
        let hop = |by: &str, seconds| HopDelay {
            by: Some(by.into()),
            delay: Some(Micros::from_secs(seconds)),
            clock_suspect: false,
        };
        series.hops = (0..series.len())
            // Four of five mails wait at the filter, the fifth at the store.
            .map(|row| if row % 5 == 0 { (1, 3) } else { (3, 1) })
            .map(|(filter, store)| Some([hop("filter", filter), hop("store", store), hop("edge", 0)].into()))
            .collect();
        let found = found(&period, &series);
        let [
            Pattern::Hop {
                by,
                longest,
                delay,
                way,
            },
        ] = &found[..]
        else {
            panic!("{found:?}")
        };
        assert_eq!(&**by, "filter");
        assert!((longest.value - 0.8).abs() < 0.001, "{longest:?}");
        assert_eq!((*delay, *way), (3e6, 4e6));
        // All stations alike, in seconds: ties say nothing.
        series.hops.fill(Some([hop("filter", 1), hop("store", 1)].into()));
        assert_eq!(super::tests::found(&period, &series), []);
    }

    /// Every 97th test fails, each for itself, 32 in all: at which stage and with which reply says `of`.
    fn failing(seed: u64, of: impl Fn(usize) -> (Option<Stage>, Option<i32>)) -> (Period, Series) {
        let period = weeks("Europe/Berlin");
        let mut series = series(&period, seed, |test| test.outcome = Outcome::Ok);
        series.stage = vec![None; series.len()];
        series.smtp_reply_code = vec![Some(250); series.len()];
        // A number of tests that shares no factor with those of a day: at no hour, on no weekday.
        for (event, row) in (7..series.len()).step_by(97).enumerate() {
            series.outcome[row] = Outcome::SmtpFailed;
            (series.stage[row], series.smtp_reply_code[row]) = of(event);
        }
        (period, series)
    }

    #[test]
    fn the_stage_at_which_most_failures_begin_is_found() {
        let (period, series) = failing(11, |event| {
            let stage = if event % 10 == 0 {
                Stage::SmtpConnect
            } else {
                Stage::SmtpAuth
            };
            (Some(stage), None)
        });
        let found = found(&period, &series);
        let [Pattern::FailureKind { outcome, stage, share }] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((*outcome, *stage), (Outcome::SmtpFailed, Some(Stage::SmtpAuth)));
        assert_eq!((share.part, share.whole), (28, 32));
        // Half and half is no majority.
        let (period, series) = failing(11, |event| {
            let stage = if event % 2 == 0 {
                Stage::SmtpConnect
            } else {
                Stage::SmtpAuth
            };
            (Some(stage), None)
        });
        assert_eq!(super::tests::found(&period, &series), []);
    }

    #[test]
    fn the_reply_that_goes_with_failures_is_found() {
        let (period, series) = failing(12, |event| {
            let stage = if event % 2 == 0 {
                Stage::SmtpRcpt
            } else {
                Stage::SmtpData
            };
            (Some(stage), Some(if event % 4 == 0 { 421 } else { 451 }))
        });
        let found = found(&period, &series);
        let [Pattern::FailureReply { code, share, good }] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((*code, *good), (451, 0.0));
        assert!((share.value - 0.75).abs() < 0.03, "{share:?}");
    }

    #[test]
    fn next_to_nothing_says_nothing() {
        let period = weeks("Europe/Berlin");
        let whole = series(&period, 7, |_| ());
        for rows in [0..0_u32, 0..1, 0..40] {
            let few = whole.select(&rows.collect::<Vec<_>>());
            assert_eq!(found(&period, &few), []);
        }
        let lost = series(&period, 8, |test| test.outcome = Outcome::Lost);
        assert!(found(&period, &lost).iter().all(|pattern| pattern.effect().is_finite()));
    }
}
