//! Periods and their buckets: half-open spans of local calendar time, correct across
//! daylight-saving changes.

use std::ops::Range;

use jiff::{
    Span, ZonedDateTime as Zoned,
    civil::{Date, Time, Weekday, date},
    tz::TimeZone,
};
use mailqos_model::{Micros, UtcMicros};

/// How local time is divided: the zone, the first day of the week, the first month of the year.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// The zone in which days begin and end.
    pub timezone: TimeZone,
    /// The first day of the week; Monday by ISO 8601.
    pub week_start: Weekday,
    /// The first month of a (fiscal) year, from 1 to 12; quarters follow from it.
    pub year_start: i8,
}

impl Calendar {
    /// Creates a calendar with ISO weeks and calendar years in this zone.
    pub fn new(timezone: TimeZone) -> Self {
        Self { timezone, week_start: Weekday::Monday, year_start: 1 }
    }

    /// Returns the moment in this calendar's zone.
    pub fn zoned(&self, moment: UtcMicros) -> Zoned {
        Zoned::new(moment.timestamp(), self.timezone.clone())
    }

    /// Returns the first moment of a local date; if midnight is skipped, the moment after the gap.
    pub fn midnight(&self, date: Date) -> UtcMicros {
        match date.to_zoned_datetime(self.timezone.clone()) {
            Ok(zoned) => zoned.timestamp().into(),
            // Outside jiff's range: the nearest moment in it.
            Err(_) if date.year() < 0 => UtcMicros(jiff::Timestamp::MIN.as_microsecond()),
            Err(_) => UtcMicros(jiff::Timestamp::MAX.as_microsecond()),
        }
    }

    /// Returns the first local date of the day, week, month, quarter or year that contains a date.
    pub fn first_date(&self, unit: Unit, day: Date) -> Date {
        let back = |days: i32| day.saturating_sub(Span::new().days(days));
        let months_into_year = i32::from((day.month() - self.year_start).rem_euclid(12));
        match unit {
            Unit::Hour | Unit::Day => day,
            Unit::Week => back(i32::from(day.weekday().since(self.week_start))),
            Unit::Month => day.first_of_month(),
            Unit::Quarter => {
                day.first_of_month().saturating_sub(Span::new().months(months_into_year % 3))
            }
            Unit::Year => day.first_of_month().saturating_sub(Span::new().months(months_into_year)),
        }
    }

    /// Returns the start of the bucket that contains a moment.
    ///
    /// An hour begins when the local clock shows a full hour. The hour that is repeated when clocks
    /// go back is a separate bucket (with a different offset); in zones that change by half an hour
    /// it lasts 90 or 30 minutes.
    pub fn start_of(&self, unit: Unit, moment: UtcMicros) -> UtcMicros {
        let zoned = self.zoned(moment);
        if unit == Unit::Hour {
            let Ok(hour) = Time::new(zoned.hour(), 0, 0, 0) else {
                return moment;
            };
            // Keeps the offset of the moment if the full hour has it, too; otherwise uses that of
            // the hour.
            return zoned
                .with()
                .time(hour)
                .build()
                .map_or(moment, |start| start.timestamp().into());
        }
        self.midnight(self.first_date(unit, zoned.date()))
    }

    /// Returns the start of the bucket after the one that starts at `start`.
    pub fn next(&self, unit: Unit, start: UtcMicros) -> UtcMicros {
        if unit == Unit::Hour {
            // Half an hour is the smallest clock change today; two hours later another bucket has
            // certainly begun.
            return (1..=4)
                .map(|halves| self.start_of(unit, start + Micros::from_secs(halves * 1800)))
                .find(|next| *next > start)
                .unwrap_or(start + Micros::from_secs(3600));
        }
        let day = self.zoned(start).date();
        let next = self.midnight(day.saturating_add(unit.span(1)));
        // Only at the end of jiff's range.
        if next > start { next } else { UtcMicros(i64::MAX) }
    }
}

/// Units that a period can be divided into.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A local hour.
    Hour,
    /// A local day of 23, 24 or 25 hours.
    Day,
    /// Seven days from the calendar's first day of the week.
    Week,
    /// A calendar month.
    Month,
    /// Three months from the calendar's first month of the year.
    Quarter,
    /// Twelve months from the calendar's first month of the year.
    Year,
}

impl Unit {
    fn span(self, count: i64) -> Span {
        match self {
            Self::Hour => Span::new().hours(count),
            Self::Day => Span::new().days(count),
            Self::Week => Span::new().weeks(count),
            Self::Month => Span::new().months(count),
            Self::Quarter => Span::new().months(count.saturating_mul(3)),
            Self::Year => Span::new().years(count),
        }
    }
}

