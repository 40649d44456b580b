//! Names of files and folders: the default ones, and templates of names with variables.

use std::collections::{BTreeMap, HashSet};

use jiff::{
    civil::Date,
    tz::{AmbiguousOffset, TimeZone},
};
use mailqos_base::comparable;
use mailqos_config::{Config, Target, TooLarge};
use mailqos_figures::{Calendar, Period, Unit};
use mailqos_model::{Micros, Name, UtcMicros};

use super::{
    definition::{Definition, Delivery, Grouping},
    stems::stems,
};

const HOUR: Micros = Micros::from_secs(3_600);
const DAY: Micros = Micros::from_secs(86_400);

/// An invalid name template.
#[derive(Debug, thiserror::Error)]
#[error("{key} {template:?}: {reason}")]
pub struct NameError {
    /// Key of the template: `deliver.name`, `deliver.path` or that of a target.
    pub key: String,
    /// Text of the template.
    pub template: String,
    /// Reason why the template is invalid.
    pub reason: String,
}

/// Variables for names of folders and files.
pub struct Names(tera::Context);

impl Names {
    /// Returns the variables of a report on a period, by the time at which its run was due.
    pub fn of_report(definition: &Definition, stem: &str, period: &Period, run: UtcMicros) -> Self {
        Self::new(&definition.slug, &definition.template.title, stem, period, run)
    }

    /// Returns the variables of files that a user names; their period is the current day.
    pub fn of_day(config: &Config, stem: &str, now: UtcMicros) -> Self {
        let calendar = Calendar::new(config.timezone.clone());
        let today = Period::named("today", now, calendar.clone());
        // At the end of the calendar's range, the period is the current hour.
        let period = today.or_else(|_| Period::new(now, now + HOUR, calendar));
        match period {
            Ok(period) => Self::new(stem, stem, stem, &period, now),
            Err(_) => Self(tera::Context::new()),
        }
    }

    fn new(slug: &str, title: &str, stem: &str, period: &Period, run: UtcMicros) -> Self {
        let zone = period.timezone();
        let (from, last) = (date(period.from, zone), date(UtcMicros(period.to.0 - 1), zone));
        // A week around New Year may belong to another year than its first day.
        let week = from.iso_week_date();
        let calendar = &period.calendar;
        let months_into_year = (from.month() - calendar.year_start).rem_euclid(12);
        let local = zone.to_datetime(period.from.timestamp());
        let mut context = tera::Context::new();
        context.insert(
            "period",
            &serde_json::json!({
                "from": from.to_string(),
                "to": last.to_string(),
                "year": format!("{:04}", from.year()),
                "quarter": format!("{}", months_into_year / 3 + 1),
                "quarter_year": format!("{:04}", calendar.first_date(Unit::Year, from).year()),
                "month": format!("{:02}", from.month()),
                "week": format!("{:02}", week.week()),
                "week_year": format!("{:04}", week.year()),
                "day": format!("{:02}", from.day()),
                "hour": hour(period.from, zone),
                "minute": format!("{:02}", local.minute()),
                "from_time": time(period.from, zone),
                "to_time": time(period.to, zone),
                "stem": period_stem(period),
            }),
        );
        // A text from a user is a single component of a path.
        let part = |text: &str| text.replace(['/', '\\'], "-");
        context.insert(
            "report",
            &serde_json::json!({
                "slug": part(slug),
                "title": part(title),
                "stem": part(stem),
                "date": date(run, zone).to_string(),
                "time": time(run, zone),
            }),
        );
        Self(context)
    }

    /// Returns the name that results from a template.
    ///
    /// # Errors
    /// The template is invalid or uses an unknown variable.
    pub fn expand(&self, key: &str, template: &str) -> Result<String, NameError> {
        if !template.contains('{') {
            return Ok(template.to_owned());
        }
        tera::Tera::one_off(template, &self.0, false).map_err(|error| NameError {
            key: key.to_owned(),
            template: template.to_owned(),
            reason: std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string),
        })
    }

    /// Returns the folders of a delivery, relative to the base folder of its target and to that of
    /// the target that its mails link to: the path from the target's configuration, followed by
    /// `path`.
    ///
    /// # Errors
    /// A template is invalid.
    pub fn folders(
        &self,
        config: &Config,
        target: &Name,
        path: &str,
    ) -> Result<(String, String), NameError> {
        let path = self.expand("deliver.path", path)?;
        let below = |name: &Name| match config.targets.get(name) {
            Some(Target::Files(files)) => {
                self.expand(&format!("the path of target.{name}"), &files.below)
            }
            _ => Ok(String::new()),
        };
        let join = |first: String, second: &str| match (first.trim_matches('/'), second) {
            ("", second) => second.to_owned(),
            (first, "") => first.to_owned(),
            (first, second) => format!("{first}/{second}"),
        };
        let folder = join(below(target)?, &path);
        let linked = match config.targets.get(target) {
            Some(Target::Email(email)) => match &email.too_large {
                TooLarge::Link(name) => join(below(name)?, &path),
                TooLarge::Leave => String::new(),
            },
            _ => String::new(),
        };
        Ok((folder, linked))
    }
}

