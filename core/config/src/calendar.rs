//! Calendars: the times that a cron expression defines in a time zone.

use std::str::FromStr;

use chrono::{NaiveDate, TimeZone as _};
use jiff::{
    Span, Timestamp,
    civil::{self, DateTime},
    tz::{AmbiguousOffset, TimeZone},
};
use mailqos_model::UtcMicros;

use super::{FromToml, Node};

/// Maximum number of repeated fixed times to skip. An expression with seconds has 3,600 per hour.
const MAX_STEPS: usize = 4_000;
/// Maximum number of clock changes to skip. The next 29 February may be 8 years away, and 40 on a
/// given weekday.
const MAX_CHANGES: usize = 200;

/// A cron expression of five fields, or of six with leading seconds.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    pattern: croner::Cron,
    /// Whether the hour or minute is a wildcard.
    follows_the_clock: bool,
}

/// A cron expression in a time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    /// The expression.
    pub cron: Box<Cron>,
    /// The time zone.
    pub zone: TimeZone,
}

impl Calendar {
    /// Returns the first time after `after`, or `None` if there is none.
    pub fn next(&self, after: UtcMicros) -> Option<UtcMicros> {
        self.cron.next(after, &self.zone)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pattern = pattern(text)
            .map_err(|reason| format!("{text:?} is not {}: {reason}", Self::expected()))?;
        let cron = Self {
            follows_the_clock: follows_the_clock(text, &pattern),
            text: text.to_owned(),
            pattern,
        };
        // Any year works, because every expression that ever matches recurs.
        match cron.next_local(civil::date(2000, 1, 1).at(0, 0, 0, 0)) {
            Some(_) => Ok(cron),
            None if text.split_whitespace().count() > 6 => Err(format!(
                "{text:?} never occurs: no month of these years has such a day; check day, month and year"
            )),
            None => Err(format!(
                "{text:?} never occurs: none of its months has such a day; check day and month"
            )),
        }
    }
}

impl Cron {
    /// Returns the expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the first time after `after`, or `None` if there is none.
    ///
    /// Clock changes are treated as by Vixie cron (cron(8), "Daylight saving time"):
    ///
    /// - An expression with a wildcard as its hour or minute (`*`, `*/15`, or all hours) runs
    ///   whenever the wall clock shows a matching time: again in a repeated hour, and not in a
    ///   skipped one.
    /// - Any other expression defines fixed times. A repeated time runs only once, the first time.
    ///   Skipped times run once, at the end of the gap.
    ///
    /// ```text
    /// Europe/Berlin, 2026    0 * * * *                  30 2 * * *
    /// 29 March (2:00–3:00 skipped)    … 1:00, 3:00 …             3:00
    /// 25 October (2:00–3:00 twice)    … 2:00, 2:00, 3:00 …       2:30 (the first)
    /// ```
    pub fn next(&self, after: UtcMicros, zone: &TimeZone) -> Option<UtcMicros> {
        if self.follows_the_clock {
            self.next_on_the_clock(after.timestamp(), zone)
        } else {
            self.next_fixed(after, zone)
        }
    }

    /// Searches the stretches between clock changes one after another. Within each, local time is
    /// UTC plus a fixed offset.
    fn next_on_the_clock(&self, after: Timestamp, zone: &TimeZone) -> Option<UtcMicros> {
        let mut from = after;
        let mut local = zone.to_offset(from).to_datetime(from);
        let mut changes = zone.following(after);
        for _ in 0..MAX_CHANGES {
            let offset = zone.to_offset(from);
            let change = changes.next().map(|change| change.timestamp());
            let found = self.next_local(local)?;
            let moment = offset.to_timestamp(found).ok()?;
            match change {
                Some(change) if moment >= change => {
                    from = change;
                    // The time of the change itself is included.
                    let begin = zone.to_offset(from).to_datetime(from);
                    local = begin.checked_sub(Span::new().seconds(1)).ok()?;
                }
                _ => return Some(moment.into()),
            }
        }
        None
    }

