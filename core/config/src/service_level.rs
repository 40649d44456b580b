//! Service levels: objectives of monitors over a period, within service hours.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use jiff::{civil::Date, tz::TimeZone};
use mailqos_model::{Micros, Name, UtcMicros};

use super::{
    Config, DateText, FromToml, Hours, Node, Problem, Problems, Table, hours,
    key::{Defaulted, Optional, Word, key},
    reference::{Key, ValueKind},
    table::{did_you_mean, file_text},
};

/// Maximum size of a file of holidays in bytes.
const MAX_HOLIDAYS: u64 = 1 << 20;

/// A service level of some monitors.
#[derive(Debug, Clone)]
pub struct ServiceLevel {
    /// Display name (default: the name in the configuration).
    pub name: String,
    /// Monitors by id, pattern, `tag:NAME` or `object:NAME`; all if empty.
    pub monitors: Vec<String>,
    /// Sites whose tests count; all if empty.
    pub sites: Vec<String>,
    /// Whether the monitors are judged together instead of separately.
    pub together: bool,
    /// Objectives; at least one.
    pub targets: Vec<Target>,
    /// Period of the service level.
    pub period: LevelPeriod,
    /// Service hours.
    pub hours: ServiceHours,
    /// Minimum known share of the service hours; below it, there is no verdict.
    pub min_coverage: Percent,
}

/// An objective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Minimum share of successful counted tests.
    Availability(Percent),
    /// Minimum share of time without an outage.
    Uptime(Percent),
    /// Minimum share of mails that arrive within a time.
    DeliveredWithin {
        /// Maximum time until arrival.
        limit: Micros,
        /// Minimum share of mails.
        share: Percent,
    },
    /// Minimum share of mails with a property, such as being in the inbox in time.
    Mails {
        /// Name of the share, as in the figures.
        figure: &'static str,
        /// Minimum share of mails.
        share: Percent,
    },
    /// Upper limit of a percentile of a metric.
    Percentile {
        /// Name of the metric, one of those defined in the contracts.
        metric: &'static str,
        /// The percentile: 95 % for p95.
        q: Percent,
        /// Upper limit of the percentile.
        limit: Micros,
    },
}

impl Target {
    /// Returns the minimum share of good tests or time. The rest is the error budget.
    pub fn share(&self) -> Percent {
        match self {
            Self::Availability(share)
            | Self::Uptime(share)
            | Self::DeliveredWithin { share, .. }
            | Self::Mails { share, .. } => *share,
            Self::Percentile { q, .. } => *q,
        }
    }
}

/// The period of a service level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelPeriod {
    /// A calendar week.
    Week,
    /// A calendar month.
    Month,
    /// A calendar quarter.
    Quarter,
    /// A calendar year.
    Year,
    /// This many days up to any day.
    Rolling(u32),
}

/// An exact percentage: 99.9 % of a thousand is 999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u64);

impl Percent {
    /// Value of the whole, in billionths.
    const WHOLE: u64 = 1_000_000_000;

    /// Returns the share in (0, 1).
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / Self::WHOLE as f64
    }

    /// Returns the remainder of `whole`: the error budget. The multiplication comes first, so that
    /// integers stay exact.
    pub fn rest_of(self, whole: f64) -> f64 {
        whole * (Self::WHOLE - self.0) as f64 / Self::WHOLE as f64
    }

    /// Returns whether `part` of `whole` is at least this share.
    pub fn is_reached(self, part: impl Into<u128>, whole: impl Into<u128>) -> bool {
        let (part, whole): (u128, u128) = (part.into(), whole.into());
        part.saturating_mul(Self::WHOLE.into()) >= whole.saturating_mul(self.0.into())
    }

    /// Parses a number of per cent, such as `99.9`.
    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 3
            || fraction.len() > 7
            || !digits(whole)
            || !digits(fraction)
        {
            return None;
        }
        let billionths = format!("{fraction:0<7}").parse::<u64>().ok()?
            + whole.parse::<u64>().ok()? * 10_000_000;
        (0 < billionths && billionths < Self::WHOLE).then_some(Self(billionths))
    }
}