fn date(moment: UtcMicros, zone: &TimeZone) -> Date {
    zone.to_datetime(moment.timestamp()).date()
}

/// Returns whether this local time occurs for the second time, because the clock was set back.
fn is_repeated(moment: UtcMicros, zone: &TimeZone) -> bool {
    let timestamp = moment.timestamp();
    let ambiguous = zone.to_ambiguous_timestamp(zone.to_datetime(timestamp));
    match ambiguous.offset() {
        AmbiguousOffset::Fold { after, .. } => zone.to_offset(timestamp) == after,
        _ => false,
    }
}

/// Returns the local hour, such as `02`; the second occurrence of a repeated hour is `02b`, so that
/// no name repeats.
fn hour(moment: UtcMicros, zone: &TimeZone) -> String {
    let hour = zone.to_datetime(moment.timestamp()).hour();
    format!("{hour:02}{}", if is_repeated(moment, zone) { "b" } else { "" })
}

/// Returns the local time, such as `0230`, or `0230b` for its second occurrence.
fn time(moment: UtcMicros, zone: &TimeZone) -> String {
    let local = zone.to_datetime(moment.timestamp());
    let again = if is_repeated(moment, zone) { "b" } else { "" };
    format!("{:02}{:02}{again}", local.hour(), local.minute())
}

/// Returns a period for file names: `2026-10`, `2026`, `2026-10-03`, `2026-10-03_2026-10-09`. A
/// period that does not consist of whole days is `2026-10-03T14` for an hour,
/// `2026-10-03T1400-1730` or `2026-10-03T2200_2026-10-04T0200`.
pub fn period_stem(period: &Period) -> String {
    let zone = period.timezone();
    let begins_day = |moment: UtcMicros| period.calendar.midnight(date(moment, zone)) == moment;
    let (first, last) = (date(period.from, zone), date(UtcMicros(period.to.0 - 1), zone));
    if !begins_day(period.from) || !begins_day(period.to) {
        let local = zone.to_datetime(period.from.timestamp());
        return if period.duration() == HOUR && local.minute() == 0 {
            format!("{first}T{}", hour(period.from, zone))
        } else if first == date(period.to, zone) {
            format!("{first}T{}-{}", time(period.from, zone), time(period.to, zone))
        } else {
            let end = date(period.to, zone);
            format!("{first}T{}_{end}T{}", time(period.from, zone), time(period.to, zone))
        };
    }
    if first == last {
        first.to_string()
    } else if first.day() == 1
        && first.month() == 1
        && (last.month(), last.day()) == (12, 31)
        && first.year() == last.year()
    {
        format!("{:04}", first.year())
    } else if first.day() == 1 && last == first.last_of_month() {
        format!("{:04}-{:02}", first.year(), first.month())
    } else {
        format!("{first}_{last}")
    }
}

/// A file at a target: target, folder and name.
pub(crate) type Place = (String, String, String);

/// Files of future runs of definitions, with the period of each run. Only runs that differ in every
/// part of their dates are considered.
pub(crate) struct Writes {
    /// Runs by target, folder and name of their files.
    places: BTreeMap<Place, Written>,
}

/// The run that writes a file.
#[derive(Clone, PartialEq, Eq)]
struct Written {
    slug: String,
    period: (UtcMicros, UtcMicros),
    run: UtcMicros,
}

impl Written {
    /// Returns the clash with a later run that would write the same file.
    fn clash(&self, delivery: usize, (target, folder, name): Place, later: &Self) -> Clash {
        Clash {
            delivery,
            target,
            file: if folder.is_empty() { name } else { format!("{folder}/{name}") },
            runs: (self.run, later.run),
            other: (self.slug != later.slug).then(|| self.slug.clone()),
        }
    }
}

/// Two runs that would write the same file.
#[derive(Debug)]
pub(crate) struct Clash {
    /// Index of the delivery in the definition.
    pub(crate) delivery: usize,
    /// Name of the target.
    pub(crate) target: String,
    /// File, with its folder.
    pub(crate) file: String,
    /// Times of the two runs.
    pub(crate) runs: (UtcMicros, UtcMicros),
    /// Slug of the other definition, if the runs belong to different ones.
    pub(crate) other: Option<String>,
}

/// Start of the considered runs. It is constant, so that the validity of a definition never
/// changes.
const BASE: UtcMicros = UtcMicros(1_798_761_600_000_000);

