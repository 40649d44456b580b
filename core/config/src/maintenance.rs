//! Maintenance: planned windows during which no alarm is raised and samples don't count in the
//! availability.

use jiff::{civil::DateTime, tz::TimeZone};
use mailqos_model::{Micros, Name, UtcMicros};

use super::{
    Config, Cron, DateText, FromToml, Hours, Node, Problems, Severity, Table,
    hours::HOURS,
    key::{Optional, Word, key},
};

/// Maximum duration of a window.
const MAX_LENGTH: Micros = Micros::from_secs(366 * 86_400);

/// A planned window, single or recurring.
#[derive(Debug, Clone)]
pub struct Maintenance {
    /// Name of the window.
    pub name: Name,
    /// Reason for the maintenance.
    pub reason: Option<String>,
    /// Affected monitors, as selections; all if empty.
    pub monitors: Vec<String>,
    /// Whether tests are skipped.
    pub pause: bool,
    /// When it occurs.
    pub when: Window,
}

/// When a maintenance window occurs.
#[derive(Debug, Clone, PartialEq)]
pub enum Window {
    /// Once.
    Once {
        /// Start of the window.
        from: UtcMicros,
        /// End of the window, which is not part of it.
        to: UtcMicros,
    },
    /// Every week.
    Weekly(Hours),
    /// At the times of a cron expression.
    Calendar {
        /// Start times.
        cron: Box<Cron>,
        /// The time zone.
        zone: TimeZone,
        /// Duration of each window.
        lasts: Micros,
    },
}

impl Window {
    /// Returns windows that start by a cron expression, such as `0 2 * * 6` with `2h`.
    ///
    /// # Errors
    /// The expression is invalid, never occurs, or its windows would overlap.
    ///
    /// # Examples
    /// ```
    /// use mailqos_config::Window;
    /// use mailqos_model::Micros;
    ///
    /// let zone = jiff::tz::TimeZone::UTC;
    /// assert!(Window::recurring("0 2 * * 6", Micros::from_secs(7_200), zone.clone()).is_ok());
    /// assert!(Window::recurring("0 2 * * *", Micros::from_secs(90_000), zone.clone()).is_err());
    /// assert!(Window::recurring("0 2 30 2 *", Micros::from_secs(7_200), zone).is_err());
    /// ```
    pub fn recurring(cron: &str, lasts: Micros, zone: TimeZone) -> Result<Self, String> {
        if lasts < Micros::from_secs(1) || lasts > MAX_LENGTH {
            return Err("a window lasts from one second to a year".to_owned());
        }
        let cron: Cron = cron.parse()?;
        let first = cron.next(UtcMicros::now(), &zone).ok_or("this time never occurs")?;
        match cron.next(first, &zone) {
            Some(second) if second - first <= lasts => {
                Err("the next window starts before this one has ended".to_owned())
            }
            _ => Ok(Self::Calendar { cron: Box::new(cron), zone, lasts }),
        }
    }

    /// Returns the occurrence that contains `at`, or else the first one after it; `None` if there
    /// is none.
    pub fn next(&self, at: UtcMicros) -> Option<(UtcMicros, UtcMicros)> {
        match self {
            Self::Once { from, to } => (*to > at).then_some((*from, *to)),
            Self::Weekly(hours) => hours.next(at),
            Self::Calendar { cron, zone, lasts } => {
                let begin = cron.next(at - *lasts, zone)?;
                Some((begin, begin + *lasts))
            }
        }
    }
}

/// A local date and time, or a time with its offset.
pub(super) enum Moment {
    Local(DateTime),
    Fixed(UtcMicros),
}

impl FromToml for Moment {
    fn expected() -> String {
        "a date and time in quotes, such as \"2026-12-01T22:00\" or \"2026-12-01T22:00:00Z\"".into()
    }
    fn schema() -> serde_json::Value {
        DateText::schema()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        let DateText(text) = DateText::from_toml(node)?;
        if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::Fixed(timestamp.into()));
        }
        text.parse().map(Self::Local).map_err(|_| format!("{text:?} is not {}", Self::expected()))
    }
}

impl Moment {
    /// Returns the time in a zone, or the end of the year 9999 if it is out of range.
    fn in_zone(&self, zone: &TimeZone) -> UtcMicros {
        match self {
            Self::Local(local) => zone.to_timestamp(*local).unwrap_or(jiff::Timestamp::MAX).into(),
            Self::Fixed(moment) => *moment,
        }
    }
}

const TESTS: [(&str, bool); 2] = [("run", false), ("pause", true)];