/// Formats the number of per cent as short as possible, such as `99.9`.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 10_000_000, format!("{:07}", self.0 % 10_000_000));
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { write!(f, "{whole}") } else { write!(f, "{whole}.{fraction}") }
    }
}

impl FromToml for Percent {
    fn expected() -> String {
        "a share such as \"99.9%\"".into()
    }
    fn schema() -> serde_json::Value {
        serde_json::json!({ "anyOf": [
            { "type": "string", "pattern": r"^\s*[0-9]{1,3}(\.[0-9]{0,7})?\s*%?\s*$" },
            { "type": "number", "minimum": 1, "maximum": 100 },
        ] })
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        // Both `99.9` and `"99.9"` are accepted. A number up to 1 is ambiguous: a fraction or a
        // percentage.
        let text = String::from_toml(node)
            .or_else(|_| f64::from_toml(node).map(|number| number.to_string()))?;
        let text = text.trim();
        let is_percent = |text: &&str| text.parse::<f64>().is_ok_and(|number| number > 1.0);
        let number = text.strip_suffix('%').map(str::trim).or(Some(text).filter(is_percent));
        match number {
            Some("100" | "100.0" | "100.00") => Err(
                "100 % leaves no error budget: a single late mail would miss it; use a share below 100 %, such \
                 as \"99.95%\""
                    .into(),
            ),
            Some(number) => Self::parse(number)
                .ok_or_else(|| format!("{text:?} is not {}, between 0 % and 100 %", Self::expected())),
            None => Err(format!("{text:?} is not {}", Self::expected())),
        }
    }
}

/// Service hours: a weekly calendar in a time zone, without holidays.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceHours {
    /// Weekly hours; always if empty. Overlaps count once.
    pub weekly: Vec<Hours>,
    /// Days on which no service hours begin.
    pub holidays: Holidays,
    /// Time zone of days and hours.
    pub zone: TimeZone,
}

/// Days without service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holidays {
    /// Individual dates.
    pub dates: BTreeSet<Date>,
    /// Dates in every year: month and day.
    pub yearly: BTreeSet<(i8, i8)>,
}

impl Holidays {
    /// Returns whether a date is one of them.
    pub fn contains(&self, date: Date) -> bool {
        self.dates.contains(&date) || self.yearly.contains(&(date.month(), date.day()))
    }

    fn is_empty(&self) -> bool {
        self.dates.is_empty() && self.yearly.is_empty()
    }

    /// Adds `2026-12-24`, or `12-24` for every year. Returns whether the text is valid.
    fn add(&mut self, text: &str) -> bool {
        if let Ok(date) = text.parse::<Date>() {
            self.dates.insert(date);
            return true;
        }
        let day = text.split_once('-').and_then(|(month, day)| {
            let (month, day) = (month.parse().ok()?, day.parse().ok()?);
            // A leap year, so that every day of the year exists.
            Date::new(2024, month, day).ok().map(|_| (month, day))
        });
        day.is_some_and(|day| {
            self.yearly.insert(day);
            true
        })
    }
}

impl ServiceHours {
    /// Returns service hours around the clock.
    pub fn always(zone: TimeZone) -> Self {
        Self { weekly: Vec::new(), holidays: Holidays::default(), zone }
    }

    /// Returns whether the hours cover the whole week.
    pub fn are_all(&self) -> bool {
        self.weekly.is_empty() && self.holidays.is_empty()
    }

    /// Returns the service hours within `[from, to)`, in order and without overlaps.
    ///
    /// Hours follow the wall clock: a night with a clock change is longer or shorter.
    pub fn within(&self, from: UtcMicros, to: UtcMicros) -> Vec<(UtcMicros, UtcMicros)> {
        if self.are_all() {
            return if from < to { vec![(from, to)] } else { Vec::new() };
        }
        let local = |at: UtcMicros| self.zone.to_datetime(at.timestamp()).date();
        let whole_days = [Hours::whole_days(self.zone.clone())];
        let weekly = if self.weekly.is_empty() { &whole_days[..] } else { &self.weekly[..] };
        let mut found: Vec<(UtcMicros, UtcMicros)> = Vec::new();
        // Hours that began the day before may extend into the first day.
        let mut date = local(from).yesterday().unwrap_or(Date::MIN);
        let last = local(to);
        while date <= last {
            if !self.holidays.contains(date) {
                for hours in weekly {
                    found.extend(
                        hours
                            .on(date)
                            .map(|(begin, end)| (begin.max(from), end.min(to)))
                            .filter(|(begin, end)| begin < end),
                    );
                }
            }
            let Ok(next) = date.tomorrow() else { break };
            date = next;
        }
        found.sort_unstable();
        let mut joined: Vec<(UtcMicros, UtcMicros)> = Vec::with_capacity(found.len());
        for (begin, end) in found {
            match joined.last_mut() {
                Some(last) if begin <= last.1 => last.1 = last.1.max(end),
                _ => joined.push((begin, end)),
            }
        }
        joined
    }
}

