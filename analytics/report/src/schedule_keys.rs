//! Table `schedule` of a definition: when a report is generated.

use jiff::civil::{Time, Weekday};
use mailqos_config::{
    Cron, DateText, FromToml as _, Problems, Table,
    key::{Defaulted, Optional, OptionalWord, Word, key},
    keys,
    reference::Key,
    time_of_day, weekday, word,
};
use mailqos_model::Micros;

/// Schedule of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Calendar rule.
    pub rule: Rule,
    /// Handling of runs that were missed while no schedule was running.
    pub catch_up: CatchUp,
    /// Maximum wait, after the due time, until the lake covers the period.
    pub grace: Micros,
}

/// A calendar rule, in the time zone of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Every day.
    Daily(Time),
    /// On a day of each week.
    Weekly(Weekday, Time),
    /// On a day of each month.
    Monthly(MonthDay, Time),
    /// On a day of the first month of each quarter of years that begin in that month.
    Quarterly(MonthDay, Time, i8),
    /// On a day of the first month of years that begin in that month.
    Yearly(MonthDay, Time, i8),
    /// A cron expression: minute, hour, day of month, month, day of week.
    Cron(Box<Cron>),
}

/// A day of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonthDay {
    /// The nth day; the last day in shorter months.
    Day(i8),
    /// The last day.
    Last,
    /// The first weekday of this kind.
    First(Weekday),
    /// The last weekday of this kind.
    LastOf(Weekday),
}

/// Handling of runs that were missed while no schedule was running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// All are made up for, each with its original period.
    All,
    /// Only the latest is made up for.
    #[default]
    Latest,
    /// None are made up for.
    None,
}

const EVERY: [(&str, u8); 5] = [("day", 0), ("week", 1), ("month", 2), ("quarter", 3), ("year", 4)];
const CATCH_UP: [(&str, CatchUp); 3] =
    [("all", CatchUp::All), ("latest", CatchUp::Latest), ("none", CatchUp::None)];

keys! {
    SCHEDULE: ScheduleKeys {
        /// The calendar rule; required without `cron`. Weeks, quarters and years follow
        /// `week_start` and `year_start`.
        every: OptionalWord<u8> = word!(EVERY);
        /// The day: of weeks `monday` …, otherwise `1` to `31`, `last`, `first-monday`,
        /// `last-friday`.
        on: Optional<String> = key().otherwise("the first");
        /// The time of day.
        at: Defaulted<DateText> = key().default("\"07:00\"");
        /// A cron expression instead of `every`: minute, hour, day of month, month, day of week.
        cron: Optional<Cron> = key();
        /// How long to wait for unsettled samples.
        grace: Defaulted<Micros> = key().default("\"0s\"");
        /// Which runs are made up for if they were missed while no schedule was running.
        catch_up: Word<CatchUp> = word!(CATCH_UP).default("\"latest\"");
    }
}

/// Reads the table `schedule` of a report whose weeks and years begin on this day and in this
/// month.
pub(super) fn read(
    mut table: Table,
    (week_start, year_start): (Weekday, i8),
    problems: &mut Problems,
) -> Option<Schedule> {
    let cron = table.read(&SCHEDULE.cron, problems);
    let every = table.read(&SCHEDULE.every, problems);
    if has_lists(&mut table, problems) {
        return None;
    }
    let on = table.read(&SCHEDULE.on, problems).map(|on| day_word(&on));
    let at = time(&mut table, problems)?;
    let catch_up = table.read(&SCHEDULE.catch_up, problems);
    let grace = table.read(&SCHEDULE.grace, problems);
    reject_ignored(&mut table, cron.is_some(), every, problems);
    let on = on.as_deref();
    let rule = match (cron, every) {
        (Some(cron), None) => Some(Rule::Cron(Box::new(cron))),
        (Some(_), Some(_)) => {
            problems.push(table.problem(
                &SCHEDULE.cron,
                "cron and every can't be combined",
                "keep one of them",
            ));
            None
        }
        (None, Some(0)) => Some(Rule::Daily(at)),
        (None, Some(1)) => {
            day_of_week(on, week_start, &table, problems).map(|day| Rule::Weekly(day, at))
        }
        (None, Some(2)) => month_day(on, &table, problems).map(|day| Rule::Monthly(day, at)),
        (None, Some(3)) => {
            month_day(on, &table, problems).map(|day| Rule::Quarterly(day, at, year_start))
        }
        (None, Some(_)) => {
            month_day(on, &table, problems).map(|day| Rule::Yearly(day, at, year_start))
        }
        (None, None) => {
            if table.node(&SCHEDULE.every).is_none() && table.node(&SCHEDULE.cron).is_none() {
                problems.push(table.missing(
                    &SCHEDULE.every,
                    "day, week, month, quarter or year; or use cron = \"0 7 1 * *\"",
                ));
            }
            None
        }
    };
    table.finish(problems);
    Some(Schedule { rule: rule?, catch_up, grace })
}