keys! {
    MAINTENANCE: MaintenanceKeys {
        /// Monitors: ids, `object:NAME`, `tag:NAME` or patterns such as `mail-*`.
        monitors: Optional<Vec<String>> = key().otherwise("all");
        /// The reason, shown in status and reports.
        reason: Optional<String> = key();
        /// Whether tests continue during the window.
        tests: Word<bool> = word!(TESTS).default("\"run\"");
        /// The start of a single window.
        from: Optional<Moment> = key();
        /// The end of a single window.
        to: Optional<Moment> = key();
        /// The starts of recurring windows.
        cron: Optional<Cron> = key();
        /// The duration of the window.
        lasts: Optional<Micros> = key().within("1s", "366d");
    }
}

/// Reads a table `[maintenance.NAME]`. `complete` states whether all monitors are known.
pub(super) fn read(
    name: Name,
    mut table: Table,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) -> Option<Maintenance> {
    let zone = &config.timezone;
    let reason = table.read(&MAINTENANCE.reason, problems);
    let mut monitors = Vec::new();
    let nodes = table.list(&MAINTENANCE.monitors).map(|node| node.as_list());
    for node in nodes.unwrap_or_default() {
        let Some(pattern) = node.read::<String>(problems) else {
            continue;
        };
        if complete && !config.monitors.values().any(|monitor| monitor.is_selected(&pattern)) {
            problems.push(
                node.problem(format!("{pattern:?} matches no monitor"), "matches nothing").help(
                    "use a monitor's id, object:NAME, tag:NAME or a pattern such as \"mail-*\"",
                ),
            );
        }
        monitors.push(pattern);
    }
    let pause = table.read(&MAINTENANCE.tests, problems);
    let before = problems.count(Severity::Error);
    let times = Times::read(&mut table, zone, problems);
    // An invalid value is not a missing one.
    let when = if problems.count(Severity::Error) == before {
        times.window(&table, problems)
    } else {
        None
    };
    table.finish(problems);
    Some(Maintenance { name, reason, monitors, pause, when: when? })
}

/// The keys that set the times of a window.
struct Times {
    weekly: Option<Hours>,
    from: Option<Moment>,
    to: Option<Moment>,
    cron: Option<Cron>,
    lasts: Option<Micros>,
    zone: TimeZone,
}

impl Times {
    const HELP: &str =
        "use from with to or lasts (once), hours and weekdays (weekly), or cron with lasts";

    fn read(table: &mut Table, zone: &TimeZone, problems: &mut Problems) -> Self {
        let own_zone = table.read(&HOURS.timezone, problems).unwrap_or_else(|| zone.clone());
        Self {
            weekly: Hours::read(table, zone, problems),
            from: table.read(&MAINTENANCE.from, problems),
            to: table.read(&MAINTENANCE.to, problems),
            cron: table.read(&MAINTENANCE.cron, problems),
            lasts: table.read(&MAINTENANCE.lasts, problems),
            zone: own_zone,
        }
    }

    /// Returns the window that these keys define. Inconsistent keys are reported.
    fn window(self, table: &Table, problems: &mut Problems) -> Option<Window> {
        match self {
            Self { weekly: Some(hours), from: None, cron: None, to, lasts, .. } => {
                if to.is_some() || lasts.is_some() {
                    problems.push(
                        table
                            .problem(&HOURS.hours, "hours already set the duration", "here")
                            .help(Self::HELP),
                    );
                }
                Some(Window::Weekly(hours))
            }
            Self { weekly: None, from: Some(from), cron: None, to, lasts, zone } => {
                once(table, from.in_zone(&zone), to.map(|to| to.in_zone(&zone)), lasts, problems)
            }
            Self { weekly: None, from: None, cron: Some(cron), lasts, zone, .. } => {
                recurring(table, cron, lasts, zone, problems)
            }
            _ => {
                problems.push(
                    table
                        .problem_of_all("a maintenance window must occur once, every week or by a cron expression",
                            "no time given",
                        )
                        .help(Self::HELP),
                );
                None
            }
        }
    }
}