const JUDGE: [(&str, bool); 2] = [("each", false), ("together", true)];

keys! {
    LEVEL: LevelKeys {
        /// The display name.
        name: Optional<String> = key().otherwise("the name of the table");
        /// Monitors: ids, `object:NAME`, `tag:NAME` or patterns such as `mail-*`.
        monitors: Optional<Vec<String>> = key().otherwise("all");
        /// Only tests from these sites count.
        sites: Optional<Vec<String>> = key().otherwise("all");
        /// Judge each monitor separately, or all of them as one.
        judge: Word<bool> = word!(JUDGE).default("\"each\"");
        /// The minimum share of counted tests that succeed.
        availability: Optional<Percent> = key();
        /// The minimum share of time without an outage.
        uptime: Optional<Percent> = key();
        /// The share of mails that arrive within a time: `{ "30s" = "99%" }`.
        delivered_within: Key = Key::pairs(&ValueKind::of::<Percent>());
        /// The minimum share of mails in the inbox within max round trip.
        inbox_placement: Optional<Percent> = key();
        /// The minimum share of SPF results that are `pass`.
        spf_pass_rate: Optional<Percent> = key();
        /// The minimum share of DKIM results that are `pass`.
        dkim_pass_rate: Optional<Percent> = key();
        /// The minimum share of DMARC results that are `pass`.
        dmarc_pass_rate: Optional<Percent> = key();
        /// The minimum share of mails that are accepted at the first attempt.
        first_attempt_rate: Optional<Percent> = key();
        /// Upper limits of percentiles: `{ round_trip = { p95 = "10s" } }`.
        percentile: Key = Key::table(&["service_level.percentile"]);
        /// The period that the promise covers.
        period: Defaulted<LevelPeriod> = key().default("\"month\"");
        /// Service hours: `"Mon-Fri 07:00-19:00"`, or several.
        hours: Optional<Vec<String>> = key().otherwise("around the clock");
        /// Days without service: `"2026-12-24"`, or `"12-25"` for every year.
        holidays: Defaulted<Vec<DateText>> = key().default("[]");
        /// A text file with such days, one per line.
        holidays_file: Optional<PathBuf> = key();
        /// The time zone of periods and hours.
        timezone: Optional<TimeZone> = key().otherwise("the file's");
        /// The minimum known share of the service hours; with less, no verdict is given.
        min_coverage: Defaulted<Percent> = key().default("\"90%\"");
    }
}

const fn percentiles_of(metric: &'static str, about: &'static str) -> Key {
    const LIMIT: ValueKind = ValueKind::of::<Micros>();
    Key::pairs(&LIMIT).named(metric, about)
}

/// Metrics for which percentiles can be promised.
pub(super) const PERCENTILES: [Key; 6] = [
    percentiles_of("round_trip", "The round trip."),
    percentiles_of("smtp_connect", "Opening the SMTP connection."),
    percentiles_of("smtp_send", "Sending."),
    percentiles_of("pickup_connect", "Opening the connection to the mailbox."),
    percentiles_of("pickup_login", "The login."),
    percentiles_of("pickup_receive", "Receiving."),
];

