//! Calendar rules: the next due time of a report, in its time zone.

use jiff::{
    Span,
    civil::{Date, DateTime, Time, Weekday},
    tz::TimeZone,
};
use mailqos_model::UtcMicros;

use crate::schedule_keys::{MonthDay, Rule};

/// Maximum number of steps that a rule can skip: 29 February recurs after at most eight years.
const STEPS: i32 = 4_000;

impl Rule {
    /// Returns a stable description of the rule, by which later versions recognise it.
    pub fn text(&self) -> String {
        match self {
            Self::Daily(at) => format!("day at {at}"),
            Self::Weekly(day, at) => format!("week on {day:?} at {at}"),
            Self::Monthly(day, at) => format!("month on {} at {at}", day.text()),
            Self::Quarterly(day, at, start) => {
                format!("quarter on {} at {at}{}", day.text(), from(*start))
            }
            Self::Yearly(day, at, start) => {
                format!("year on {} at {at}{}", day.text(), from(*start))
            }
            Self::Cron(cron) => format!("cron {}", cron.as_str()),
        }
    }

    /// Returns the first time after `after` at which the rule is due; `None` if there is none.
    ///
    /// A local time that a clock change skips is due at the next existing one; one that repeats is
    /// due the first time.
    pub fn next(&self, after: UtcMicros, zone: &TimeZone) -> Option<UtcMicros> {
        if let Self::Cron(cron) = self {
            return cron.next(after, zone);
        }
        // A skipped local time is due late, possibly after later ones; no gap is longer than a day.
        let now = zone.to_datetime(after.timestamp());
        let mut local = now.checked_sub(Span::new().days(1)).unwrap_or(now);
        for _ in 0..STEPS {
            local = self.next_local(local)?;
            let moment: UtcMicros = local.to_zoned_datetime(zone.clone()).ok()?.timestamp().into();
            // A local time may repeat when clocks are set back.
            if moment > after {
                return Some(moment);
            }
        }
        None
    }

    fn next_local(&self, after: DateTime) -> Option<DateTime> {
        let date = after.date();
        match self {
            Self::Daily(at) => {
                first(after, *at, std::iter::successors(Some(date), |date| date.tomorrow().ok()))
            }
            Self::Weekly(day, at) => {
                let days = std::iter::successors(Some(date), |date| date.tomorrow().ok());
                first(after, *at, days.filter(|date| date.weekday() == *day))
            }
            Self::Monthly(day, at) => {
                first(after, *at, months(date, 1, 1).filter_map(|month| day_of(month, *day)))
            }
            Self::Quarterly(day, at, start) => {
                first(after, *at, months(date, 3, *start).filter_map(|month| day_of(month, *day)))
            }
            Self::Yearly(day, at, start) => {
                first(after, *at, months(date, 12, *start).filter_map(|month| day_of(month, *day)))
            }
            // Cron expressions already follow local time.
            Self::Cron(_) => None,
        }
    }
}

/// Returns the words for the month in which years begin.
fn from(start: i8) -> String {
    // Rules with years from January existed first, without these words.
    if start == 1 { String::new() } else { format!(" of years from month {start}") }
}

impl MonthDay {
    fn text(self) -> String {
        match self {
            Self::Day(day) => day.to_string(),
            Self::Last => "last".to_owned(),
            Self::First(day) => format!("first {day:?}"),
            Self::LastOf(day) => format!("last {day:?}"),
        }
    }
}

/// Returns the first of the given days whose time of day is after a given time.
fn first(after: DateTime, at: Time, days: impl Iterator<Item = Date>) -> Option<DateTime> {
    days.take(STEPS as usize).map(|date| date.to_datetime(at)).find(|moment| *moment > after)
}

/// Returns first days of months from that of a date on, at intervals of `step` months, counted from
/// month `start`.
fn months(date: Date, step: i8, start: i8) -> impl Iterator<Item = Date> {
    std::iter::successors(Some(date.first_of_month()), |first| {
        first.checked_add(Span::new().months(1)).ok()
    })
    .filter(move |first| (first.month() - start).rem_euclid(step) == 0)
}

