//! Conditions under which a monitor's alarm is raised and clears: counts, times, thresholds and
//! dependencies.

use std::collections::{BTreeMap, BTreeSet};

use mailqos_model::{Micros, MonitorId, Sample, words};

use super::{
    Monitor, Node, Problem, Problems, Severity, Table,
    key::{Defaulted, Optional, OptionalWord, Required, Word, key},
    reference::{Key, ValueKind},
};

/// Conditions under which a monitor's alarm is raised and clears.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmRule {
    /// Number of consecutive failures that raises the alarm.
    pub after: u32,
    /// Duration of failure that raises the alarm.
    pub after_time: Option<Micros>,
    /// Whether either of the two is sufficient.
    pub either: bool,
    /// Number of consecutive successful tests that clears the alarm.
    pub clear_after: u32,
    /// Whether a flapping monitor stays in alarm until it has settled.
    pub flapping: bool,
    /// Upper limits of timings in a single test.
    pub thresholds: Vec<Threshold>,
    /// Upper limits of percentiles over a window.
    pub percentiles: Vec<PercentileRule>,
    /// Fraction of a threshold below which an exceeded threshold counts as met again.
    pub clear_below: f64,
    /// Minimum remaining validity of certificates.
    pub certificate: Option<Micros>,
    /// Folders in which a mail must not be found.
    pub spam_folders: Vec<String>,
    /// Upper limit of the share of mails in the junk folder.
    pub junk: Option<JunkRule>,
    /// Results of SPF, DKIM and DMARC, in this order, that must be `pass`.
    pub verdicts: [bool; 3],
    /// Oldest version of TLS that is allowed.
    pub tls: Option<TlsVersion>,
    /// Monitors whose failure explains this one's.
    pub depends_on: BTreeSet<MonitorId>,
}

words!(
    /// A timing of a test.
    Timing, "timing" {
        /// The round trip.
        RoundTrip = "round_trip",
        /// Opening the SMTP connection.
        SmtpConnect = "smtp_connect",
        /// SMTP send time.
        SmtpSend = "smtp_send",
        /// Opening the connection to the mailbox.
        PickupConnect = "pickup_connect",
        /// Login.
        PickupLogin = "pickup_login",
        /// Receive.
        PickupReceive = "pickup_receive",
    }
);

/// Upper limit of a timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// The limited timing.
    pub timing: Timing,
    /// Upper limit.
    pub most: Micros,
}

/// Upper limit of a percentile over a window.
#[derive(Debug, Clone, PartialEq)]
pub struct PercentileRule {
    /// The limited timing.
    pub timing: Timing,
    /// Percentile, 0 to 100.
    pub percentile: f64,
    /// Length of the window.
    pub over: Micros,
    /// Upper limit.
    pub most: Micros,
    /// Minimum number of values in the window.
    pub at_least: u32,
}

words!(
    /// A version of TLS.
    TlsVersion, "TLS version" {
        /// TLS 1.2 (RFC 5246).
        Tls12 = "1.2",
        /// TLS 1.3 (RFC 8446).
        Tls13 = "1.3",
    }
);

impl TlsVersion {
    /// Returns whether a version in a sample, such as `TLSv1.2`, is older than this one.
    pub fn is_newer_than(self, version: &str) -> bool {
        match version {
            "TLSv1.3" => false,
            "TLSv1.2" => self == Self::Tls13,
            _ => true,
        }
    }
}

/// Upper limit of the share of arrived mails in the junk folder, over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JunkRule {
    /// Upper limit, from 0 to 1.
    pub most: f64,
    /// Length of the window.
    pub over: Micros,
}

impl std::str::FromStr for JunkRule {
    type Err = String;

    /// Parses `10%/1d`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a share of a window, such as \"10%/1d\"");
        let (share, over) = text.split_once('/').ok_or_else(wrong)?;
        let number = share.trim().strip_suffix('%').ok_or_else(wrong)?;
        let percent: f64 = number.trim().parse().map_err(|_| wrong())?;
        let over: Micros = over.trim().parse().map_err(|_| wrong())?;
        let (least, longest) = (Micros::from_secs(60), Micros::from_secs(7 * 86_400));
        if !(0.0..100.0).contains(&percent) {
            return Err(format!("{percent} % is not a share from 0 to below 100 %"));
        }
        if over < least || over > longest {
            return Err(format!("a window of {over} is not between {least} and {longest}"));
        }
        Ok(Self { most: percent / 100.0, over })
    }
}