/// Reads a `[service_level.NAME]`. `complete` states whether all monitors are known.
pub(super) fn read(
    id: &Name,
    mut table: Table,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) -> Option<ServiceLevel> {
    let name = table.read(&LEVEL.name, problems).unwrap_or_else(|| id.to_string());
    let monitors = table.read(&LEVEL.monitors, problems).unwrap_or_default();
    if complete {
        for pattern in &monitors {
            if config.select(std::slice::from_ref(pattern)).is_err() {
                let help = did_you_mean(pattern, config.monitors.keys().map(AsRef::as_ref), || {
                    "use ids of monitors, patterns (\"mail-*\"), \"tag:NAME\" or \"object:NAME\""
                        .to_owned()
                });
                problems.push(
                    table
                        .problem(
                            &LEVEL.monitors,
                            format!("{pattern:?} matches no monitor"),
                            "matches nothing",
                        )
                        .help(help),
                );
            }
        }
    }
    let sites = table.read(&LEVEL.sites, problems).unwrap_or_default();
    let together = table.read(&LEVEL.judge, problems);
    let before = problems.count(super::Severity::Error);
    let targets = targets(&mut table, problems);
    if targets.is_empty() && problems.count(super::Severity::Error) == before {
        problems.push(table.missing(
            &LEVEL.availability,
            "the promised share, such as \"99.9%\"; or use uptime, delivered_within, inbox_placement or percentile",
        ));
    }
    let period = table.read(&LEVEL.period, problems);
    let zone = table.read(&LEVEL.timezone, problems).unwrap_or_else(|| config.timezone.clone());
    let weekly = weekly(&mut table, &zone, problems);
    let hours = ServiceHours { weekly, holidays: holidays(&mut table, problems), zone };
    let min_coverage = table.read(&LEVEL.min_coverage, problems);
    table.finish(problems);
    Some(ServiceLevel { name, monitors, sites, together, targets, period, hours, min_coverage })
}

fn targets(table: &mut Table, problems: &mut Problems) -> Vec<Target> {
    let mut targets = Vec::new();
    targets.extend(table.read(&LEVEL.availability, problems).map(Target::Availability));
    targets.extend(table.read(&LEVEL.uptime, problems).map(Target::Uptime));
    if let Some(within) = table.table(&LEVEL.delivered_within, problems) {
        for (limit, node) in within.into_pairs() {
            let Ok(limit) = limit.parse::<Micros>() else {
                problems.push(
                    node.problem(format!("{limit:?} is not a duration"), "of this")
                        .help("use { \"30s\" = \"99%\" }: a time and the share of mails that arrive within it"),
                );
                continue;
            };
            if let Some(share) = node.read(problems) {
                targets.push(Target::DeliveredWithin { limit, share });
            }
        }
    }
    for key in [
        &LEVEL.inbox_placement,
        &LEVEL.spf_pass_rate,
        &LEVEL.dkim_pass_rate,
        &LEVEL.dmarc_pass_rate,
        &LEVEL.first_attempt_rate,
    ] {
        let share = table.read(key, problems);
        targets.extend(share.map(|share| Target::Mails { figure: key.name, share }));
    }
    if let Some(mut percentile) = table.table(&LEVEL.percentile, problems) {
        for key in &PERCENTILES {
            let metric = key.name;
            for (which, node) in
                percentile.table(key, problems).into_iter().flat_map(Table::into_pairs)
            {
                let Some(q) = which.strip_prefix('p').and_then(Percent::parse) else {
                    problems.push(
                        node.problem(format!("{which:?} is not a percentile"), "of this")
                            .help(format!("use {metric} = {{ p95 = \"10s\" }}")),
                    );
                    continue;
                };
                if let Some(limit) = node.read(problems) {
                    targets.push(Target::Percentile { metric, q, limit });
                }
            }
        }
        percentile.finish(problems);
    }
    targets.sort_by_key(|target| match target {
        Target::Availability(_) => (0, Micros::ZERO),
        Target::Uptime(_) => (1, Micros::ZERO),
        Target::DeliveredWithin { limit, .. } => (2, *limit),
        Target::Mails { .. } => (3, Micros::ZERO),
        Target::Percentile { limit, .. } => (4, *limit),
    });
    targets
}

fn weekly(table: &mut Table, zone: &TimeZone, problems: &mut Problems) -> Vec<Hours> {
    let Some(node) = table.node(&LEVEL.hours) else {
        return Vec::new();
    };
    node.as_list()
        .iter()
        .filter_map(|item| {
            let text: String = item.read(problems)?;
            match hours::weekly(&text, zone) {
                Ok(hours) => Some(hours),
                Err(message) => {
                    problems.push(item.problem(message, "these hours").help(
                        "use \"Mon-Fri 07:00-19:00\", \"Sat 08:00-12:00\" or \"Sun 22:00-06:00\"; \
                                remove hours for around the clock",
                    ));
                    None
                }
            }
        })
        .collect()
}