/// A half-open span of time `[from, to)` in a calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// Start, inclusive.
    pub from: UtcMicros,
    /// End, exclusive.
    pub to: UtcMicros,
    /// How its local time is divided.
    pub calendar: Calendar,
    /// Step back to the previous period; `None` if it follows from start and end.
    step: Option<(Unit, i64)>,
}

impl From<&Period> for Range<UtcMicros> {
    fn from(period: &Period) -> Self {
        period.from..period.to
    }
}

impl From<Period> for Range<UtcMicros> {
    fn from(period: Period) -> Self {
        period.from..period.to
    }
}

/// Why a period is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// It would be empty.
    #[error("the period is empty: its end ({to}) must be after its start ({from})")]
    Empty {
        /// Its start.
        from: String,
        /// Its end.
        to: String,
    },
    /// Not a known name.
    #[error(
        "{0:?} is not a period; use last-month, current-week, last-7d, today, yesterday, month-to-date, \
         2026-03, 2026-W09, 2026-Q1 or 2026"
    )]
    Name(String),
    /// Neither a date nor a moment.
    #[error(
        "{0:?} is not a date; use a date such as 2026-03-31, or a time such as 2026-03-31T08:00:00Z"
    )]
    Date(String),
}

/// The units of rolling periods, by their common names.
const ROLLING: [(&str, &str); 10] = [
    ("hours", "h"),
    ("hour", "h"),
    ("days", "d"),
    ("day", "d"),
    ("weeks", "w"),
    ("week", "w"),
    ("months", "m"),
    ("month", "m"),
    ("years", "y"),
    ("year", "y"),
];

/// Normalises a period's name: `last-month` for `Last_Month` and `previous month`, `last-7d` for
/// `last 7 days`.
fn usual_name(name: &str) -> String {
    let plain = name.trim().to_lowercase();
    let words: Vec<&str> = plain
        .split(|c: char| c.is_whitespace() || matches!(c, '-' | '_'))
        .filter(|word| !word.is_empty())
        .collect();
    let first = match words.first() {
        Some(&("previous" | "past")) => "last",
        Some(&"this") => "current",
        Some(word) => word,
        None => return plain,
    };
    // `-to-date` is not a period, so a text that begins or ends with a sign stays as it is.
    if plain.starts_with(['-', '_']) || plain.ends_with(['-', '_']) {
        return plain;
    }
    let mut words = words;
    words[0] = first;
    let rolling = |count: &str, unit: &str| {
        let (_, short) = ROLLING.iter().find(|(long, _)| *long == unit)?;
        count.parse::<u32>().ok().map(|count| format!("last-{count}{short}"))
    };
    let found = match words[..] {
        ["last", count, unit] => rolling(count, unit),
        ["last", together] => {
            let digits = together.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
            rolling(&together[..digits], &together[digits..])
        }
        ["mtd"] => Some("month-to-date".to_owned()),
        ["qtd"] => Some("quarter-to-date".to_owned()),
        ["ytd"] => Some("year-to-date".to_owned()),
        _ => None,
    };
    found.unwrap_or_else(|| words.join("-"))
}

/// Returns the name of a period that is most similar to an invalid one.
pub fn period_like(text: &str) -> Option<&'static str> {
    const KNOWN: [&str; 19] = [
        "last-hour",
        "last-day",
        "last-week",
        "last-month",
        "last-quarter",
        "last-year",
        "last-24h",
        "last-7d",
        "last-30d",
        "current-day",
        "current-week",
        "current-month",
        "current-quarter",
        "current-year",
        "month-to-date",
        "quarter-to-date",
        "year-to-date",
        "today",
        "yesterday",
    ];
    let text = usual_name(text);
    let word = match text.as_str() {
        "hourly" => "last-hour",
        "daily" | "day" => "yesterday",
        "weekly" | "week" => "last-week",
        "monthly" | "month" => "last-month",
        "quarterly" | "quarter" => "last-quarter",
        "yearly" | "annual" | "annually" | "year" => "last-year",
        other => other,
    };
    mailqos_config::nearest(word, KNOWN.into_iter())
}

/// One part of a period. If the period begins or ends within it, samples outside the period do not
/// belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Its start.
    pub start: UtcMicros,
    /// Its end, exclusive.
    pub end: UtcMicros,
}