/// A result that is required.
const PASS: [(&str, bool); 1] = [("pass", true)];

impl Timing {
    /// Returns the display name of the timing.
    pub fn words(self) -> &'static str {
        match self {
            Self::RoundTrip => "the round trip",
            Self::SmtpConnect => "connecting to the SMTP server",
            Self::SmtpSend => "sending",
            Self::PickupConnect => "connecting to the mailbox",
            Self::PickupLogin => "the login",
            Self::PickupReceive => "receiving",
        }
    }

    /// Returns the value in a sample.
    pub fn of(self, sample: &Sample) -> Option<Micros> {
        match self {
            Self::RoundTrip => sample.round_trip,
            Self::SmtpConnect => sample.smtp_connect,
            Self::SmtpSend => sample.smtp_send,
            Self::PickupConnect => sample.pickup_connect,
            Self::PickupLogin => sample.pickup_login,
            Self::PickupReceive => sample.pickup_receive,
        }
    }
}

impl Default for AlarmRule {
    fn default() -> Self {
        Self {
            after: 3,
            after_time: None,
            either: false,
            clear_after: 1,
            flapping: true,
            thresholds: Vec::new(),
            percentiles: Vec::new(),
            clear_below: 0.9,
            certificate: None,
            spam_folders: Vec::new(),
            junk: None,
            verdicts: [false; 3],
            tls: None,
            depends_on: BTreeSet::new(),
        }
    }
}

impl AlarmRule {
    /// Drops thresholds from `[defaults]` for timings that tests of this kind don't have. A
    /// monitor's own are rejected.
    pub(super) fn confine(
        &mut self,
        kind: &str,
        timings: &[Timing],
        table: &mut Table,
        problems: &mut Problems,
    ) {
        let own =
            table.node(&MONITOR_ALARM.alarm).filter(|_| table.is_own(MONITOR_ALARM.alarm.name));
        let own = own.and_then(|node| node.as_table());
        let mut refuse = |key: &Key| {
            if let Some(own) = own.as_ref().filter(|own| own.is_own(key.name)) {
                let name = key.name;
                problems.push(
                    own.problem(key, format!("{name:?} does not apply to kind {kind:?}"), "here")
                        .help(format!("remove it; {kind} tests don't measure this")),
                );
            }
        };
        for (timing, key) in Timing::ALL.iter().zip(&THRESHOLDS) {
            if !timings.contains(timing) {
                refuse(key);
            }
        }
        if self.percentiles.iter().any(|rule| !timings.contains(&rule.timing)) {
            refuse(&ALARM.percentiles);
        }
        // If no mail is received, none can be found in a folder.
        if !timings.contains(&Timing::PickupReceive) {
            for key in
                [&*ALARM.spam_folders, &*ALARM.junk, &*ALARM.spf, &*ALARM.dkim, &*ALARM.dmarc]
            {
                refuse(key);
            }
            self.spam_folders.clear();
            (self.junk, self.verdicts) = (None, [false; 3]);
        }
        self.thresholds.retain(|threshold| timings.contains(&threshold.timing));
        self.percentiles.retain(|rule| timings.contains(&rule.timing));
    }
}

keys! {
    MONITOR_ALARM: MonitorAlarmKeys {
        /// The alarm is raised after this many failed tests in a row.
        alarm_after: Defaulted<u32> = key().default("3").within("1", "");
        /// Further conditions for raising and clearing the alarm.
        alarm: Key = Key::table(&["monitor.alarm"]);
        /// While one of these monitors fails, this one's alarm is suppressed: IDs, `object:NAME`,
        /// `tag:NAME` or patterns.
        depends_on: Defaulted<Vec<String>> = key().default("[]");
    }
}