fn holidays(table: &mut Table, problems: &mut Problems) -> Holidays {
    let mut holidays = Holidays::default();
    let help = "use a date such as \"2026-12-24\", or \"12-25\" for every year";
    for item in table.list(&LEVEL.holidays).map(|node| node.as_list()).unwrap_or_default() {
        if let Some(DateText(text)) = item.read(problems)
            && !holidays.add(&text)
        {
            problems.push(item.problem(format!("{text:?} is not a day"), "this day").help(help));
        }
    }
    if let Some(path) = table.read(&LEVEL.holidays_file, problems) {
        let wrong = |message: String| -> Problem {
            table.problem(&LEVEL.holidays_file, message, "this file")
        };
        match file_text(&path, MAX_HOLIDAYS) {
            Err(error) => problems.push(wrong(format!("can't read {}: {error}", path.display())).help(
                "name a text file with one day per line, such as 2026-12-24; the rest of a line is a \
                        comment",
            )),
            Ok(text) => {
                for (number, line) in text.lines().enumerate() {
                    let Some(day) = line.split_whitespace().next().filter(|day| !day.starts_with('#')) else {
                        continue;
                    };
                    if !holidays.add(day) {
                        let place = format!("{}:{}", path.display(), number + 1);
                        problems.push(wrong(format!("{place}: {day:?} is not a day")).help(help));
                        break;
                    }
                }
            }
        }
    }
    holidays
}

impl FromToml for LevelPeriod {
    fn expected() -> String {
        "\"week\", \"month\", \"quarter\", \"year\" or a rolling period of whole days such as \"30d\"".into()
    }
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": r"^(week|month|quarter|year|\+?[0-9]+d)$" })
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        let text = String::from_toml(node)?;
        Ok(match text.as_str() {
            "week" => Self::Week,
            "month" => Self::Month,
            "quarter" => Self::Quarter,
            "year" => Self::Year,
            other => {
                let days = other.strip_suffix('d').and_then(|days| days.parse().ok());
                Self::Rolling(
                    days.filter(|days| (1..=3660).contains(days))
                        .ok_or_else(|| format!("{text:?} is not {}", Self::expected()))?,
                )
            }
        })
    }
}