/// Notes keys that have several values: a report is due at one time only, except by a cron
/// expression.
fn has_lists(table: &mut Table, problems: &mut Problems) -> bool {
    let single: [(&Key, &str); 2] =
        [(&SCHEDULE.on, "0 7 1,15 * *"), (&SCHEDULE.at, "0 7,19 * * *")];
    for (key, cron) in single {
        if let Some(node) = table.node(key).filter(|node| node.as_list().len() > 1) {
            problems.push(node.problem(format!("{} takes one value", key.name), "several").help(
                format!("use a single value, or replace every, on and at with cron = \"{cron}\""),
            ));
            return true;
        }
    }
    false
}

/// Reads the time of day; an invalid one is noted.
fn time(table: &mut Table, problems: &mut Problems) -> Option<Time> {
    let at = table.node(&SCHEDULE.at).map(|node| {
        // `at = 7` and `at = 07:00:00`.
        let text = DateText::from_toml(&node).map(|text| text.0);
        text.or_else(|_| String::from_toml(&node)).unwrap_or_default()
    });
    let at = at.unwrap_or_else(|| table.default_of::<String>(&SCHEDULE.at));
    let time = time_of_day(&at);
    if time.is_none() {
        problems.push(
            table
                .problem(&SCHEDULE.at, format!("{at:?} is not a time of day"), "here")
                .help("use a time such as \"07:00\""),
        );
    }
    time
}

/// Rejects keys that would be ignored.
fn reject_ignored(table: &mut Table, has_cron: bool, every: Option<u8>, problems: &mut Problems) {
    let (with, unused, remedy): (&str, &[&Key], &str) = match (has_cron, every) {
        (true, None) => (
            "cron",
            &[&SCHEDULE.on, &SCHEDULE.at],
            "remove it; the cron expression already sets the time",
        ),
        (false, Some(0)) => (
            "every = \"day\"",
            &[&SCHEDULE.on],
            "remove it, or set every = \"week\", \"month\", \"quarter\" or \"year\"",
        ),
        _ => return,
    };
    for key in unused {
        if table.node(key).is_some() {
            let message = format!("{} has no effect with {with}", key.name);
            problems.push(table.problem(key, message, "here").help(remedy));
        }
    }
}

/// Returns the weekday that `on` names, by default the first of the week; another word is noted.
fn day_of_week(
    on: Option<&str>,
    week_start: Weekday,
    table: &Table,
    problems: &mut Problems,
) -> Option<Weekday> {
    let Some(text) = on else {
        return Some(week_start);
    };
    let day = weekday(text);
    if day.is_none() {
        problems.push(
            table
                .problem(&SCHEDULE.on, format!("{text:?} is not a weekday"), "here")
                .help("use monday, tuesday, … or sunday"),
        );
    }
    day
}

/// Returns the day of a month that `on` names, by default the first; another word is noted.
fn month_day(on: Option<&str>, table: &Table, problems: &mut Problems) -> Option<MonthDay> {
    let text = on.unwrap_or("1");
    let day = match text {
        "last" => Some(MonthDay::Last),
        other => match (other.strip_prefix("first-"), other.strip_prefix("last-")) {
            (Some(day), _) => weekday(day).map(MonthDay::First),
            (_, Some(day)) => weekday(day).map(MonthDay::LastOf),
            (None, None) => {
                other.parse().ok().filter(|day| (1..=31).contains(day)).map(MonthDay::Day)
            }
        },
    };
    if day.is_none() {
        problems.push(
            table
                .problem(&SCHEDULE.on, format!("{text:?} is not a day of the month"), "here")
                .help("use \"1\" to \"31\", \"last\", \"first-monday\" or \"last-friday\""),
        );
    }
    day
}

/// Normalises the usual spellings of a day: `1st`, `1.`, `Last day`, `first Monday`, `Mondays`.
fn day_word(text: &str) -> String {
    let word = text.trim().to_lowercase().replace([' ', '_'], "-");
    let number = word.trim_end_matches(|c: char| !c.is_ascii_digit());
    match word.as_str() {
        "last-day" => "last".to_owned(),
        "first" | "first-day" => "1".to_owned(),
        other
            if !number.is_empty()
                && ["st", "nd", "rd", "th", "."].contains(&&other[number.len()..]) =>
        {
            number.to_owned()
        }
        other => {
            other.strip_suffix("days").map_or_else(|| other.to_owned(), |day| format!("{day}day"))
        }
    }
}