/// Maximum number of names of reports per monitor that are compared with those of other
/// definitions.
const MAX_NAMES: usize = 4_000;

/// Returns the times of runs that differ in every part of their dates: consecutive runs, runs on
/// consecutive days and in consecutive months over two years, and runs around New Year and clock
/// changes.
fn sample_runs(definition: &Definition, zone: &TimeZone) -> Vec<UtcMicros> {
    let Some(schedule) = &definition.schedule else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut consecutive = |from: UtcMicros, most: usize| {
        let mut after = from;
        for _ in 0..most {
            let Some(next) = schedule.rule.next(after, zone) else {
                break;
            };
            found.push(next);
            after = next;
        }
    };
    consecutive(BASE, 50);
    for day in 1..=40 {
        consecutive(BASE + Micros(DAY.0 * day), 1);
    }
    for month in 1..=26 {
        consecutive(BASE + Micros(DAY.0 * 61 / 2 * month), 2);
    }
    // Weeks around a new year may have the number of a week in another year: 2029 begins and ends
    // with week 1.
    for year in 2028..=2033 {
        if let Ok(new_year) = zone.to_timestamp(jiff::civil::date(year, 1, 1).at(0, 0, 0, 0)) {
            consecutive(UtcMicros::from(new_year) - Micros(DAY.0 * 8), 4);
        }
    }
    let transitions = zone.following(BASE.timestamp()).take(2);
    for transition in transitions {
        let at: UtcMicros = transition.timestamp().into();
        consecutive(UtcMicros(at.0 - HOUR.0 * 4), 16);
    }
    found.sort_unstable();
    found.dedup();
    found
}

impl Writes {
    /// Creates an empty collection.
    pub(crate) fn new() -> Self {
        Self { places: BTreeMap::new() }
    }

    /// Adds the files of a definition's runs and returns the first clash of each of its deliveries.
    ///
    /// # Errors
    /// A name template is invalid.
    pub(crate) fn add(
        &mut self,
        definition: &Definition,
        config: &Config,
    ) -> Result<Vec<Clash>, NameError> {
        let calendar = definition.calendar(Some(config));
        let name = definition.period.as_deref().unwrap_or("last-month");
        let mut clashes: Vec<Clash> = Vec::new();
        let mut told = HashSet::new();
        let stems = stems(definition, config);
        for (number, run) in sample_runs(definition, &calendar.timezone).into_iter().enumerate() {
            let Ok(period) = Period::named(name, run, calendar.clone()) else {
                continue;
            };
            let most = if number * stems.len() < MAX_NAMES { stems.len() } else { 1 };
            for stem in &stems[..most] {
                let stem = format!("{stem}-{}", period_stem(&period));
                let names = Names::of_report(definition, &stem, &period, run);
                for (number, delivery) in definition.deliveries.iter().enumerate() {
                    let written = Written {
                        slug: definition.slug.clone(),
                        period: (period.from, period.to),
                        run,
                    };
                    for place in places(definition, delivery, config, &names, &stem)? {
                        let known =
                            self.places.entry(place.clone()).or_insert_with(|| written.clone());
                        let is_same = known.slug == written.slug && known.period == written.period;
                        if is_same || delivery.overwrite || told.contains(&number) {
                            continue;
                        }
                        told.insert(number);
                        clashes.push(known.clash(number, place, &written));
                    }
                }
            }
        }
        Ok(clashes)
    }
}