/// Formats the period as in the configuration: `month`, `30d`.
impl fmt::Display for LevelPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Week => f.write_str("week"),
            Self::Month => f.write_str("month"),
            Self::Quarter => f.write_str("quarter"),
            Self::Year => f.write_str("year"),
            Self::Rolling(days) => write!(f, "{days}d"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> UtcMicros {
        let timestamp: jiff::Timestamp = text.parse().expect("a time");
        timestamp.into()
    }

    fn service(hours: &[&str], holidays: &[&str], zone: &str) -> ServiceHours {
        let zone = TimeZone::get(zone).expect("a zone");
        let mut days = Holidays::default();
        for day in holidays {
            assert!(days.add(day), "{day}");
        }
        ServiceHours {
            weekly: hours.iter().map(|text| hours::weekly(text, &zone).expect("hours")).collect(),
            holidays: days,
            zone,
        }
    }

    fn hours_of(stretches: &[(UtcMicros, UtcMicros)]) -> f64 {
        stretches.iter().map(|(from, to)| (*to - *from).0 as f64 / 3.6e9).sum()
    }

    #[test]
    fn all_problems_of_a_level_are_reported_with_their_location() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(
            folder.path().join("days.txt"),
            "# ours\n2026-12-24 Christmas Eve\n2026-13-01\n",
        )
        .expect("written");
        std::fs::write(
            &path,
            r#"
site = "x"
timezone = "UTC"
[service_level.gold]
monitors = ["mial"]
availabilty = "99.9%"
uptime = "100%"
delivered_within = { "30" = "99%", "1m" = 99 }
percentile = { round_trp = { p95 = "10s" }, smtp_send = { 95 = "10s" } }
period = "fortnight"
hours = ["Mon-Fri 07:00-25:00", "Mo 07:00-09:00", "Sat 08:00-08:00"]
holidays = ["24.12.", "02-30"]
holidays_file = "days.txt"
[service_level.empty]
"#,
        )
        .expect("written");
        let problems = crate::load(&path).expect_err("much is wrong");
        let text = problems.to_string().replace(&format!("{}/", folder.path().display()), "");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn shares_are_exact() {
        for text in ["99.9", "99.95", "50", "0.0000001", "99.9999999"] {
            assert_eq!(Percent::parse(text).expect("a share").to_string(), text);
        }
        for text in ["100", "0", "", ".5", "-1", "99.99999999", "1e1", "101", "٩"] {
            assert_eq!(Percent::parse(text), None, "{text}");
        }
        let share = Percent::parse("99.9").expect("a share");
        assert!(share.is_reached(999_u64, 1000_u64) && !share.is_reached(998_u64, 999_u64));
    }

    #[test]
    fn office_hours_respect_clock_changes_and_holidays() {
        // October 2026 in Berlin has 22 working days; the clocks go back on Sunday the 25th.
        let office = service(
            &["Mon-Fri 07:00-19:00", "Sat 08:00-12:00"],
            &["10-03", "2026-10-05"],
            "Europe/Berlin",
        );
        let (from, to) = (at("2026-09-30T22:00:00Z"), at("2026-10-31T23:00:00Z"));
        let stretches = office.within(from, to);
        // 21 working days without the 5th, four Saturdays without the 3rd.
        assert!((hours_of(&stretches) - (21.0 * 12.0 + 4.0 * 4.0)).abs() < 1e-9);
        assert_eq!(stretches[0], (at("2026-10-01T05:00:00Z"), at("2026-10-01T17:00:00Z")));
        let last = stretches.last().expect("some");
        assert_eq!(last.0, at("2026-10-31T07:00:00Z"), "winter time");
    }

    #[test]
    fn a_night_with_a_clock_change_is_longer_or_shorter() {
        let nights = service(&["Sat 22:00-06:00"], &[], "Australia/Lord_Howe");
        // Lord Howe changes by half an hour on the first Sunday of April (back) and of October
        // (forward).
        let autumn = nights.within(at("2026-04-03T00:00:00Z"), at("2026-04-06T00:00:00Z"));
        let spring = nights.within(at("2026-10-02T00:00:00Z"), at("2026-10-05T00:00:00Z"));
        assert!((hours_of(&autumn) - 8.5).abs() < 1e-9, "{autumn:?}");
        assert!((hours_of(&spring) - 7.5).abs() < 1e-9, "{spring:?}");
    }

    #[test]
    fn holidays_do_not_affect_other_days() {
        let service = service(&[], &["2026-03-29"], "Europe/Berlin");
        let week = service.within(at("2026-03-27T23:00:00Z"), at("2026-03-30T22:00:00Z"));
        // The 28th and the 30th; the day between has 23 hours and is skipped.
        assert!((hours_of(&week) - 48.0).abs() < 1e-9, "{week:?}");
    }

    proptest! {
        #[test]
        fn service_hours_are_ordered_disjoint_and_within_the_period(
            begin in 0i64..400 * 24, hours in 1i64..24 * 40, from in 0i8..24, to in 0i8..24, day in 0usize..7,
        ) {
            prop_assume!(from != to);
            let day = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][day];
            let text = format!("{day} {from:02}:00-{to:02}:00");
            let service = service(&[&text, "Mon-Sun 09:30-10:15"], &["07-04"], "America/New_York");
            let from = UtcMicros(1_700_000_000_000_000 + begin * 3_600_000_000);
            let to = from + Micros::from_secs(hours * 3600);
            let found = service.within(from, to);
            prop_assert!(found.iter().all(|(a, b)| from <= *a && a < b && *b <= to));
            prop_assert!(found.windows(2).all(|pair| pair[0].1 < pair[1].0));
            // Splitting the period does not change the total.
            let middle = from + Micros((to - from).0 / 3);
            let parts = hours_of(&service.within(from, middle)) + hours_of(&service.within(middle, to));
            prop_assert!((parts - hours_of(&found)).abs() < 1e-6);
        }
    }
}