    fn next_fixed(&self, after: UtcMicros, zone: &TimeZone) -> Option<UtcMicros> {
        let mut local = zone.to_datetime(after.timestamp());
        for _ in 0..MAX_STEPS {
            local = self.next_local(local)?;
            let ambiguous = zone.to_ambiguous_timestamp(local);
            let moment: UtcMicros = match ambiguous.offset() {
                AmbiguousOffset::Gap { before, .. } => {
                    end_of_gap(zone, before.to_timestamp(local).ok()?)?.into()
                }
                AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                    ambiguous.earlier().ok()?.into()
                }
            };
            if moment > after {
                return Some(moment);
            }
        }
        None
    }

    fn next_local(&self, after: DateTime) -> Option<DateTime> {
        // The expression refers to local time, so it is evaluated as if that were UTC, which has no
        // clock changes.
        let naive = NaiveDate::from_ymd_opt(
            i32::from(after.year()),
            u32::try_from(after.month()).ok()?,
            u32::try_from(after.day()).ok()?,
        )?
        .and_hms_opt(
            u32::try_from(after.hour()).ok()?,
            u32::try_from(after.minute()).ok()?,
            u32::try_from(after.second()).ok()?,
        )?;
        let next = self
            .pattern
            .find_next_occurrence(&chrono::Utc.from_utc_datetime(&naive), false)
            .ok()?;
        next.format("%Y-%m-%dT%H:%M:%S").to_string().parse().ok()
    }
}

/// Returns the clock change that skips a local time. `skipped` is that time with the offset before
/// the change; it lies after the change by less than the gap.
fn end_of_gap(zone: &TimeZone, skipped: Timestamp) -> Option<Timestamp> {
    zone.preceding(skipped.checked_add(Span::new().seconds(1)).ok()?)
        .next()
        .map(|change| change.timestamp())
}

/// Abbreviated names of the days of the week and the months.
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// Parses an expression as Vixie cron does (crontab(5)), including cases that the parser alone
/// treats differently:
///
/// - A day field that begins with `*` is a wildcard, even with a step, and the other day field must
///   also match. If neither is a wildcard, either may match.
/// - Names are allowed only in their own field.
/// - `7L` is the last Sunday, as is `0L`, and `@midnight` is `@daily`.
fn pattern(text: &str) -> Result<croner::Cron, String> {
    let mut fields: Vec<String> = text.split_whitespace().map(str::to_ascii_uppercase).collect();
    let mut parser = croner::parser::CronParser::builder();
    match fields.as_mut_slice() {
        [nickname] if nickname == "@MIDNIGHT" => "@DAILY".clone_into(nickname),
        [minute, hour, days, months, weekdays] => {
            check(&[minute, hour], days, months, weekdays)?;
            parser = parser.dom_and_dow(is_star(days) || is_star(weekdays));
            *weekdays = sundays(weekdays);
        }
        [second, minute, hour, days, months, weekdays, years @ ..] if years.len() < 2 => {
            check(&[second, minute, hour], days, months, weekdays)?;
            parser = parser.dom_and_dow(is_star(days) || is_star(weekdays));
            *weekdays = sundays(weekdays);
        }
        // The parser reports the problem.
        _ => {}
    }
    parser.build().parse(&fields.join(" ")).map_err(|error| error.to_string())
}

fn is_star(field: &str) -> bool {
    field.starts_with(['*', '?'])
}