fn day_of(month: Date, day: MonthDay) -> Option<Date> {
    let last = month.last_of_month();
    match day {
        MonthDay::Last => Some(last),
        MonthDay::Day(day) => {
            Some(Date::new(month.year(), month.month(), day.min(last.day())).unwrap_or(last))
        }
        MonthDay::First(weekday) => first_weekday(month, weekday),
        MonthDay::LastOf(weekday) => {
            std::iter::successors(Some(last), |date| date.yesterday().ok())
                .take(7)
                .find(|date| date.weekday() == weekday)
        }
    }
}

fn first_weekday(month: Date, weekday: Weekday) -> Option<Date> {
    std::iter::successors(Some(month), |date| date.tomorrow().ok())
        .take(7)
        .find(|date| date.weekday() == weekday)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("a zone")
    }

    fn at(text: &str) -> UtcMicros {
        text.parse::<jiff::Timestamp>().expect("a moment").into()
    }

    fn next(rule: &Rule, after: &str, zone_name: &str) -> String {
        rule.next(at(after), &zone(zone_name)).expect("there is a next").to_string()
    }

    fn seven() -> Time {
        Time::constant(7, 0, 0, 0)
    }

    #[test]
    fn a_rule_is_known_again_by_its_words() {
        let texts: Vec<String> = [
            Rule::Daily(seven()),
            Rule::Weekly(Weekday::Monday, seven()),
            Rule::Monthly(MonthDay::LastOf(Weekday::Friday), seven()),
            Rule::Quarterly(MonthDay::Day(2), seven(), 1),
            Rule::Yearly(MonthDay::Last, seven(), 1),
            Rule::Yearly(MonthDay::Day(6), seven(), 4),
            Rule::Cron(Box::new("0 7 * * *".parse().expect("a cron expression"))),
        ]
        .iter()
        .map(Rule::text)
        .collect();
        // Changing these texts would make all recorded rules look different.
        assert_eq!(
            texts,
            [
                "day at 07:00:00",
                "week on Monday at 07:00:00",
                "month on last Friday at 07:00:00",
                "quarter on 2 at 07:00:00",
                "year on last at 07:00:00",
                "year on 6 at 07:00:00 of years from month 4",
                "cron 0 7 * * *",
            ]
        );
    }

    #[test]
    fn rules_follow_the_local_calendar() {
        let berlin = "Europe/Berlin";
        let monthly = Rule::Monthly(MonthDay::Day(1), seven());
        assert_eq!(next(&monthly, "2026-10-01T04:59:59Z", berlin), "2026-10-01T05:00:00Z");
        assert_eq!(next(&monthly, "2026-10-01T05:00:00Z", berlin), "2026-11-01T06:00:00Z");
        let last = Rule::Monthly(MonthDay::Last, seven());
        assert_eq!(next(&last, "2026-02-01T00:00:00Z", "UTC"), "2026-02-28T07:00:00Z");
        let monday = Rule::Monthly(MonthDay::First(Weekday::Monday), seven());
        assert_eq!(next(&monday, "2026-10-06T00:00:00Z", "UTC"), "2026-11-02T07:00:00Z");
        let friday = Rule::Monthly(MonthDay::LastOf(Weekday::Friday), seven());
        assert_eq!(next(&friday, "2026-10-06T00:00:00Z", "UTC"), "2026-10-30T07:00:00Z");
        let quarterly = Rule::Quarterly(MonthDay::Day(2), seven(), 1);
        assert_eq!(next(&quarterly, "2026-02-03T00:00:00Z", "UTC"), "2026-04-02T07:00:00Z");
        let yearly = Rule::Yearly(MonthDay::Day(1), seven(), 1);
        assert_eq!(next(&yearly, "2026-01-01T07:00:00Z", "UTC"), "2027-01-01T07:00:00Z");
        let cron = Rule::Cron(Box::new("30 6 * * 1-5".parse().expect("an expression")));
        assert_eq!(next(&cron, "2026-10-02T06:30:00Z", "UTC"), "2026-10-05T06:30:00Z");
    }

    /// The fiscal year of Swedish companies may begin in May, that of the British government in
    /// April.
    #[test]
    fn quarters_and_years_follow_the_first_month_of_the_year() {
        let quarterly = Rule::Quarterly(MonthDay::Day(1), seven(), 2);
        assert_eq!(next(&quarterly, "2026-02-01T07:00:00Z", "UTC"), "2026-05-01T07:00:00Z");
        assert_eq!(next(&quarterly, "2026-11-01T07:00:00Z", "UTC"), "2027-02-01T07:00:00Z");
        let yearly = Rule::Yearly(MonthDay::Day(6), seven(), 4);
        assert_eq!(next(&yearly, "2026-04-06T07:00:00Z", "UTC"), "2027-04-06T07:00:00Z");
        let last = Rule::Quarterly(MonthDay::LastOf(Weekday::Friday), seven(), 12);
        assert_eq!(next(&last, "2026-12-01T00:00:00Z", "UTC"), "2026-12-25T07:00:00Z");
        assert_eq!(next(&last, "2026-12-26T00:00:00Z", "UTC"), "2027-03-26T07:00:00Z");
    }

    #[test]
    fn the_29th_of_february_is_its_last_day_in_other_years() {
        let yearly = Rule::Yearly(MonthDay::Day(29), seven(), 2);
        for (after, due) in [
            ("2026-03-01T00:00:00Z", "2027-02-28T07:00:00Z"),
            ("2027-03-01T00:00:00Z", "2028-02-29T07:00:00Z"),
            ("2028-02-29T07:00:00Z", "2029-02-28T07:00:00Z"),
            // Not a leap year.
            ("2099-12-31T00:00:00Z", "2100-02-28T07:00:00Z"),
        ] {
            assert_eq!(next(&yearly, after, "UTC"), due);
            let monthly = Rule::Monthly(MonthDay::Day(29), seven());
            let of_the_month = format!("{}-02-01T00:00:00Z", &due[..4]);
            assert_eq!(next(&monthly, &of_the_month, "UTC"), due);
        }
        let cron = Rule::Cron(Box::new("0 7 29 2 *".parse().expect("an expression")));
        assert_eq!(next(&cron, "2026-01-01T00:00:00Z", "UTC"), "2028-02-29T07:00:00Z");
        assert_eq!(next(&cron, "2096-03-01T00:00:00Z", "UTC"), "2104-02-29T07:00:00Z");
    }

    #[test]
    fn a_skipped_time_runs_at_the_next_and_a_repeated_one_runs_once() {
        let rule = Rule::Daily(Time::constant(2, 30, 0, 0));
        // 2026-03-29 has no 02:30 in Berlin, so 03:30 summer time is due.
        assert_eq!(next(&rule, "2026-03-28T12:00:00Z", "Europe/Berlin"), "2026-03-29T01:30:00Z");
        // At that time the clock shows 03:20, and 02:30 of that day is still due.
        assert_eq!(next(&rule, "2026-03-29T01:20:00Z", "Europe/Berlin"), "2026-03-29T01:30:00Z");
        assert_eq!(next(&rule, "2026-03-29T01:30:00Z", "Europe/Berlin"), "2026-03-30T00:30:00Z");
        // 02:30 repeats on 2026-10-25; the first counts.
        assert_eq!(next(&rule, "2026-10-24T12:00:00Z", "Europe/Berlin"), "2026-10-25T00:30:00Z");
        assert_eq!(next(&rule, "2026-10-25T00:30:00Z", "Europe/Berlin"), "2026-10-26T01:30:00Z");
    }

    proptest! {
        #[test]
        fn the_next_is_always_later(seconds in 1_600_000_000_i64..2_000_000_000, day in 1_i8..=31, hour in 0_i8..24, which in 0_usize..3) {
            let zone = zone(["Australia/Lord_Howe", "Asia/Kathmandu", "America/New_York"][which]);
            let after = UtcMicros(seconds * 1_000_000);
            let at = Time::constant(hour, 30, 0, 0);
            for rule in [Rule::Daily(at), Rule::Monthly(MonthDay::Day(day), at), Rule::Yearly(MonthDay::Last, at, 3)] {
                let next = rule.next(after, &zone);
                prop_assert!(next.is_some_and(|next| next > after));
            }
        }
    }
}