keys! {
    ALARM: AlarmKeys {
        /// The alarm is raised only after the monitor has failed for this long.
        after_time: Optional<Micros> = key().within("1ms", "1d");
        /// One of `alarm_after` and `after_time` is enough.
        either: Defaulted<bool> = key().default("false");
        /// The alarm clears after this many good tests in a row.
        clear_after: Defaulted<u32> = key().default("1").within("1", "");
        /// Raise an alarm after ten changes between good and failed in twenty tests; it clears at
        /// four or fewer.
        flapping: Defaulted<bool> = key().default("true");
        /// Upper limits of percentiles over a window.
        percentiles: Key = Key::tables(&["monitor.alarm.percentiles"]);
        /// An exceeded threshold counts as met again below this fraction of it, from 0.1 to 1.
        clear_below: Defaulted<f64> = key().default("0.9");
        /// The minimum remaining validity of certificates.
        certificate: Optional<Micros> = key().within("1ms", "730d");
        /// Folders in which the mail must not be found; they must be among `folders`.
        spam_folders: Defaulted<Vec<String>> = key().default("[]");
        /// The maximum share of arrived mails in the junk folder over a window, such as `"10%/1d"`.
        /// It applies from ten mails on, and is met again below `clear_below`.
        junk: Optional<String> = key();
        /// The required result of SPF; a mail without a result raises no alarm.
        spf: OptionalWord<bool> = word!(PASS).otherwise("any");
        /// The required result of DKIM; a mail without a result raises no alarm.
        dkim: OptionalWord<bool> = word!(PASS).otherwise("any");
        /// The required result of DMARC; a mail without a result raises no alarm.
        dmarc: OptionalWord<bool> = word!(PASS).otherwise("any");
        /// The oldest version of TLS that the servers may use.
        tls: OptionalWord<TlsVersion> = word!(TlsVersion::WORDS).otherwise("any");
    }
}

const fn threshold(timing: Timing, about: &'static str) -> Key {
    Key {
        bounds: Some(("1ms", "1d")),
        ..Key::new(timing.as_str(), ValueKind::of::<Micros>(), about)
    }
}

/// Thresholds of single tests, in the order of [`Timing::ALL`].
pub(super) const THRESHOLDS: [Key; 6] = [
    threshold(Timing::RoundTrip, "The maximum round trip."),
    threshold(Timing::SmtpConnect, "The maximum time to open the SMTP connection."),
    threshold(Timing::SmtpSend, "The maximum SMTP send time."),
    threshold(Timing::PickupConnect, "The maximum time to open the connection to the mailbox."),
    threshold(Timing::PickupLogin, "The maximum login time."),
    threshold(Timing::PickupReceive, "The maximum receive time."),
];

keys! {
    PERCENTILE: PercentileKeys {
        /// The timing.
        of: Word<Timing> = word!(Timing::WORDS).default("\"round_trip\"");
        /// The percentile, from 0 to 100.
        percentile: Defaulted<f64> = key().default("95");
        /// The window.
        over: Defaulted<Micros> = key().default("\"1h\"").within("1m", "7d");
        /// The upper limit of the percentile.
        most: Required<Micros> = key();
        /// The minimum number of values; with fewer, the rule doesn't apply.
        at_least: Defaulted<u32> = key().default("10").within("1", "");
    }
}

/// Reads `alarm_after` and the table `alarm`. The patterns of `depends_on` are returned with their
/// locations and are resolved when all monitors are known.
pub(super) fn read(
    table: &mut Table,
    folders: &[String],
    problems: &mut Problems,
) -> (AlarmRule, Vec<(String, Node)>) {
    let mut rule = AlarmRule {
        after: table.read(&MONITOR_ALARM.alarm_after, problems),
        ..AlarmRule::default()
    };
    let depends_on = table
        .list(&MONITOR_ALARM.depends_on)
        .map(|node| node.as_list())
        .unwrap_or_default()
        .into_iter()
        .filter_map(|node| Some((node.read::<String>(problems)?, node)))
        .collect();
    let Some(mut inner) = table.table(&MONITOR_ALARM.alarm, problems) else {
        return (rule, depends_on);
    };
    rule.after_time = inner.read(&ALARM.after_time, problems);
    rule.either = inner.read(&ALARM.either, problems);
    if rule.either && rule.after_time.is_none() {
        problems.push(inner.missing(
            &ALARM.after_time,
            "either one of alarm_after and after_time, with either = true",
        ));
    }
    rule.clear_after = inner.read(&ALARM.clear_after, problems);
    rule.flapping = inner.read(&ALARM.flapping, problems);
    for (timing, key) in Timing::ALL.iter().copied().zip(&THRESHOLDS) {
        if let Some(most) = inner.read_as(key, problems) {
            rule.thresholds.push(Threshold { timing, most });
        }
    }
    for mut table in inner.tables(&ALARM.percentiles, problems) {
        rule.percentiles.extend(percentile(&mut table, problems));
        table.finish(problems);
    }
    rule.clear_below = inner.read(&ALARM.clear_below, problems);
    if !(0.1..=1.0).contains(&rule.clear_below) {
        problems.push(
            inner
                .problem(
                    &ALARM.clear_below,
                    format!("clear_below = {} is out of range", rule.clear_below),
                    "here",
                )
                .help("use a factor from 0.1 to 1.0; 0.9 clears below 90 % of the threshold"),
        );
    }
    rule.certificate = inner.read(&ALARM.certificate, problems);
    rule.spam_folders = inner.read(&ALARM.spam_folders, problems);
    if let Some(folder) = rule.spam_folders.iter().find(|folder| !folders.contains(folder)) {
        problems.push(Problem {
            severity: Severity::Warning,
            ..inner
                .problem(
                    &ALARM.spam_folders,
                    format!("the folder {folder:?} is never searched"),
                    "not among folders",
                )
                .help("add it to the monitor's folders (IMAP), such as folders = [\"INBOX\", \"Junk\"]")
        });
    }
    deliverability(&mut rule, &mut inner, problems);
    inner.finish(problems);
    (rule, depends_on)
}

