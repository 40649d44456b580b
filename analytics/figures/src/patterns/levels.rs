//! Lasting changes, weekdays and single days of a metric, from its daily medians.

use mailqos_lake_tables::{Metric, Series, Values};
use mailqos_model::UtcMicros;

use super::super::{
    periods::{Period, Unit},
    significance::{self, LEVEL, median},
    trend,
};
use super::{DAYS, FEW, Pattern, TestedPattern, WEEKS, WORTH, worth};

/// A day: its beginning, its weekday (1 for Monday to 7 for Sunday) and its median.
type Day = (UtcMicros, i8, f64);

/// Tests slope, shifts, weekdays and single days of a metric, from its daily medians; `counting` is
/// [`Series::counting`].
pub(super) fn levels(
    series: &Series,
    period: &Period,
    metric: Metric,
    counting: &[bool],
    asked: &mut Vec<TestedPattern>,
) {
    let days = daily_medians(series, period, metric, counting);
    if days.len() < DAYS {
        return;
    }
    // Days are counted from the first; a missing one leaves a gap.
    let origin = days[0].0;
    let x = |at: UtcMicros| (at - origin).0 as f64 / 86_400e6;
    let raw: Vec<f64> = days.iter().map(|(_, _, value)| *value).collect();
    let habit = weekdays(&days, &raw);
    let plain: Vec<(f64, f64)> = days
        .iter()
        .map(|(at, weekday, value)| (x(*at), value / habit[*weekday as usize - 1]))
        .collect();
    // The remainder without the change: by weekday, and by day.
    let Some(expected) = changes(&days, &plain, metric, asked) else {
        return;
    };
    asked.extend(weekday(&days, &expected, metric));
    let relative: Vec<f64> = plain
        .iter()
        .zip(&expected)
        .map(|((_, value), level)| (value / level).max(1e-9).ln())
        .collect();
    asked.push(outlier(&relative, |index, _| Pattern::Day {
        metric,
        at: days[index].0,
        value: raw[index],
        expected: expected[index] * habit[days[index].1 as usize - 1],
    }));
}

/// Returns the medians of days with enough values.
fn daily_medians(series: &Series, period: &Period, metric: Metric, counting: &[bool]) -> Vec<Day> {
    let mut days = Vec::new();
    let mut values = Values::default();
    for bucket in period.buckets(Unit::Day) {
        values.clear();
        series.values_into(metric, series.rows(bucket.start, bucket.end), counting, &mut values);
        if values.len() >= FEW
            && let Some(median) = values.median()
        {
            let weekday = period.calendar.zoned(bucket.start).weekday().to_monday_one_offset();
            days.push((bucket.start, weekday, median));
        }
    }
    days
}

/// Tests for a slope and for shifts of the level; `plain` are the values of the days without the
/// habits of weekdays. Returns the level of each day that the change explains.
fn changes(
    days: &[Day],
    plain: &[(f64, f64)],
    metric: Metric,
    asked: &mut Vec<TestedPattern>,
) -> Option<Vec<f64>> {
    let values: Vec<f64> = plain.iter().map(|(_, y)| *y).collect();
    let slope = trend::slope(plain)?;
    let places = trend::shifts(&values, 3);
    let level_of = level_around(&values, &places);
    let around_levels: Vec<f64> =
        values.iter().zip(&level_of).map(|(value, level)| value - level).collect();
    let p_shift = trend::pettitt(&values, trend::inflation(&around_levels));
    let steps = !places.is_empty() && trend::steps_fit_better(plain, &places, &slope);
    let says_shifts: Vec<Pattern> = places
        .iter()
        .filter(|_| steps)
        .map(|place| Pattern::Shift {
            metric,
            at: days[*place].0,
            before: level_of[place - 1],
            after: level_of[*place],
        })
        .filter(
            |shift| matches!(shift, Pattern::Shift { before, after, .. } if worth(*before, *after)),
        )
        .collect();
    let last = plain.last().map_or(0.0, |(x, _)| *x);
    let (from, to) = (slope.at_first, slope.at_first + slope.per_unit * last);
    let says_trend = (!steps && worth(from, to)).then_some(Pattern::Trend {
        metric,
        per_day: slope.per_unit,
        interval: slope.interval,
        from,
        to,
        days: days.len(),
    });
    asked.push(TestedPattern { p: slope.p, says: says_trend.into_iter().collect() });
    asked.push(TestedPattern { p: p_shift, says: says_shifts });
    Some(if steps {
        level_of
    } else if slope.p <= LEVEL {
        plain.iter().map(|(x, _)| slope.at_first + slope.per_unit * x).collect()
    } else {
        vec![median(&mut values.clone()).unwrap_or(1.0); values.len()]
    })
}

/// Tests for a weekday that differs from the others, by the ratio of each day to its expected
/// level.
fn weekday(days: &[Day], expected: &[f64], metric: Metric) -> Option<TestedPattern> {
    if days.len() < WEEKS {
        return None;
    }
    let mut groups = vec![Vec::new(); 7];
    for ((_, weekday, value), level) in days.iter().zip(expected) {
        groups[*weekday as usize - 1].push(value / level);
    }
    let (day, value, others, p) = extreme_day(&groups)?;
    let level =
        median(&mut days.iter().map(|(_, _, value)| *value).collect::<Vec<_>>()).unwrap_or(0.0);
    let says = worth(value, others).then_some(Pattern::Weekday {
        metric,
        day,
        value: value * level,
        others: others * level,
    });
    Some(TestedPattern { p, says: says.into_iter().collect() })
}

/// Returns how each weekday compares with the median of its week: 1 if there are too few weeks.
fn weekdays(days: &[Day], raw: &[f64]) -> [f64; 7] {
    let mut habit = [1.0; 7];
    if days.len() < WEEKS {
        return habit;
    }
    let mut by_weekday = vec![Vec::new(); 7];
    for (index, (_, weekday, value)) in days.iter().enumerate() {
        // Use the seven days around it, so that a change over the weeks does not look like a weekly
        // pattern.
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

/// Returns the median of the level that each value belongs to.
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

/// Returns the weekday that differs most clearly from the others: its number, its median, theirs,
/// and its p-value, corrected for all seven.
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

/// Returns the value that stands out most, by its distance from the median in robust deviations;
/// its p-value is corrected for all values.
fn outlier(relative: &[f64], says: impl Fn(usize, f64) -> Pattern) -> TestedPattern {
    let middle = median(&mut relative.to_vec()).unwrap_or(0.0);
    let mut distances: Vec<f64> = relative.iter().map(|value| (value - middle).abs()).collect();
    let spread = median(&mut distances).unwrap_or(0.0) * 1.482_602_218_505_602;
    let found = relative
        .iter()
        .enumerate()
        .map(|(index, value)| (index, (value - middle).abs()))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    let (Some((index, distance)), true) = (found, spread > 0.0) else {
        return TestedPattern { p: 1.0, says: Vec::new() };
    };
    // Deviations estimated from only a few days have heavier tails than the normal distribution.
    let degrees = (relative.len() as f64 / 4.0).max(3.0);
    let p = (significance::student(distance / spread, degrees) * relative.len() as f64).min(1.0);
    let worth = distance >= (1.0 + WORTH).ln();
    TestedPattern { p, says: worth.then(|| says(index, distance)).into_iter().collect() }
}
