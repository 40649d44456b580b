//! Times of day on days of the week, in a time zone: the hours of an action, of recurring
//! maintenance, or of a service. They follow the wall clock: a repeated hour counts twice, and a
//! skipped one does not count.

use jiff::{
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use mailqos_model::UtcMicros;

use super::key::{Optional, key};
use super::{FromToml, Node, Problems, Table};

/// Days to look ahead, so that every weekday occurs.
const DAYS_AHEAD: i64 = 8;

/// A weekly recurring time. A span across midnight belongs to the day on which it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Hours {
    /// Start and end; the whole day if both are the same.
    pub spans: Vec<Span>,
    /// Weekdays; all if empty.
    pub weekdays: Vec<Weekday>,
    /// The time zone.
    pub zone: TimeZone,
}

/// Part of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First minute of the span.
    pub from: Time,
    /// First minute after the span; on the next day if it is not later than `from`.
    pub to: Time,
}

const WHOLE_DAY: Span = Span { from: Time::midnight(), to: Time::midnight() };

keys! {
    HOURS: HoursKeys {
        /// Times of day, such as `07:00-19:00`.
        hours: Optional<Vec<Span>> = key().otherwise("the whole day");
        /// Days of the week.
        weekdays: Optional<Vec<Days>> = key().otherwise("all");
        /// The time zone of hours and weekdays.
        timezone: Optional<TimeZone> = key().otherwise("the file's");
    }
}

impl Hours {
    /// Reads `hours`, `weekdays` and `timezone`; `None` if neither hours nor weekdays are set.
    pub fn read(table: &mut Table, zone: &TimeZone, problems: &mut Problems) -> Option<Self> {
        let spans = table.read(&HOURS.hours, problems);
        let weekdays = table.read(&HOURS.weekdays, problems);
        let own_zone = table.read(&HOURS.timezone, problems);
        if spans.is_none() && weekdays.is_none() {
            return None;
        }
        Some(Self {
            spans: spans.filter(|spans| !spans.is_empty()).unwrap_or_else(|| vec![WHOLE_DAY]),
            weekdays: weekdays.into_iter().flatten().flat_map(|days| days.0).collect(),
            zone: own_zone.unwrap_or_else(|| zone.clone()),
        })
    }

    /// Returns the start and end of the occurrence that contains `at`, or of the first one after
    /// it.
    pub fn next(&self, at: UtcMicros) -> Option<(UtcMicros, UtcMicros)> {
        let today = self.zone.to_datetime(at.timestamp()).date();
        (-1..=DAYS_AHEAD)
            .filter_map(|ahead| today.checked_add(jiff::Span::new().days(ahead)).ok())
            .flat_map(|date| self.on(date))
            .filter(|(_, end)| *end > at)
            .min()
    }

    /// Returns all days around the clock.
    pub(super) fn whole_days(zone: TimeZone) -> Self {
        Self { spans: vec![WHOLE_DAY], weekdays: Vec::new(), zone }
    }

