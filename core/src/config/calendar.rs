//! A calendar: the moments that a cron expression names in a time zone.

use std::str::FromStr;

use chrono::{NaiveDate, TimeZone as _};
use jiff::{civil::DateTime, tz::TimeZone};

use super::{FromToml, Node};
use crate::model::UtcMicros;

/// The same local time comes twice when clocks are set back, sixty times for an expression of every minute: no more are skipped.
const STEPS: usize = 4_000;

/// A cron expression: five fields, or six with seconds in front.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    pattern: croner::Cron,
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
        Ok(Self {
            text: text.to_owned(),
            pattern,
        })
    }
}

impl Cron {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first moment after `after`; `None` if there is none.
    ///
    /// A local time that a daylight-saving change leaves out comes at the next one that exists; one that comes twice counts the first time.
    pub fn next(&self, after: UtcMicros, zone: &TimeZone) -> Option<UtcMicros> {
        let mut local = zone.to_datetime(after.timestamp());
        for _ in 0..STEPS {
            local = self.next_local(local)?;
            let moment: UtcMicros = zone.to_timestamp(local).ok()?.into();
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

    #[test]
    fn an_expression_follows_the_clock_on_the_wall_of_its_zone() {
        let mut problems = super::super::Problems::default();
        let mut table =
            super::super::parse("x.toml".as_ref(), "c = \"30 2 * * *\"".into(), &mut problems).expect("TOML");
        let calendar = Calendar {
            cron: Box::new(table.get("c", &mut problems).expect("an expression")),
            zone: TimeZone::get("Europe/Berlin").expect("a zone"),
        };
        let next = |text: &str| {
            let at: UtcMicros = text.parse::<jiff::Timestamp>().expect("a time").into();
            calendar.next(at).expect("it comes").to_string()
        };
        assert_eq!(next("2026-03-27T12:00:00Z"), "2026-03-28T01:30:00Z");
        // 2026-03-29 has no 02:30: 03:30 summer time it is. 2026-10-25 has it twice: the first counts.
        assert_eq!(next("2026-03-28T12:00:00Z"), "2026-03-29T01:30:00Z");
        assert_eq!(next("2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(next("2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    }
}