/// Returns the files that a delivery writes in a run. Mails write no files, except at the target
/// that they link to.
fn places(
    definition: &Definition,
    delivery: &Delivery,
    config: &Config,
    names: &Names,
    stem: &str,
) -> Result<Vec<Place>, NameError> {
    let (folder, linked) = names.folders(config, &delivery.target, &delivery.path)?;
    let (target, folder) = match config.targets.get(&delivery.target) {
        Some(Target::Email(email)) => match &email.too_large {
            TooLarge::Link(name) => (name.clone(), linked),
            TooLarge::Leave => return Ok(Vec::new()),
        },
        _ => (delivery.target.clone(), folder),
    };
    let name = match delivery.name.as_str() {
        "" => stem.to_owned(),
        // The names of reports per monitor differ in their stems.
        template if definition.each != Grouping::All && !template.contains("report.stem") => {
            format!("{template}-{stem}")
        }
        template => names.expand("deliver.name", template)?,
    };
    let formats = if delivery.formats.is_empty() { &definition.formats } else { &delivery.formats };
    let files = formats.iter().map(|format| format!("{name}.{}", format.extension()));
    Ok(files.map(|file| (target.to_string(), comparable(&folder), comparable(&file))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(from: &str, to: &str, zone: &str) -> Period {
        let moment =
            |text: &str| UtcMicros::from(text.parse::<jiff::Timestamp>().expect("a moment"));
        let calendar = Calendar::new(TimeZone::get(zone).expect("a zone"));
        Period::new(moment(from), moment(to), calendar).expect("a period")
    }

    #[test]
    fn default_names_have_the_hour_where_periods_are_shorter_than_days() {
        let berlin = "Europe/Berlin";
        for (from, to, stem) in [
            ("2026-10-02T22:00:00Z", "2026-10-03T22:00:00Z", "2026-10-03"),
            ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z", "2026-10"),
            ("2025-12-31T23:00:00Z", "2026-12-31T23:00:00Z", "2026"),
            ("2026-10-03T12:00:00Z", "2026-10-03T13:00:00Z", "2026-10-03T14"),
            ("2026-10-03T12:30:00Z", "2026-10-03T13:30:00Z", "2026-10-03T1430-1530"),
            ("2026-10-03T20:00:00Z", "2026-10-04T00:00:00Z", "2026-10-03T2200_2026-10-04T0200"),
            // From 22:00 to 24:00: the end belongs to the next day.
            ("2026-10-03T20:00:00Z", "2026-10-03T22:00:00Z", "2026-10-03T2200_2026-10-04T0000"),
            // The repeated hour.
            ("2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02"),
            ("2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T02b"),
        ] {
            assert_eq!(period_stem(&period(from, to, berlin)), stem);
        }
        // A day without midnight starts at 01:00.
        let cairo = period("2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z", "Africa/Cairo");
        assert_eq!(period_stem(&cairo), "2026-04-24");
    }

    /// Returns the names of periods by a template; years begin in this month.
    fn named(template: &str, year_start: i8, periods: &[(&str, &str)]) -> Vec<String> {
        let calendar = Calendar {
            year_start,
            ..Calendar::new(TimeZone::get("Europe/Berlin").expect("a zone"))
        };
        let name = |(name, now): &(&str, &str)| {
            let now = UtcMicros::from(now.parse::<jiff::Timestamp>().expect("a moment"));
            let period = Period::named(name, now, calendar.clone()).expect("a period");
            let names = Names::new("r", "R", "r", &period, now);
            names.expand("deliver.name", template).expect("a name")
        };
        periods.iter().map(name).collect()
    }

    #[test]
    fn weeks_around_a_new_year_belong_to_one_year() {
        let weeks = [
            ("2026-12-28T00:00:00Z", "2026-W52"),
            ("2027-01-01T00:00:00Z", "2026-W52"),
            ("2027-01-03T23:00:00Z", "2026-W53"),
            ("2027-01-11T00:00:00Z", "2027-W01"),
            ("2030-01-07T00:00:00Z", "2030-W01"),
            ("2024-12-30T00:00:00Z", "2024-W52"),
            ("2025-01-06T00:00:00Z", "2025-W01"),
        ];
        for (now, name) in weeks {
            let names =
                named("{{ period.week_year }}-W{{ period.week }}", 1, &[("last-week", now)]);
            assert_eq!(names, [name], "{now}");
        }
    }

    #[test]
    fn quarters_are_those_of_the_year_that_begins_in_a_month() {
        let template = "{{ period.quarter_year }}-q{{ period.quarter }}";
        let quarters = [
            ("last-quarter", "2026-06-30T00:00:00Z"),
            ("last-quarter", "2026-07-05T00:00:00Z"),
            ("2026-q1", "2026-07-05T00:00:00Z"),
            ("2026-q4", "2026-07-05T00:00:00Z"),
        ];
        assert_eq!(named(template, 4, &quarters), ["2025-q4", "2026-q1", "2026-q1", "2026-q4"]);
        assert_eq!(named(template, 1, &quarters), ["2026-q1", "2026-q2", "2026-q1", "2026-q4"]);
        // A year from March ends on 29 February.
        let from =
            named("{{ period.from }} {{ period.to }}", 3, &[("last-year", "2028-03-01T12:00:00Z")]);
        assert_eq!(from, ["2027-03-01 2028-02-29"]);
        let stem = named("{{ period.stem }}", 2, &[("last-month", "2028-03-01T12:00:00Z")]);
        assert_eq!(stem, ["2028-02"]);
    }

    #[test]
    fn no_two_hours_of_a_year_have_one_name() {
        for zone in
            ["Europe/Berlin", "Australia/Lord_Howe", "America/Asuncion", "UTC", "Asia/Kolkata"]
        {
            let calendar = Calendar::new(TimeZone::get(zone).expect("a zone"));
            let mut names = HashSet::new();
            for hour in 0..366 * 24 {
                let from = UtcMicros(BASE.0 + HOUR.0 * hour);
                let period = Period::new(from, from + HOUR, calendar.clone()).expect("a period");
                let stem = period_stem(&period);
                assert!(names.insert(stem.clone()), "{zone} {from}: {stem}");
            }
        }
    }
}
