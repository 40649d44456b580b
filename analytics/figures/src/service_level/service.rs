//! The time in which a service level applies: service hours without holidays, by local day.

use jiff::civil::Date;
use mailqos_config::ServiceLevel;
use mailqos_model::{Micros, UtcMicros};

use super::super::periods::{Calendar, Period, Unit};

const DAY: Micros = Micros::from_secs(86_400);

/// The service time of a period, by local day.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) stretches: Vec<(UtcMicros, UtcMicros)>,
    /// Each day's date, and its service time so far.
    pub(super) days: Vec<(Date, Micros)>,
    pub(super) whole: Micros,
    pub(super) until: UtcMicros,
    pub(super) calendar: Calendar,
}

impl Service {
    pub(super) fn of(level: &ServiceLevel, period: &Period, until: UtcMicros) -> Self {
        let stretches = level.hours.within(period.from, period.to);
        let calendar = period.calendar.clone();
        let days = period
            .buckets(Unit::Day)
            .into_iter()
            .map(|day| {
                let date = calendar.zoned(day.start.max(period.from)).date();
                (date, overlap(&stretches, day.start, day.end.min(until)))
            })
            .collect();
        Self {
            whole: overlap(&stretches, period.from, period.to),
            stretches,
            days,
            until,
            calendar,
        }
    }

    pub(super) fn covers(&self, at: UtcMicros) -> bool {
        let index = self.stretches.partition_point(|(from, _)| *from <= at);
        index > 0 && at < self.stretches[index - 1].1
    }

    pub(super) fn passed(&self) -> Micros {
        Micros(self.days.iter().map(|(_, service)| service.0).sum())
    }

    pub(super) fn day(&self, at: UtcMicros) -> Option<usize> {
        let date = self.calendar.zoned(at).date();
        self.days.binary_search_by(|(day, _)| day.cmp(&date)).ok()
    }

    /// Returns the start of the last 24 hours of service so far.
    pub(super) fn last_day(&self) -> UtcMicros {
        let mut left = DAY;
        for (from, to) in self.stretches.iter().rev() {
            let to = (*to).min(self.until);
            if *from >= to {
                continue;
            }
            if to - *from >= left {
                return to - left;
            }
            left = left - (to - *from);
        }
        self.stretches.first().map_or(self.until, |(from, _)| *from)
    }
}

/// Returns how much of a stretch overlaps sorted, disjoint stretches.
pub(super) fn overlap(
    stretches: &[(UtcMicros, UtcMicros)],
    from: UtcMicros,
    to: UtcMicros,
) -> Micros {
    let first = stretches.partition_point(|(_, end)| *end <= from);
    let sum = stretches[first..]
        .iter()
        .take_while(|(begin, _)| *begin < to)
        .map(|(begin, end)| ((*end).min(to) - (*begin).max(from)).0.max(0))
        .sum();
    Micros(sum)
}