/// Reads the conditions about deliverability.
fn deliverability(rule: &mut AlarmRule, table: &mut Table, problems: &mut Problems) {
    if let Some(text) = table.read(&ALARM.junk, problems) {
        match text.parse() {
            Ok(junk) => rule.junk = Some(junk),
            Err(error) => problems.push(
                table
                    .problem(&ALARM.junk, error, "here")
                    .help("for example \"10%/1d\": at most 10 % of the mails of a day"),
            ),
        }
    }
    rule.verdicts = [
        table.read(&ALARM.spf, problems).unwrap_or_default(),
        table.read(&ALARM.dkim, problems).unwrap_or_default(),
        table.read(&ALARM.dmarc, problems).unwrap_or_default(),
    ];
    rule.tls = table.read(&ALARM.tls, problems);
}

fn percentile(table: &mut Table, problems: &mut Problems) -> Option<PercentileRule> {
    let timing = table.read(&PERCENTILE.of, problems);
    let percentile = table.read(&PERCENTILE.percentile, problems);
    if !(0.0..=100.0).contains(&percentile) {
        problems.push(
            table
                .problem(&PERCENTILE.percentile, "a percentile must be between 0 and 100", "here")
                .help("for example 95"),
        );
    }
    let most: Option<Micros> = table.require(
        &PERCENTILE.most,
        "the upper limit of the percentile, such as \"20s\"",
        problems,
    );
    let over = table.read(&PERCENTILE.over, problems);
    Some(PercentileRule {
        timing,
        percentile,
        over,
        most: most?,
        at_least: table.read(&PERCENTILE.at_least, problems),
    })
}

/// Replaces patterns with the matching monitors and rejects dependency cycles; `complete` states
/// whether all monitors are known.
pub(super) fn resolve(
    monitors: &mut BTreeMap<MonitorId, Monitor>,
    depends_on: Vec<(MonitorId, Vec<(String, Node)>)>,
    complete: bool,
    problems: &mut Problems,
) {
    let mut places: BTreeMap<MonitorId, Node> = BTreeMap::new();
    // The defaults may contain the same patterns for ten thousand monitors.
    let mut selected: BTreeMap<String, BTreeSet<MonitorId>> = BTreeMap::new();
    for (id, patterns) in depends_on {
        for (pattern, node) in patterns {
            let found = selected.entry(pattern).or_insert_with_key(|pattern| {
                let found: BTreeSet<MonitorId> = monitors
                    .values()
                    .filter(|monitor| monitor.is_selected(pattern))
                    .map(|monitor| monitor.id.clone())
                    .collect();
                if found.is_empty() && complete {
                    problems.push(
                        node.problem(format!("{pattern:?} matches no monitor"), "matches nothing")
                            .help("use a monitor's id, object:NAME, tag:NAME or a pattern such as \"gate-*\""),
                    );
                }
                found
            });
            if let Some(monitor) = monitors.get_mut(&id) {
                monitor
                    .alarm
                    .depends_on
                    .extend(found.iter().filter(|other| **other != id).cloned());
                places.entry(id.clone()).or_insert(node);
            }
        }
    }
    if let Some(circle) = circle(monitors) {
        let words: Vec<&str> = circle.iter().map(MonitorId::as_str).collect();
        let message = format!("monitors depend on each other in a cycle: {}", words.join(" → "));
        let problem = match circle.first().and_then(|id| places.get(id)) {
            Some(node) => node.problem(message, "leads back"),
            None => Problem::error(message),
        };
        problems.push(problem.help("remove one of these dependencies"));
    }
}