/// Returns a single window, which has an end or a duration.
fn once(
    table: &Table,
    from: UtcMicros,
    to: Option<UtcMicros>,
    lasts: Option<Micros>,
    problems: &mut Problems,
) -> Option<Window> {
    let to = match (to, lasts) {
        (Some(to), None) => to,
        (None, Some(lasts)) => from + lasts,
        _ => {
            problems.push(
                table
                    .problem(&MAINTENANCE.from, "add to or lasts", "begins here")
                    .help(Times::HELP),
            );
            return None;
        }
    };
    if to <= from {
        problems.push(
            table
                .problem(&MAINTENANCE.to, "the window ends before it starts", "not after from")
                .help("use a later time"),
        );
        return None;
    }
    if to - from > MAX_LENGTH {
        problems.push(
            table
                .problem(&MAINTENANCE.to, "the window lasts longer than a year", "here")
                .help("disable the monitors instead"),
        );
    }
    Some(Window::Once { from, to })
}

/// Returns windows that start by a cron expression; they must occur, and not overlap.
fn recurring(
    table: &Table,
    cron: Cron,
    lasts: Option<Micros>,
    zone: TimeZone,
    problems: &mut Problems,
) -> Option<Window> {
    let Some(lasts) = lasts else {
        problems.push(table.missing(&MAINTENANCE.lasts, "how long each window is, such as \"2h\""));
        return None;
    };
    let first = cron.next(UtcMicros::now(), &zone);
    let second = first.and_then(|first| cron.next(first, &zone));
    match (first, second) {
        (None, _) => {
            problems.push(
                table
                    .problem(&MAINTENANCE.cron, "this time never occurs", "never")
                    .help("check day and month"),
            );
        }
        (Some(first), Some(second)) if second - first <= lasts => {
            problems.push(
                table
                    .problem(
                        &MAINTENANCE.lasts,
                        "the next window starts before this one has ended",
                        "too long",
                    )
                    .help("shorten the window, or make it less frequent"),
            );
        }
        _ => {}
    }
    Some(Window::Calendar { cron: Box::new(cron), zone, lasts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    fn load_text(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, format!("site = \"here\"\ntimezone = \"Europe/Stockholm\"\n{text}"))
            .expect("write");
        load(&path).map_err(|problems| {
            problems.to_string().replace(&format!("{}/", folder.path().display()), "")
        })
    }

    fn at(text: &str) -> UtcMicros {
        text.parse::<jiff::Timestamp>().expect("a time").into()
    }

    #[test]
    fn windows_of_all_kinds_are_parsed() {
        let config = load_text(
            "[maintenance.once]\nfrom = \"2026-12-01T22:00\"\nlasts = \"2h\"\nreason = \"new disks\"\n\
             [maintenance.weekly]\nhours = \"22:00-23:30\"\nweekdays = \"sun\"\ntests = \"pause\"\n\
             [maintenance.monthly]\ncron = \"0 22 1 * *\"\nlasts = \"3h\"\ntimezone = \"UTC\"\n",
        )
        .unwrap_or_else(|problems| panic!("{problems}"));
        let window = |name: &str| {
            &config.maintenance.iter().find(|one| one.name.as_ref() == name).expect("it").when
        };
        assert_eq!(
            window("once").next(at("2026-12-01T22:30:00Z")),
            Some((at("2026-12-01T21:00:00Z"), at("2026-12-01T23:00:00Z")))
        );
        assert_eq!(window("once").next(at("2026-12-01T23:00:00Z")), None);
        assert_eq!(
            window("weekly").next(at("2026-11-24T00:00:00Z")).expect("one").0,
            at("2026-11-29T21:00:00Z")
        );
        let monthly = Some((at("2026-12-01T22:00:00Z"), at("2026-12-02T01:00:00Z")));
        assert_eq!(window("monthly").next(at("2026-11-24T00:00:00Z")), monthly);
        assert_eq!(window("monthly").next(at("2026-12-02T00:59:59Z")), monthly);
        assert_ne!(window("monthly").next(at("2026-12-02T01:00:00Z")), monthly);
    }

    #[test]
    fn impossible_windows_are_rejected() {
        insta::assert_snapshot!(
            load_text(
                "[maintenance.a]\nfrom = \"2026-12-01T22:00\"\nto = \"2026-12-01T21:00\"\n\
             [maintenance.b]\nreason = \"?\"\n\
             [maintenance.c]\ncron = \"0 * * * *\"\nlasts = \"2h\"\n\
             [maintenance.d]\ncron = \"0 0 31 2 *\"\nlasts = \"2h\"\n\
             [maintenance.e]\nfrom = \"yesterday\"\n\
             [maintenance.f]\nhours = \"1-2\"\n\
             [maintenance.g]\nhours = \"01:00-02:00\"\nlasts = \"2h\"\nmonitors = [\"nobody\"]\n"
            )
            .expect_err("wrong")
        );
    }
}