impl Period {
    /// Creates the period between two moments.
    ///
    /// # Errors
    /// It would be empty.
    pub fn new(from: UtcMicros, to: UtcMicros, calendar: Calendar) -> Result<Self, PeriodError> {
        if from >= to {
            return Err(PeriodError::Empty {
                from: calendar.zoned(from).to_string(),
                to: calendar.zoned(to).to_string(),
            });
        }
        Ok(Self { from, to, calendar, step: None })
    }

    /// Creates the period between two dates (or RFC 3339 moments) as a person writes them; `to` is
    /// exclusive.
    ///
    /// # Errors
    /// The dates are not valid, or there is nothing between them.
    pub fn between(from: &str, to: &str, calendar: Calendar) -> Result<Self, PeriodError> {
        let moment = |text: &str| -> Result<UtcMicros, PeriodError> {
            if let Ok(date) = text.parse::<Date>()
                && !text.contains(['T', 't', ' '])
            {
                return Ok(calendar.midnight(date));
            }
            if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
                return Ok(timestamp.into());
            }
            text.parse::<jiff::civil::DateTime>()
                .ok()
                .and_then(|local| local.to_zoned_datetime(calendar.timezone.clone()).ok())
                .map(|zoned| zoned.timestamp().into())
                .ok_or_else(|| PeriodError::Date(text.to_owned()))
        };
        let (first, last) = (moment(from)?, moment(to)?);
        if first >= last {
            return Err(PeriodError::Empty { from: from.to_owned(), to: to.to_owned() });
        }
        Self::new(first, last, calendar)
    }

    /// Parses the name of a period, relative to `now`: `last-month`, `current-week`, `last-7d`,
    /// `last-24h`, `today`, `yesterday`, `month-to-date`, `2026-03`, `2026-W09`, `2026-Q1`, `2026`,
    /// `2026-03-31`.
    ///
    /// `last-7d` are the seven whole days before today; a `current-` period ends with its unit,
    /// `-to-date` at `now`.
    ///
    /// # Errors
    /// The name is not known.
    pub fn named(name: &str, now: UtcMicros, calendar: Calendar) -> Result<Self, PeriodError> {
        let wrong = || PeriodError::Name(name.to_owned());
        let name = &usual_name(name);
        let unit = |word: &str| match word {
            "hour" => Some(Unit::Hour),
            "day" => Some(Unit::Day),
            "week" => Some(Unit::Week),
            "month" => Some(Unit::Month),
            "quarter" => Some(Unit::Quarter),
            "year" => Some(Unit::Year),
            _ => None,
        };
        let name_of_day = match name.as_str() {
            "today" => "current-day",
            "yesterday" => "last-day",
            other => other,
        };
        let (from, to, step) =
            if let Some(unit) = name_of_day.strip_prefix("current-").and_then(unit) {
                let start = calendar.start_of(unit, now);
                (start, calendar.next(unit, start), (unit, 1))
            } else if let Some(unit) = name_of_day.strip_suffix("-to-date").and_then(unit) {
                (calendar.start_of(unit, now), now, (unit, 1))
            } else if let Some(unit) = name_of_day.strip_prefix("last-").and_then(unit) {
                let end = calendar.start_of(unit, now);
                (calendar.start_of(unit, UtcMicros(end.0 - 1)), end, (unit, 1))
            } else if let Some(rolling) = name_of_day.strip_prefix("last-") {
                let (digits, unit) = rolling
                    .split_at(rolling.len() - rolling.chars().last().map_or(0, char::len_utf8));
                let count: i64 =
                    digits.parse().ok().filter(|n| (1..=10_000).contains(n)).ok_or_else(wrong)?;
                let unit = match unit {
                    "h" => Unit::Hour,
                    "d" => Unit::Day,
                    "w" => Unit::Week,
                    "m" => Unit::Month,
                    "y" => Unit::Year,
                    _ => return Err(wrong()),
                };
                if unit == Unit::Hour {
                    let end = calendar.start_of(unit, now);
                    (end - Micros::from_secs(count * 3600), end, (unit, count))
                } else {
                    // Rolling: whole days before today, not whole units.
                    let today = calendar.zoned(now).date();
                    let first = today.saturating_sub(unit.span(count));
                    (calendar.midnight(first), calendar.midnight(today), (unit, count))
                }
            } else {
                return Self::written(name, calendar).ok_or_else(wrong)?;
            };
        let mut period = Self::new(from, to, calendar)?;
        period.step = Some(step);
        Ok(period)
    }

    /// Parses `2026`, `2026-Q1`, `2026-03`, `2026-W09`, `2026-03-31`.
    fn written(name: &str, calendar: Calendar) -> Option<Result<Self, PeriodError>> {
        let (year, rest) = name.split_at_checked(4)?;
        let year: i16 = year.parse().ok().filter(|year| *year > 0)?;
        let start_month = calendar.year_start;
        let (first, unit) = match rest.strip_prefix('-') {
            None if rest.is_empty() => (date(year, start_month, 1), Unit::Year),
            None => return None,
            Some(quarter) if quarter.starts_with('q') => {
                let quarter: i64 = quarter[1..].parse().ok().filter(|n| (1..=4).contains(n))?;
                let first = date(year, start_month, 1)
                    .saturating_add(Span::new().months((quarter - 1) * 3));
                (first, Unit::Quarter)
            }
            Some(week) if week.starts_with('w') => {
                let week: i8 = week[1..].parse().ok()?;
                let monday = jiff::civil::ISOWeekDate::new(year, week, Weekday::Monday).ok()?;
                (calendar.first_date(Unit::Week, monday.date()), Unit::Week)
            }
            Some(month) if month.len() == 2 => {
                (Date::new(year, month.parse().ok()?, 1).ok()?, Unit::Month)
            }
            Some(_) => (name.parse().ok()?, Unit::Day),
        };
        let from = calendar.midnight(first);
        let to = calendar.next(unit, from);
        Some(Self::new(from, to, calendar).map(|mut period| {
            period.step = Some((unit, 1));
            period
        }))
    }

    /// Returns the zone of its days.
    pub fn timezone(&self) -> &TimeZone {
        &self.calendar.timezone
    }

    /// Returns its length.
    pub fn duration(&self) -> Micros {
        self.to - self.from
    }

    /// Returns whether it contains a moment.
    pub fn contains(&self, moment: UtcMicros) -> bool {
        self.from <= moment && moment < self.to
    }

    /// Returns its part before a moment, such as now; `None` if it is entirely after it.
    pub fn until(&self, moment: UtcMicros) -> Option<Self> {
        (self.from < moment).then(|| Self { to: self.to.min(moment), ..self.clone() })
    }

    /// Returns the preceding period, which is as long by the calendar: the month before a month,
    /// the week before a week.
    pub fn previous(&self) -> Self {
        let (unit, count) = self.step();
        self.back(unit, count)
    }

    /// Returns the same period a year earlier; for a week or some days, 52 weeks earlier, so that
    /// weekdays match.
    pub fn year_ago(&self) -> Self {
        match self.step() {
            (Unit::Month | Unit::Quarter | Unit::Year, _) => self.back(Unit::Year, 1),
            _ => self.back(Unit::Week, 52),
        }
    }

    /// Returns the step to the preceding period: whole months if it begins and ends with months,
    /// whole days if with days.
    fn step(&self) -> (Unit, i64) {
        if let Some(step) = self.step {
            return step;
        }
        let (from, to) = (self.calendar.zoned(self.from), self.calendar.zoned(self.to));
        let at_midnight = |zoned: &Zoned| {
            self.calendar.midnight(zoned.date()) == UtcMicros::from(zoned.timestamp())
        };
        if !(at_midnight(&from) && at_midnight(&to)) {
            return (Unit::Hour, 0);
        }
        if from.day() == 1 && to.day() == 1 {
            let months = i64::from(to.year() - from.year()) * 12 + i64::from(to.month())
                - i64::from(from.month());
            return (Unit::Month, months);
        }
        let days = from.date().until(to.date()).map_or(0, |span| i64::from(span.get_days()));
        (Unit::Day, days)
    }

    fn back(&self, unit: Unit, count: i64) -> Self {
        let earlier = |moment: UtcMicros| {
            if unit == Unit::Hour {
                return moment
                    - if count == 0 { self.duration() } else { Micros::from_secs(count * 3600) };
            }
            let zoned = self.calendar.zoned(moment);
            let day = zoned.date().saturating_sub(unit.span(count));
            if self.calendar.midnight(zoned.date()) == moment {
                return self.calendar.midnight(day);
            }
            day.to_datetime(zoned.time())
                .to_zoned_datetime(self.calendar.timezone.clone())
                .map_or(moment, |zoned| zoned.timestamp().into())
        };
        Self { from: earlier(self.from), to: earlier(self.to), ..self.clone() }
    }

    /// Returns the buckets that overlap it, in order. The first and the last may extend beyond it.
    pub fn buckets(&self, unit: Unit) -> Vec<Bucket> {
        let mut buckets = Vec::new();
        let mut start = self.calendar.start_of(unit, self.from);
        while start < self.to {
            let end = self.calendar.next(unit, start);
            buckets.push(Bucket { start, end });
            start = end;
        }
        buckets
    }
}

