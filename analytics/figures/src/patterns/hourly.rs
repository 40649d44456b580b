//! Daily patterns and correlated metrics, from hourly medians.

use std::{collections::BTreeMap, ops::Range};

use super::super::{
    local_clock::{LocalClock, LocalTime},
    periods::Period,
    significance::{self, median},
};
use super::{DAYS, FEW, LOOSE, Pattern, TestedPattern, WORTH};
use mailqos_lake_tables::{Metric, Series, Values};

/// Medians of each metric by local hour.
pub(super) struct Hourly {
    /// Each hour with counted tests, and their number.
    hours: Vec<(LocalTime, u64)>,
    /// From the first to the last counted test of each hour.
    rows: Vec<Range<usize>>,
    /// By metric of `stats`, then by hour.
    medians: Vec<Vec<Option<f64>>>,
}

impl Hourly {
    /// Computes the hourly medians; `counting` is [`Series::counting`].
    pub(super) fn of(series: &Series, period: &Period, counting: &[bool]) -> Self {
        let mut clock = LocalClock::new(period.timezone());
        let mut hours: Vec<(LocalTime, u64)> = Vec::new();
        let mut rows_of: Vec<Range<usize>> = Vec::new();
        for row in series.inside.clone().filter(|row| counting[*row]) {
            let shown = clock.at(series.at(row));
            match (hours.last_mut(), rows_of.last_mut()) {
                (Some((last, count)), Some(rows)) if *last == shown => {
                    *count += 1;
                    rows.end = row + 1;
                }
                _ => {
                    hours.push((shown, 1));
                    rows_of.push(row..row + 1);
                }
            }
        }
        let mut values = Values::default();
        let mut median = |metric: Metric, rows: &Range<usize>| {
            values.clear();
            series.values_into(metric, rows.clone(), counting, &mut values);
            if values.len() >= FEW { values.median() } else { None }
        };
        let medians = Metric::CONTRACT
            .iter()
            .map(|metric| rows_of.iter().map(|rows| median(*metric, rows)).collect())
            .collect();
        Self { hours, rows: rows_of, medians }
    }

    /// Returns, for each of these ranges of rows in order, the position of the hour whose counted
    /// tests are exactly those of the range; none if it has other tests, too, or not all of them.
    pub(super) fn places(&self, ranges: &[Range<usize>]) -> Vec<Option<usize>> {
        let mut next = 0;
        let mut place = |range: &Range<usize>| {
            while self.rows.get(next).is_some_and(|rows| rows.end <= range.start) {
                next += 1;
            }
            let rows = self.rows.get(next)?;
            let is_within = range.start <= rows.start && rows.end <= range.end;
            let is_alone =
                self.rows.get(next + 1).is_none_or(|following| range.end <= following.start);
            (is_within && is_alone).then_some(next)
        };
        ranges.iter().map(&mut place).collect()
    }

    /// Returns the median of a metric of `stats` in an hour; `None` if it has too few values.
    pub(super) fn median(&self, metric: Metric, hour: usize) -> Option<f64> {
        let place = Metric::CONTRACT.iter().position(|of| *of == metric)?;
        *self.medians.get(place)?.get(hour)?
    }

    /// Returns the number of tests in each hour of the day, and on each weekday from Monday.
    pub(super) fn tests(&self) -> ([u64; 24], [u64; 7]) {
        let (mut by_hour, mut by_day) = ([0; 24], [0; 7]);
        for (shown, count) in &self.hours {
            by_hour[usize::from(shown.hour)] += count;
            by_day[shown.weekday()] += count;
        }
        (by_hour, by_day)
    }

    /// Tests whether the hour of the day matters: hourly medians against the median of their day.
    pub(super) fn habit(&self, metric: Metric, asked: &mut Vec<TestedPattern>) {
        let Some(place) = Metric::CONTRACT.iter().position(|of| *of == metric) else {
            return;
        };
        let medians = &self.medians[place];
        let mut days: BTreeMap<i64, Vec<(u8, f64)>> = BTreeMap::new();
        for ((shown, _), value) in self.hours.iter().zip(medians) {
            if let Some(value) = value {
                days.entry(shown.day).or_default().push((shown.hour, *value));
            }
        }
        // Complete days only: half a day would be compared with a different median.
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
        let (Some(p), Some(level)) = (significance::kruskal_wallis(&groups), median(&mut middles))
        else {
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
            // One of 24 hours is always the slowest, so the threshold is higher.
            (Some((fastest, fast)), Some((slowest, slow)))
                if *slow >= *fast * (1.0 + 2.0 * WORTH) =>
            {
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
        asked.push(TestedPattern { p, says });
    }

    /// Tests whether the round trip rises and falls with another metric.
    pub(super) fn correlation(&self, with: Metric, asked: &mut Vec<TestedPattern>) {
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
        asked.push(TestedPattern { p, says: says.into_iter().collect() });
    }
}