    /// Returns the spans that begin on a date: starts and ends.
    pub fn on(&self, date: Date) -> impl Iterator<Item = (UtcMicros, UtcMicros)> + '_ {
        let on = self.weekdays.is_empty() || self.weekdays.contains(&date.weekday());
        self.spans.iter().filter(move |_| on).flat_map(move |span| self.occurrences(date, *span))
    }

    /// Returns the times at which the wall clock is within a span that begins on this date. A
    /// repeated hour occurs twice; a skipped one doesn't occur.
    fn occurrences(&self, date: Date, span: Span) -> Vec<(UtcMicros, UtcMicros)> {
        let last = if span.to > span.from { Ok(date) } else { date.tomorrow() };
        let Ok(last) = last else { return Vec::new() };
        let (from, to) = (date.to_datetime(span.from), last.to_datetime(span.to));
        let (begins, ends) =
            (self.zone.to_ambiguous_timestamp(from), self.zone.to_ambiguous_timestamp(to));
        if !(begins.is_ambiguous() || ends.is_ambiguous()) {
            let both =
                begins.compatible().and_then(|begin| Ok((begin.into(), ends.compatible()?.into())));
            return both
                .into_iter()
                .filter(|(begin, end): &(UtcMicros, UtcMicros)| begin < end)
                .collect();
        }
        // Between two clock changes, the wall clock shows each time once.
        let (Ok(mut since), Ok(until)) = (begins.earlier(), ends.later()) else {
            return Vec::new();
        };
        // A clock change may be at the very end of a span, and remove it entirely.
        let around = jiff::SignedDuration::from_hours(3);
        since -= around;
        let until = until + around;
        let mut changes: Vec<jiff::Timestamp> = self
            .zone
            .following(since)
            .map(|change| change.timestamp())
            .take_while(|change| *change < until)
            .collect();
        changes.push(until);
        let mut found: Vec<(UtcMicros, UtcMicros)> = Vec::new();
        for change in changes {
            let offset = self.zone.to_offset(since);
            if let (Ok(begin), Ok(end)) = (offset.to_timestamp(from), offset.to_timestamp(to)) {
                let (begin, end) =
                    (UtcMicros::from(begin.max(since)), UtcMicros::from(end.min(change)));
                match found.last_mut() {
                    _ if begin >= end => {}
                    Some((_, before)) if *before == begin => *before = end,
                    _ => found.push((begin, end)),
                }
            }
            since = change;
        }
        found
    }

    /// Returns the first time, not before `at`, that lies within all of these; `None` if there is
    /// none in the near future.
    pub fn first_in_all(all: &[Self], at: UtcMicros) -> Option<UtcMicros> {
        let mut moment = at;
        // Each round moves on to the next start of one of them. Ten weeks or so are more than
        // enough.
        for _ in 0..200 {
            let mut latest = moment;
            for hours in all {
                latest = latest.max(hours.next(moment)?.0);
            }
            if latest == moment {
                return Some(moment);
            }
            moment = latest;
        }
        None
    }
}

/// Parses a time of day as people write it: `07:00`, `7:00`, `7.00`, `07:00:00`, `7 am`, `7:30 PM`
/// or only the hour.
pub fn time_of_day(text: &str) -> Option<Time> {
    let text = text.trim();
    let lower = text.to_lowercase();
    let halves = [("am", 0), ("a.m.", 0), ("pm", 12), ("p.m.", 12)];
    if let Some((clock, half)) =
        halves.iter().find_map(|(word, half)| Some((lower.strip_suffix(word)?, *half)))
    {
        let time = time_of_day(clock).filter(|time| (1..=12).contains(&time.hour()))?;
        // Twelve is the first hour of each half of the day.
        return time.with().hour(time.hour() % 12 + half).build().ok();
    }
    let text = lower.strip_suffix("uhr").map_or(text, |clock| &text[..clock.trim_end().len()]);
    let loose = || {
        let (hour, minute) = text.split_once([':', '.']).unwrap_or((text, "00"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let fits =
            (1..=2).contains(&hour.len()) && minute.len() == 2 && digits(hour) && digits(minute);
        fits.then(|| Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()).flatten()
    };
    text.parse().ok().or_else(loose)
}

impl FromToml for Span {
    fn expected() -> String {
        "a time span such as \"08:00-18:00\", or \"22:00-06:00\" across midnight".into()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        let text = String::from_toml(node)?;
        text.parse().map_err(|()| format!("{text:?} is not {}", Self::expected()))
    }
}

impl std::str::FromStr for Span {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (from, to) = text.split_once(['-', '–']).ok_or(())?;
        let time = |text: &str| match text.trim() {
            "24:00" => Some(Time::midnight()),
            text => time_of_day(text),
        };
        Ok(Self { from: time(from).ok_or(())?, to: time(to).ok_or(())? })
    }
}

/// Parses hours with their days: `Mon-Fri 07:00-19:00`, `Sat 08:00-12:00`, or `22:00-06:00` for
/// every day.
pub(super) fn weekly(text: &str, zone: &TimeZone) -> Result<Hours, String> {
    let (days, span) = match text.trim().rsplit_once(char::is_whitespace) {
        Some((days, span)) => (Some(days.trim()), span),
        None => (None, text.trim()),
    };
    let span = span
        .parse::<Span>()
        .map_err(|()| format!("{span:?} in {text:?} is not {}", Span::expected()))?;
    if span.from == span.to && span != WHOLE_DAY {
        return Err(format!(
            "{text:?} begins and ends at the same time; for the whole day, use 00:00-24:00"
        ));
    }
    let mut weekdays = Vec::new();
    for part in days.into_iter().flat_map(|days| days.split(',')) {
        weekdays.extend(
            run_of_days(part)
                .ok_or_else(|| format!("{part:?} in {text:?} is not {}", Days::expected()))?,
        );
    }
    Ok(Hours { spans: vec![span], weekdays, zone: zone.clone() })
}

/// A day of the week, or a range of days.
pub(super) struct Days(Vec<Weekday>);

impl FromToml for Days {
    fn expected() -> String {
        "a weekday or a range such as \"mon\", \"mon-fri\" or \"sat\"".into()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        let text = String::from_toml(node)?;
        let days =
            run_of_days(&text).ok_or_else(|| format!("{text:?} is not {}", Self::expected()))?;
        Ok(Self(days))
    }
}

/// Parses `mon` or `mon-fri`.
fn run_of_days(text: &str) -> Option<Vec<Weekday>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (weekday(from)?, weekday(to)?);
    let mut days = vec![from];
    let mut day = from;
    while day != to {
        day = day.next();
        days.push(day);
    }
    Some(days)
}