/// `2026-03-01 to 2026-04-01 (Europe/Berlin)`; with times if it does not begin and end with days.
impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = (self.calendar.zoned(self.from), self.calendar.zoned(self.to));
        let zone = self.timezone().iana_name().unwrap_or("local time");
        if self.calendar.midnight(from.date()) == self.from
            && self.calendar.midnight(to.date()) == self.to
        {
            write!(f, "{} to {} ({zone})", from.date(), to.date())
        } else {
            write!(f, "{} to {} ({zone})", from.strftime("%F %T"), to.strftime("%F %T"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(zone: &str) -> Calendar {
        Calendar::new(TimeZone::get(zone).expect("a zone"))
    }

    /// Returns a period's start and end in its zone.
    fn edges(period: &Period) -> (String, String) {
        let edge = |at| period.calendar.zoned(at).strftime("%Y-%m-%dT%H:%M%:z").to_string();
        (edge(period.from), edge(period.to))
    }

    fn named(name: &str, now: &str, calendar: Calendar) -> Period {
        let now = now.parse::<jiff::Timestamp>().expect("a moment").into();
        Period::named(name, now, calendar).expect(name)
    }

    fn pair(from: &str, to: &str) -> (String, String) {
        (from.to_owned(), to.to_owned())
    }

    #[test]
    fn names_follow_local_time_and_the_calendar() {
        // In Kathmandu (+05:45) it is already the 1st of July, a Wednesday.
        let now = "2026-06-30T18:30:00Z";
        let kathmandu = || calendar("Asia/Kathmandu");
        let fiscal = Calendar { year_start: 4, week_start: Weekday::Saturday, ..kathmandu() };
        for (name, calendar, from, to) in [
            ("today", kathmandu(), "2026-07-01T00:00+05:45", "2026-07-02T00:00+05:45"),
            ("yesterday", kathmandu(), "2026-06-30T00:00+05:45", "2026-07-01T00:00+05:45"),
            ("current-week", kathmandu(), "2026-06-29T00:00+05:45", "2026-07-06T00:00+05:45"),
            ("last-week", fiscal.clone(), "2026-06-20T00:00+05:45", "2026-06-27T00:00+05:45"),
            ("last-month", kathmandu(), "2026-06-01T00:00+05:45", "2026-07-01T00:00+05:45"),
            ("current-quarter", kathmandu(), "2026-07-01T00:00+05:45", "2026-10-01T00:00+05:45"),
            ("last-quarter", fiscal.clone(), "2026-04-01T00:00+05:45", "2026-07-01T00:00+05:45"),
            ("current-year", fiscal.clone(), "2026-04-01T00:00+05:45", "2027-04-01T00:00+05:45"),
            ("last-year", kathmandu(), "2025-01-01T00:00+05:45", "2026-01-01T00:00+05:45"),
            ("year-to-date", fiscal.clone(), "2026-04-01T00:00+05:45", "2026-07-01T00:15+05:45"),
            ("last-7d", kathmandu(), "2026-06-24T00:00+05:45", "2026-07-01T00:00+05:45"),
            ("last-24h", kathmandu(), "2026-06-30T00:00+05:45", "2026-07-01T00:00+05:45"),
            ("2026-Q1", fiscal, "2026-04-01T00:00+05:45", "2026-07-01T00:00+05:45"),
            ("2026-W01", kathmandu(), "2025-12-29T00:00+05:45", "2026-01-05T00:00+05:45"),
            ("2026-02", kathmandu(), "2026-02-01T00:00+05:45", "2026-03-01T00:00+05:45"),
        ] {
            assert_eq!(edges(&named(name, now, calendar)), pair(from, to), "{name}");
        }
        for (written, usual) in [
            ("Last-Month", "last-month"),
            ("last_month", "last-month"),
            (" LAST MONTH ", "last-month"),
            ("previous-month", "last-month"),
            ("Previous Week", "last-week"),
            ("this-month", "current-month"),
            ("Current_Quarter", "current-quarter"),
            ("last 7 days", "last-7d"),
            ("Last-7D", "last-7d"),
            ("last-30days", "last-30d"),
            ("last-24-hours", "last-24h"),
            ("past 12 months", "last-12m"),
            ("Yesterday", "yesterday"),
            ("MTD", "month-to-date"),
            ("year_to_date", "year-to-date"),
            ("2026-q1", "2026-Q1"),
            ("2026 Q1", "2026-Q1"),
            ("2026-w09", "2026-W09"),
        ] {
            let (written_as, meant) =
                (named(written, now, kathmandu()), named(usual, now, kathmandu()));
            assert_eq!(edges(&written_as), edges(&meant), "{written:?}");
        }
        for (wrong, like) in [
            ("last-mnth", Some("last-month")),
            ("monthly", Some("last-month")),
            ("Daily", Some("yesterday")),
            ("last-moth", Some("last-month")),
            ("curent-week", Some("current-week")),
            ("zzz", None),
        ] {
            assert_eq!(period_like(wrong), like, "{wrong:?}");
        }
        for wrong in [
            "", "last-", "last-0d", "last-7x", "2026-13", "2026-W54", "2026-Q5", "0000", "last-é",
            "-to-date",
        ] {
            let now = UtcMicros(1_782_844_200_000_000);
            assert!(Period::named(wrong, now, kathmandu()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn days_of_changes_are_longer_and_shorter() {
        for (zone, day, hours) in [
            ("Europe/Berlin", "2026-03-29", 23.0),
            ("Europe/Berlin", "2026-10-25", 25.0),
            ("Australia/Lord_Howe", "2026-04-05", 24.5),
            ("Australia/Lord_Howe", "2026-10-04", 23.5),
            ("Asia/Kathmandu", "2026-03-29", 24.0),
            // Midnight itself is skipped.
            ("America/Sao_Paulo", "2018-11-04", 23.0),
            // A whole day was skipped.
            ("Pacific/Apia", "2011-12-31", 24.0),
        ] {
            let period = named(day, "2027-01-01T00:00:00Z", calendar(zone));
            assert_eq!(period.duration().as_secs_f64() / 3600.0, hours, "{zone} {day}");
            let by_hour = period.buckets(Unit::Hour);
            assert!(by_hour.windows(2).all(|pair| pair[0].end == pair[1].start), "{zone} {day}");
            assert_eq!(by_hour.first().map(|bucket| bucket.start), Some(period.from));
            assert_eq!(by_hour.last().map(|bucket| bucket.end), Some(period.to));
        }
        let repeated = named("2026-10-25", "2027-01-01T00:00:00Z", calendar("Europe/Berlin"));
        assert_eq!(
            repeated.buckets(Unit::Hour).len(),
            25,
            "the repeated hour is a bucket of its own"
        );
    }

    #[test]
    fn the_one_before_and_a_year_ago_follow_the_calendar() {
        let now = "2026-03-31T10:00:00Z";
        for (name, before, year_ago) in [
            // The previous months and a year ago, whatever their length and offset.
            (
                "2026-03",
                pair("2026-02-01T00:00+01:00", "2026-03-01T00:00+01:00"),
                pair("2025-03-01T00:00+01:00", "2025-04-01T00:00+02:00"),
            ),
            // A day a year ago has the same weekday.
            (
                "2026-03-30",
                pair("2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),
                pair("2025-03-31T00:00+02:00", "2025-04-01T00:00+02:00"),
            ),
            (
                "2026-W14",
                pair("2026-03-23T00:00+01:00", "2026-03-30T00:00+02:00"),
                pair("2025-03-31T00:00+02:00", "2025-04-07T00:00+02:00"),
            ),
            // The same part of the month, if it has that day.
            (
                "month-to-date",
                pair("2026-02-01T00:00+01:00", "2026-02-28T12:00+01:00"),
                pair("2025-03-01T00:00+01:00", "2025-03-31T12:00+02:00"),
            ),
            (
                "last-7d",
                pair("2026-03-17T00:00+01:00", "2026-03-24T00:00+01:00"),
                pair("2025-03-25T00:00+01:00", "2025-04-01T00:00+02:00"),
            ),
        ] {
            let period = named(name, now, calendar("Europe/Berlin"));
            assert_eq!(edges(&period.previous()), before, "{name}");
            assert_eq!(edges(&period.year_ago()), year_ago, "{name}");
        }
        let two_months = Period::between("2026-01-01", "2026-03-01", calendar("Europe/Berlin"))
            .expect("it is not empty");
        assert_eq!(
            edges(&two_months.previous()),
            pair("2025-11-01T00:00+01:00", "2026-01-01T00:00+01:00")
        );
    }
}