/// Rejects fields that the parser would misinterpret.
fn check(times: &[&str], days: &str, months: &str, weekdays: &str) -> Result<(), String> {
    for field in times.iter().chain([&days, &months, &weekdays]) {
        if field.split(',').any(str::is_empty) {
            return Err(format!("a value is missing before or after a comma in {field:?}"));
        }
    }
    let words = |field: &str| -> Vec<String> {
        let words = field.split(|c: char| !c.is_alphabetic());
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    for field in times {
        if let Some(word) = words(field).first() {
            return Err(format!(
                "{word} is not allowed in the fields for seconds, minutes and hours"
            ));
        }
    }
    for word in words(months) {
        if !MONTHS.contains(&word.as_str()) {
            return Err(format!("{word} is not a month; use JAN to DEC, or 1 to 12"));
        }
    }
    for part in weekdays.split(',') {
        let name = part.strip_suffix('L').unwrap_or(part);
        if name.is_empty() || name != part && name.contains(['-', '/', '*']) {
            return Err(
                "L must follow a single day of the week, such as 5L for the last Friday".to_owned()
            );
        }
        for word in words(name) {
            if !DAYS.contains(&word.as_str()) {
                return Err(format!("{word} is not a day of the week; use SUN to SAT, or 0 to 7"));
            }
        }
    }
    for part in days.split(',') {
        let number = part.strip_suffix('W').unwrap_or(part);
        if part != "L" && number.contains(char::is_alphabetic) {
            return Err(format!(
                "{part} is not a day of the month; use 1 to 31, L for the last day, or 15W for the weekday \
                 nearest the 15th"
            ));
        }
    }
    Ok(())
}

/// Normalizes the days of the week, with Sunday as 0 if the last one of a month is meant.
fn sundays(weekdays: &str) -> String {
    let parts = weekdays.split(',').map(|part| match part {
        "7L" | "7#L" => "0L",
        part => part,
    });
    parts.collect::<Vec<_>>().join(",")
}

/// Returns whether the expression's hour or minute is a wildcard, or lists all values.
fn follows_the_clock(text: &str, pattern: &croner::Cron) -> bool {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let is_wildcard = match fields.as_slice() {
        [minute, hour, _, _, _] | [_, minute, hour, _, _, _] | [_, minute, hour, _, _, _, _] => {
            is_star(minute) || is_star(hour)
        }
        _ => false,
    };
    is_wildcard || pattern.pattern.hours.is_all_set() || pattern.pattern.minutes.is_all_set()
}

impl FromToml for Cron {
    fn expected() -> String {
        "a cron expression such as \"*/15 8-18 * * 1-5\"".into()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        String::from_toml(node)?.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BERLIN: &str = "Europe/Berlin";

    fn cron(text: &str) -> Cron {
        text.parse().expect("a cron expression")
    }

    fn at(text: &str) -> UtcMicros {
        text.parse::<Timestamp>().expect("a time").into()
    }

    /// Returns the runs in `[from, to)`.
    fn runs(text: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let (cron, zone, to) = (cron(text), TimeZone::get(zone).expect("a zone"), at(to));
        let mut after = UtcMicros(at(from).0 - 1);
        let mut found = Vec::new();
        while let Some(next) = cron.next(after, &zone).filter(|next| *next < to) {
            found.push(next.to_string());
            after = next;
        }
        found
    }

    #[test]
    fn fixed_times_run_once_a_day() {
        // 29 March 2026 has no 02:30, so the expression runs at the end of the gap, 03:00 summer
        // time.
        let spring = runs("30 2 * * *", BERLIN, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z");
        assert_eq!(
            spring,
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        // 25 October has it twice, and the first one counts.
        let autumn = runs("30 2 * * *", BERLIN, "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z");
        assert_eq!(
            autumn,
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        // Several skipped times run once, also together with a time at the end of the gap.
        let several =
            runs("0,30 2,3 * * *", BERLIN, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z");
        assert_eq!(several, ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]);
    }

    #[test]
    fn wildcards_follow_the_wall_clock() {
        let autumn = runs("0 * * * *", BERLIN, "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z");
        assert_eq!(
            autumn,
            [
                "2026-10-24T23:00:00Z",
                "2026-10-25T00:00:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T02:00:00Z"
            ]
        );
        for every in ["30 * * * *", "30 0-23 * * *", "0 30 * * * *", "30 */1 * * *"] {
            let both = runs(every, BERLIN, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z");
            assert_eq!(both, ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"], "{every}");
            let spring = runs(every, BERLIN, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z");
            assert_eq!(spring, ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"], "{every}");
        }
        // A step of a quarter of an hour, and a zone that changes by half an hour (Lord Howe,
        // 2026-04-05).
        let lord_howe = runs(
            "*/15 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T13:00:00Z",
            "2026-04-05T13:00:00Z",
        );
        assert_eq!(
            lord_howe,
            [
                "2026-04-04T14:00:00Z",
                "2026-04-04T14:15:00Z",
                "2026-04-04T14:30:00Z",
                "2026-04-04T14:45:00Z",
                "2026-04-04T15:00:00Z",
                "2026-04-04T15:15:00Z",
            ]
        );
        let hourly = runs("@hourly", BERLIN, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z");
        assert_eq!(hourly, ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"]);
    }

    #[test]
    fn a_skipped_day_runs_at_its_end() {
        // Samoa had no 30 December 2011.
        let samoa =
            runs("0 7 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z");
        assert_eq!(samoa, ["2011-12-29T17:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T17:00:00Z"]);
    }

    /// Returns the dates in January and February 2027 on which an expression runs.
    fn dates(text: &str) -> Vec<String> {
        let moments = runs(text, "UTC", "2027-01-01T00:00:00Z", "2027-03-01T00:00:00Z");
        moments.iter().map(|moment| moment[5..10].to_owned()).collect()
    }

    #[test]
    fn days_are_parsed_as_by_vixie_cron() {
        // qwen-code #7452, orca #15900, robfig/cron #70: a wildcard with a step is a wildcard, a
        // range of all days is not.
        assert_eq!(
            dates("0 0 */2 * 1"),
            ["01-11", "01-25", "02-01", "02-15"],
            "odd days that are Mondays"
        );
        assert_eq!(dates("0 0 15 * */3"), Vec::<String>::new());
        assert_eq!(dates("0 0 17 * */3"), ["01-17", "02-17"]);
        assert_eq!(dates("0 0 1-31 * 1").len(), 59);
        assert_eq!(dates("0 0 1 * 0/6"), dates("0 0 1 * SUN,SAT"));
        assert_eq!(dates("0 0 15,16 * 1"), dates("0 0 15-16 * MON"));
        assert_eq!(dates("0 0 31 * 1").len(), 4 + 4 + 1);
        // parse-cron #16, systemd-cron #136: 7 is Sunday.
        assert_eq!(
            dates("0 0 * * 7"),
            ["01-03", "01-10", "01-17", "01-24", "01-31", "02-07", "02-14", "02-21", "02-28"]
        );
        assert_eq!(dates("0 0 * * fri-sun"), dates("0 0 * * 5-7"));
        for last in ["7L", "0L", "sunL", "7#L"] {
            assert_eq!(dates(&format!("0 0 * * {last}")), ["01-31", "02-28"], "{last}");
        }
        assert_eq!(dates("0 0 * * 7L,5L"), ["01-29", "01-31", "02-26", "02-28"]);
        assert_eq!(dates("0 0 * * 7#2"), ["01-10", "02-14"]);
        assert_eq!(dates("0 0 L * *"), ["01-31", "02-28"]);
        // 2 January 2027 is a Saturday: the weekday next to it is the Friday before; 28 February is
        // a Sunday, the last day.
        assert_eq!(dates("0 0 2w,28W * *"), ["01-01", "01-28", "02-02", "02-26"]);
        // cron-expression #117, systemd-cron-next #6.
        assert_eq!(dates("@midnight"), dates("0 0 * * *"));
        assert_eq!(dates("\t0  0\t1 jan *  "), ["01-01"]);
        assert_eq!(dates("0 0 1-9/4,20 1 *"), ["01-01", "01-05", "01-09", "01-20"]);
    }

    #[test]
    fn misleading_expressions_are_rejected() {
        for (wrong, reason) in [
            // MON is not a month, and two month names in one word are not a third.
            ("0 7 1 MON *", "MON is not a month"),
            ("0 7 1 JANFEB *", "JANFEB is not a month"),
            ("0 7 * * JAN", "JAN is not a day of the week"),
            ("0 7 * * MONDAY", "MONDAY is not a day of the week"),
            ("0 MON * * *", "MON is not allowed"),
            ("0 7 * * L", "such as 5L"),
            ("0 7 * * 1,L", "such as 5L"),
            ("0 7 * * 1-5L", "such as 5L"),
            ("0 7 15W5 * *", "15W5 is not a day of the month"),
            ("0 7 LW * *", "LW is not a day of the month"),
            ("0 7 1,,5 * *", "before or after a comma"),
            ("0 7 * * 1,", "before or after a comma"),
            // cronie #15: a range can't wrap around midnight.
            ("0 22-5 * * *", "is not a cron"),
            ("*/0 * * * *", "is not a cron"),
            ("60 * * * *", "is not a cron"),
            ("0 24 * * *", "is not a cron"),
            ("@reboot", "is not a cron"),
            ("0 7 * *", "is not a cron"),
            ("", "is not a cron"),
        ] {
            let error = wrong.parse::<Cron>().expect_err(wrong);
            assert!(error.contains(reason), "{wrong}: {error}");
        }
    }

    #[test]
    fn all_hours_in_any_notation_follow_the_wall_clock() {
        for every in ["30 0/1 * * *", "30 0-23/1 * * *", "30 0-11,12-23 * * *", "30/60 0-23 * * *"]
        {
            let both = runs(every, BERLIN, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z");
            assert_eq!(both, ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"], "{every}");
        }
    }

    /// Hexagon/croner#132: a daily job skipped a day in Chile, whose clocks skip midnight on 7
    /// September 2025.
    #[test]
    fn a_day_without_midnight_is_not_lost() {
        let santiago = "America/Santiago";
        let days = runs("0 0 * * *", santiago, "2025-09-05T12:00:00Z", "2025-09-09T12:00:00Z");
        let expected = [
            "2025-09-06T04:00:00Z",
            "2025-09-07T04:00:00Z",
            "2025-09-08T03:00:00Z",
            "2025-09-09T03:00:00Z",
        ];
        assert_eq!(days, expected);
    }

    /// Steve-Mcl/node-red-contrib-cron-plus#108: nothing ran in the repeated hour.
    #[test]
    fn seconds_run_in_both_repeated_hours() {
        for expression in ["15 * * * * * *", "15 * * * * *"] {
            let all =
                runs(expression, "Europe/London", "2025-10-26T00:00:00Z", "2025-10-26T03:00:00Z");
            assert_eq!(all.len(), 180, "{expression}");
            assert!(
                all.contains(&"2025-10-26T00:59:15Z".to_owned())
                    && all.contains(&"2025-10-26T01:00:15Z".to_owned())
            );
        }
    }

    #[test]
    fn years_may_be_in_the_past_but_must_contain_the_days() {
        let past = cron("0 0 7 1 1 * 2020");
        let utc = TimeZone::UTC;
        assert_eq!(past.next(at("2026-12-01T00:00:00Z"), &utc), None);
        assert!(past.next(at("2019-12-01T00:00:00Z"), &utc).is_some());
        for never in ["0 0 7 29 2 * 2027", "0 0 7 29 2 * 2100", "0 0 7 29 2 * 2029-2031"] {
            let error = never.parse::<Cron>().expect_err(never);
            assert!(error.contains("day, month and year"), "{error}");
        }
        let leap = cron("0 0 7 29 2 * 2026-2028");
        let next = leap.next(at("2026-12-01T00:00:00Z"), &utc);
        assert_eq!(next, Some(at("2028-02-29T07:00:00Z")));
    }

    #[test]
    fn an_expression_without_any_time_is_rejected() {
        for never in ["0 7 31 2 *", "0 7 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 31 2 *"] {
            let error = never.parse::<Cron>().expect_err(never);
            assert!(error.contains("never occurs"), "{error}");
        }
        for rare in ["0 7 29 2 *", "0 7 31 2 1", "0 7 31 * *"] {
            cron(rare);
        }
    }

    /// Generates every zone of the database.
    fn zones() -> impl Strategy<Value = TimeZone> {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        proptest::sample::select(names).prop_filter_map("a zone", |name| TimeZone::get(&name).ok())
    }

    proptest! {
        // Each case checks every second of more than a day.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_hour_runs_at_every_hour_of_the_wall_clock(zone in zones(), hour in 0_i64..1_100_000) {
            // From 1920 to 2045: every time at which the clock shows a full hour, and no other.
            let begin = Timestamp::from_second(-1_577_000_000 + hour * 3_600).expect("a moment");
            let every = cron("0 * * * *");
            let mut after: UtcMicros = begin.into();
            let end = after.0 + 30 * 3_600_000_000;
            let mut found = std::collections::BTreeSet::new();
            while let Some(next) = every.next(after, &zone).filter(|next| next.0 < end) {
                prop_assert!(next > after);
                found.insert(next.0);
                after = next;
            }
            for second in 1..30 * 3_600 {
                let moment = UtcMicros(UtcMicros::from(begin).0 + second * 1_000_000);
                let local = zone.to_datetime(moment.timestamp());
                let full = local.minute() == 0 && local.second() == 0;
                prop_assert_eq!(full, found.contains(&moment.0), "{:?} {}", local, moment);
            }
        }
    }

    /// Generates a day field: its text, its days, and whether it begins with a wildcard.
    fn day_field(first: u8, last: u8) -> impl Strategy<Value = (String, Vec<u8>, bool)> {
        let all = move |step: u8| (first..=last).step_by(usize::from(step)).collect::<Vec<u8>>();
        prop_oneof![
            Just(("*".to_owned(), all(1), true)),
            (2_u8..9).prop_map(move |step| (format!("*/{step}"), all(step), true)),
            (first..=last).prop_map(|day| (day.to_string(), vec![day], false)),
            (first..=last, 0_u8..9, 1_u8..4).prop_map(move |(from, more, step)| {
                let to = from.saturating_add(more).min(last);
                let days = (from..=to).step_by(usize::from(step)).collect();
                (format!("{from}-{to}/{step}"), days, false)
            }),
            proptest::collection::vec(first..=last, 1..4).prop_map(|days| {
                let texts: Vec<String> = days.iter().map(u8::to_string).collect();
                (texts.join(","), days, false)
            }),
        ]
    }

    proptest! {
        #[test]
        fn days_follow_the_rule_of_vixie_cron(
            (month_text, month_days, month_star) in day_field(1, 31),
            (week_text, week_days, week_star) in day_field(0, 7),
            start in 0_i32..9_000,
        ) {
            let Ok(cron) = format!("0 0 {month_text} * {week_text}").parse::<Cron>() else { return Ok(()) };
            let day = civil::date(2020, 1, 1).checked_add(Span::new().days(start)).expect("a date");
            let of_month = month_days.contains(&day.day().unsigned_abs());
            let number = day.weekday().to_sunday_zero_offset().unsigned_abs();
            let of_week = week_days.contains(&number) || number == 0 && week_days.contains(&7);
            let expected = if month_star || week_star { of_month && of_week } else { of_month || of_week };
            let midnight: UtcMicros = day.to_zoned_datetime(TimeZone::UTC).expect("a moment").timestamp().into();
            let next = cron.next(UtcMicros(midnight.0 - 1), &TimeZone::UTC);
            prop_assert_eq!(next == Some(midnight), expected, "{} {} on {}", month_text, week_text, day);
        }
    }

    proptest! {
        #[test]
        fn a_fixed_time_runs_once_a_day(zone in zones(), day in 0_i32..45_000, hour in 0_u8..24, minute in 0_u8..60) {
            let fixed = cron(&format!("{minute} {hour} * * *"));
            let first = civil::date(1920, 1, 1).checked_add(Span::new().days(day)).expect("a date");
            let begin = |date: civil::Date| date.to_zoned_datetime(zone.clone()).map(|at| UtcMicros::from(at.timestamp()));
            let (from, to) = (begin(first), begin(first.checked_add(Span::new().days(3)).expect("a date")));
            let (Ok(from), Ok(to)) = (from, to) else { return Ok(()) };
            let mut after = UtcMicros(from.0 - 1);
            let mut dates = Vec::new();
            while let Some(next) = fixed.next(after, &zone).filter(|next| *next < to) {
                dates.push(zone.to_datetime(next.timestamp()).date());
                after = next;
            }
            dates.dedup();
            let skipped = |date: civil::Date| date.to_zoned_datetime(zone.clone()).is_ok_and(|at| at.date() != date);
            let days = (0..3).map(|n| first.checked_add(Span::new().days(n)).expect("a date"));
            let expected: Vec<_> = days.filter(|date| !skipped(*date)).collect();
            prop_assert_eq!(dates, expected);
        }
    }
}