/// Parses an English weekday name or its first three letters, in any case.
pub fn weekday(text: &str) -> Option<Weekday> {
    const NAMES: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let text = text.trim().to_ascii_lowercase();
    NAMES
        .iter()
        .find(|(name, _)| *name == text || (text.len() == 3 && name.starts_with(&text)))
        .map(|(_, day)| *day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn common_notations_of_times_are_accepted() {
        for (text, expected) in [
            ("7", Some((7, 0))),
            ("7:05", Some((7, 5))),
            ("07.30", Some((7, 30))),
            ("19:00:00", Some((19, 0))),
            ("7 am", Some((7, 0))),
            ("12:15 AM", Some((0, 15))),
            ("12 p.m.", Some((12, 0))),
            ("7:30PM", Some((19, 30))),
            ("7.30 Uhr", Some((7, 30))),
            ("13 pm", None),
            ("0 am", None),
            ("24:00", None),
            ("7:5", None),
            ("noon", None),
            ("", None),
        ] {
            let read = time_of_day(text).map(|time| (time.hour(), time.minute()));
            assert_eq!(read, expected, "{text:?}");
        }
    }

    fn hours(text: &str) -> Hours {
        let mut problems = Problems::default();
        let mut table =
            super::super::parse("x.toml".as_ref(), text.to_owned(), &mut problems).expect("TOML");
        let zone = TimeZone::get("Europe/Stockholm").expect("a zone");
        let hours = Hours::read(&mut table, &zone, &mut problems).expect("hours");
        assert!(problems.is_empty(), "{problems}");
        hours
    }

    fn at(text: &str) -> UtcMicros {
        let timestamp: jiff::Timestamp = text.parse().expect("a time");
        timestamp.into()
    }

    #[test]
    fn office_hours_follow_the_wall_clock() {
        let office = hours("hours = \"08:00-18:00\"\nweekdays = [\"mon-fri\"]");
        // Friday evening in winter: Monday 08:00 is 07:00 UTC, and after the change to summer time
        // 06:00 UTC.
        assert_eq!(
            office.next(at("2026-03-20T19:00:00Z")).expect("one").0,
            at("2026-03-23T07:00:00Z")
        );
        assert_eq!(
            office.next(at("2026-03-27T19:00:00Z")).expect("one").0,
            at("2026-03-30T06:00:00Z")
        );
        assert_eq!(
            office.next(at("2026-03-30T06:30:00Z")),
            Some((at("2026-03-30T06:00:00Z"), at("2026-03-30T16:00:00Z")))
        );
    }

    #[test]
    fn hours_skipped_by_a_clock_change_occur_the_next_day() {
        // 2026-03-29 has no time from 02:00 to 03:00.
        for (text, next) in [
            ("02:30-03:00", "2026-03-30T00:30:00Z"),
            ("02:00-03:00", "2026-03-30T00:00:00Z"),
            ("02:00-03:30", "2026-03-29T01:00:00Z"),
        ] {
            let (begin, end) = hours(&format!("hours = \"{text}\""))
                .next(at("2026-03-29T00:55:00Z"))
                .expect("one");
            assert!(begin == at(next) && begin < end, "{text}: {begin} to {end}");
        }
    }

    #[test]
    fn a_repeated_hour_counts_twice_in_any_notation() {
        // In Stockholm, 02:00 to 03:00 occurred twice on 25 October 2026, and not at all on 29
        // March.
        let minutes = |text: &str, date: Date| {
            let spans = hours(&format!("hours = \"{text}\"")).on(date).collect::<Vec<_>>();
            let length =
                spans.iter().map(|(begin, end)| (end.0 - begin.0) / 60_000_000).sum::<i64>();
            (spans.len(), length)
        };
        let (fold, gap) = (jiff::civil::date(2026, 10, 25), jiff::civil::date(2026, 3, 29));
        for (text, twice, skipped) in [
            ("02:30-02:45", (2, 30), (0, 0)),
            ("02:00-03:00", (1, 120), (0, 0)),
            ("01:30-02:30", (2, 90), (1, 30)),
            ("02:30-03:30", (2, 90), (1, 30)),
            ("01:00-04:00", (1, 240), (1, 120)),
            ("00:00-24:00", (1, 1500), (1, 1380)),
        ] {
            assert_eq!(minutes(text, fold), twice, "{text}");
            assert_eq!(minutes(text, gap), skipped, "{text}");
        }
    }

    #[test]
    fn a_span_across_midnight_belongs_to_its_first_day() {
        let night = hours("hours = [\"22:00-06:00\"]\nweekdays = \"fri\"");
        let found = Some((at("2026-11-20T21:00:00Z"), at("2026-11-21T05:00:00Z")));
        assert_eq!(night.next(at("2026-11-21T04:59:59Z")), found);
        assert_eq!(night.next(at("2026-11-20T12:00:00Z")), found);
        assert_eq!(
            night.next(at("2026-11-21T05:00:00Z")).expect("one").0,
            at("2026-11-27T21:00:00Z")
        );
    }

    #[test]
    fn hours_without_overlap_are_detected() {
        let (morning, evening) =
            (hours("hours = \"08:00-09:00\""), hours("hours = \"20:00-21:00\""));
        assert_eq!(
            Hours::first_in_all(&[morning.clone(), evening], at("2026-11-20T12:00:00Z")),
            None
        );
        let monday = hours("weekdays = \"mon\"");
        assert_eq!(
            Hours::first_in_all(&[morning, monday], at("2026-11-20T12:00:00Z")),
            Some(at("2026-11-23T07:00:00Z"))
        );
        assert_eq!(Hours::first_in_all(&[], UtcMicros(7)), Some(UtcMicros(7)));
    }

    proptest! {
        #[test]
        fn the_next_occurrence_ends_later(from in 0i8..24, to in 0i8..24, day in 0i64..1500, minute in 0i64..1440) {
            let hours = hours(&format!("hours = \"{from:02}:00-{to:02}:30\""));
            let now = UtcMicros(1_700_000_000_000_000 + (day * 1440 + minute) * 60_000_000);
            let (begin, end) = hours.next(now).expect("every day has one");
            prop_assert!(end > now && end > begin);
        }
    }
}
