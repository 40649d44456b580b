//! A calendar: the moments that a cron expression names in a time zone.

use std::str::FromStr;

use chrono::{NaiveDate, TimeZone as _};
use jiff::{
    Span, Timestamp,
    civil::{self, DateTime},
    tz::{AmbiguousOffset, TimeZone},
};
use mailqos_model::UtcMicros;

use super::{FromToml, Node};

/// Fixed times that are passed over because they come a second time: an expression with seconds names 3,600 an hour.
const MAX_STEPS: usize = 4_000;
/// Clock changes that are passed over: 29 February may be 8 years away, a weekday on it 40.
const MAX_CHANGES: usize = 200;

/// A cron expression: five fields, or six with seconds in front.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    pattern: croner::Cron,
    /// Its hour or minute is a wildcard.
    follows_the_clock: bool,
}

/// A cron expression in a zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    /// The expression.
    pub cron: Box<Cron>,
    /// The zone.
    pub zone: TimeZone,
}

impl Calendar {
    /// The first moment after `after`; `None` if there is none.
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
        let pattern =
            croner::Cron::from_str(text).map_err(|error| format!("{text:?} is not {}: {error}", Self::expected()))?;
        let cron = Self {
            follows_the_clock: follows_the_clock(text),
            text: text.to_owned(),
            pattern,
        };
        // Any year does: what comes at all comes again.
        match cron.next_local(civil::date(2000, 1, 1).at(0, 0, 0, 0)) {
            Some(_) => Ok(cron),
            None => Err(format!(
                "{text:?} never comes: no month that it names has such a day; look at day and month"
            )),
        }
    }
}

impl Cron {
    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first moment after `after`; `None` if there is none.
    ///
    /// Clock changes are treated as by Vixie cron (cron(8), "Daylight saving time"):
    ///
    /// - An expression whose hour or minute is a wildcard (`*`, `*/15`, or all hours) comes whenever
    ///   the clock on the wall shows a matching time: again in an hour that comes twice, and not in
    ///   one that is skipped.
    /// - Any other expression names fixed times. One that comes twice counts the first time; those
    ///   that are skipped come once, at the end of the gap.
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

    /// Between two clock changes local time is UTC and a fixed offset: the expression is looked up in
    /// one such stretch after the other.
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
                    // The moment of the change counts, too.
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
                AmbiguousOffset::Gap { before, .. } => end_of_gap(zone, before.to_timestamp(local).ok()?)?.into(),
                AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok()?.into(),
            };
            if moment > after {
                return Some(moment);
            }
        }
        None
    }

    fn next_local(&self, after: DateTime) -> Option<DateTime> {
        // The expression is about local time: it is looked up as if that were UTC, which knows no changes.
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

/// The clock change that skips a local time; `skipped` is that time with the offset before the
/// change, a moment after it and less than a gap away from it.
fn end_of_gap(zone: &TimeZone, skipped: Timestamp) -> Option<Timestamp> {
    zone.preceding(skipped.checked_add(Span::new().seconds(1)).ok()?)
        .next()
        .map(|change| change.timestamp())
}

/// Whether the expression's hour or minute is a wildcard.
fn follows_the_clock(text: &str) -> bool {
    let fields: Vec<&str> = text.split_whitespace().collect();
    match fields.as_slice() {
        [nickname] => nickname.eq_ignore_ascii_case("@hourly"),
        [minute, hour, _, _, _] | [_, minute, hour, _, _, _] | [_, minute, hour, _, _, _, _] => {
            let wildcard = |field: &&str| field.starts_with(['*', '?']);
            wildcard(minute) || wildcard(hour) || all_hours(hour)
        }
        _ => false,
    }
}

/// Whether a field such as `0-23` or `0-11,12-23` names every hour.
fn all_hours(field: &str) -> bool {
    let mut named = [false; 24];
    for part in field.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
            return false;
        };
        if let Some(hours) = named.get_mut(first..=last.min(23)) {
            hours.fill(true);
        }
    }
    named.iter().all(|named| *named)
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

    /// The runs in `[from, to)`.
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
    fn fixed_times_come_once_on_each_day() {
        // 29 March 2026 has no 02:30: it comes at the end of the gap, 03:00 summer time.
        let spring = runs("30 2 * * *", BERLIN, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z");
        assert_eq!(
            spring,
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        // 25 October has it twice: the first counts.
        let autumn = runs("30 2 * * *", BERLIN, "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z");
        assert_eq!(
            autumn,
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        // Several that are skipped come as one, and so does one that falls on the end of the gap.
        let several = runs("0,30 2,3 * * *", BERLIN, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z");
        assert_eq!(several, ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]);
    }

    #[test]
    fn wildcards_follow_the_clock_on_the_wall() {
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
        // A quarter of an hour, and a zone that changes by half an hour (Lord Howe, 2026-04-05).
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
    fn a_day_that_a_zone_skips_comes_at_its_end() {
        // Samoa had no 30 December 2011.
        let samoa = runs(
            "0 7 * * *",
            "Pacific/Apia",
            "2011-12-29T12:00:00Z",
            "2011-12-31T12:00:00Z",
        );
        assert_eq!(
            samoa,
            ["2011-12-29T17:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T17:00:00Z"]
        );
    }

    #[test]
    fn an_expression_that_never_comes_is_refused() {
        for never in ["0 7 31 2 *", "0 7 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 31 2 *"] {
            let error = never.parse::<Cron>().expect_err(never);
            assert!(error.contains("never comes"), "{error}");
        }
        for rare in ["0 7 29 2 *", "0 7 31 2 1", "0 7 31 * *"] {
            cron(rare);
        }
    }

    /// Every zone of the database.
    fn zones() -> impl Strategy<Value = TimeZone> {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        proptest::sample::select(names).prop_filter_map("a zone", |name| TimeZone::get(&name).ok())
    }

    proptest! {
        // Each case looks at every second of more than a day.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_hour_means_every_hour_of_the_clock(zone in zones(), hour in 0_i64..1_100_000) {
            // From 1920 to 2045: each moment at which the clock shows a full hour, and no other.
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

    proptest! {
        #[test]
        fn a_fixed_time_comes_once_a_day(zone in zones(), day in 0_i32..45_000, hour in 0_u8..24, minute in 0_u8..60) {
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