/// Returns the first dependency cycle. Its first monitor is repeated at the end.
fn circle(monitors: &BTreeMap<MonitorId, Monitor>) -> Option<Vec<MonitorId>> {
    let mut done: BTreeSet<&MonitorId> = BTreeSet::new();
    for start in monitors.keys() {
        // The path from the start, with the dependencies still to visit at each step.
        let mut way: Vec<(&MonitorId, Vec<&MonitorId>)> = Vec::new();
        let below = |id: &MonitorId| -> Vec<&MonitorId> {
            monitors
                .get(id)
                .map_or_else(Vec::new, |monitor| monitor.alarm.depends_on.iter().collect())
        };
        if done.contains(start) {
            continue;
        }
        way.push((start, below(start)));
        while let Some((id, rest)) = way.last_mut() {
            let id = *id;
            let Some(next) = rest.pop() else {
                done.insert(id);
                way.pop();
                continue;
            };
            if let Some(at) = way.iter().position(|(known, _)| *known == next) {
                let circle = way[at..].iter().map(|(id, _)| (*id).clone());
                return Some(circle.chain([next.clone()]).collect());
            }
            if let Some((next, _)) =
                monitors.get_key_value(next).filter(|(next, _)| !done.contains(next))
            {
                way.push((next, below(next)));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, load};

    fn load_text(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let head = "site = \"here\"\n[defaults]\nfrom = \"a@b.example\"\nto = \"a@b.example\"\nsmtp = {}\npickup = { account = \"a\" }\n\
                    [account.a]\nuser = \"a\"\npassword = { env = \"X\" }\n[object.o]\naddress = \"localhost\"\n[defaults.alarm]\nround_trip = \"20s\"\n";
        std::fs::write(&path, format!("{head}{text}")).expect("write");
        load(&path).map_err(|problems| {
            problems.to_string().replace(&format!("{}/", folder.path().display()), "")
        })
    }

    #[test]
    fn a_rule_overrides_the_defaults() {
        let config = load_text(
            "[monitor.a]\nobject = \"o\"\nalarm_after = 5\nalarm = { after_time = \"10m\", either = true, pickup_login = \"2s\", certificate = \"14d\", percentiles = [{ most = \"15s\" }] }\n\
             [monitor.b]\nobject = \"o\"\ndepends_on = [\"a\", \"object:o\"]\n",
        )
        .unwrap_or_else(|problems| panic!("{problems}"));
        let rule = &config.monitors["a"].alarm;
        assert_eq!((rule.after, rule.either, rule.thresholds.len()), (5, true, 2));
        assert_eq!(rule.percentiles[0].over, Micros::from_secs(3600));
        assert_eq!(config.monitors["b"].alarm.depends_on.len(), 1);
    }

    #[test]
    fn problems_of_a_rule_are_reported() {
        insta::assert_snapshot!(load_text(
            "[monitor.a]\nobject = \"o\"\nalarm_after = 0\nalarm = { either = true, clear_below = 2, percentiles = [{ of = \"pickup_logn\", percentile = 101 }], rond_trip = \"5s\" }\n\
             [monitor.b]\nobject = \"o\"\ndepends_on = [\"c\", \"nobody\"]\n[monitor.c]\nobject = \"o\"\ndepends_on = [\"b\", \"c\"]\n"
        )
        .expect_err("wrong"));
    }

    #[test]
    fn an_invalid_monitor_is_not_reported_as_missing() {
        let said = load_text(
            "[monitor.gate]\nobject = \"none\"\n[monitor.b]\nobject = \"o\"\ndepends_on = \"gate\"\n\
             [maintenance.m]\nhours = \"01:00-02:00\"\nmonitors = \"gate\"\n[monitor.G]\nobject = 5\n",
        )
        .expect_err("wrong");
        assert!(said.contains("unknown object") && !said.contains("matches no monitor"), "{said}");
    }

    #[test]
    fn cyclic_dependencies_are_rejected() {
        let said = load_text(
            "[monitor.a]\nobject = \"o\"\ndepends_on = [\"b\"]\n[monitor.b]\nobject = \"o\"\ndepends_on = [\"c\"]\n[monitor.c]\nobject = \"o\"\ndepends_on = [\"b\"]\n",
        )
        .expect_err("a cycle");
        assert!(said.contains("in a cycle: b → c → b"), "{said}");
    }
}
