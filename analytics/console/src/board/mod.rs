//! The board: what all monitors are at, held in memory. It is composed of the configuration, the
//! published status of the probes, and the samples of the last day.

pub(crate) mod day;
pub(crate) mod filter;
mod keeper;
pub(crate) mod shown;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use mailqos_config::Config;
use mailqos_lake::{AlarmStatus, MaintenanceStatus, MonitorState, MonitorStatus, Status};
use mailqos_model::{Micros, UtcMicros, words};

use day::Day;
pub(crate) use keeper::{Changes, Keeper};

words!(
    /// State of a monitor on the board, most urgent first.
    State, "state" {
        /// An alarm is open.
        Alarm = "alarm",
        /// The last tests failed, too few for an alarm.
        Failed = "failed",
        /// No current result.
        Unknown = "unknown",
        /// A maintenance window is open.
        Maintenance = "maintenance",
        /// The last test succeeded.
        Ok = "ok",
        /// Disabled in the configuration.
        Disabled = "disabled",
    }
);

impl From<MonitorState> for State {
    fn from(state: MonitorState) -> Self {
        match state {
            MonitorState::Ok => Self::Ok,
            MonitorState::Failed => Self::Failed,
            MonitorState::Alarm => Self::Alarm,
            MonitorState::Maintenance => Self::Maintenance,
            MonitorState::Disabled => Self::Disabled,
            MonitorState::Unknown => Self::Unknown,
        }
    }
}

/// The last test of a monitor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Last {
    /// Start of the test.
    pub(crate) at: UtcMicros,
    /// Outcome, in the words of the lake.
    pub(crate) outcome: String,
    /// Estimated round trip.
    pub(crate) round_trip: Option<Micros>,
}

/// A monitor on the board.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Site of the probe.
    pub(crate) site: Arc<str>,
    /// Id of the monitor.
    pub(crate) id: Arc<str>,
    /// Display name.
    pub(crate) name: String,
    /// Id of the monitored object.
    pub(crate) object: String,
    /// Display name of the object.
    pub(crate) object_name: String,
    /// Address of the object; empty if it is not configured.
    pub(crate) address: String,
    /// Kind of the tests, such as `mail-qos`; empty if it is not configured.
    pub(crate) kind: String,
    /// Labels of the monitor and its object.
    pub(crate) tags: BTreeSet<String>,
    /// State now.
    pub(crate) state: State,
    /// State in the last status, if that is too old to describe the present.
    pub(crate) last_known: Option<State>,
    /// Start of the first of the current failures.
    pub(crate) failing_since: Option<UtcMicros>,
    /// Failed tests in a row.
    pub(crate) failures: u32,
    /// Reason of the last failure, while failures last.
    pub(crate) reason: Option<String>,
    /// The last test.
    pub(crate) last: Option<Last>,
    /// Start of the last successful test.
    pub(crate) last_ok: Option<UtcMicros>,
    /// Start of the next test.
    pub(crate) next: Option<UtcMicros>,
    /// The open alarm.
    pub(crate) alarm: Option<AlarmStatus>,
    /// The open maintenance window.
    pub(crate) maintenance: Option<MaintenanceStatus>,
    /// Longest round trip that counts as good, if tests have one.
    pub(crate) max_round_trip: Option<Micros>,
    /// Time between the starts of two tests, if it is configured.
    pub(crate) test_interval: Option<Micros>,
    /// The last 24 hours.
    pub(crate) day: Arc<Day>,
    /// Lower-case texts that a search looks in.
    pub(crate) haystack: String,
}

impl Entry {
    /// Whether the open alarm is acknowledged.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.alarm.as_ref().is_some_and(|alarm| alarm.acknowledged.is_some())
    }

    /// Whether another differs in its last day at most.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        // What changes with every test first: copies are compared only if there was none.
        if self.last != other.last || self.state != other.state {
            return false;
        }
        let day = Arc::clone(&other.day);
        Self { day, ..self.clone() } == *other
    }

    /// Returns the rank by urgency: 0 for an alarm that no one has acknowledged.
    pub(crate) fn rank(&self) -> u8 {
        match self.state {
            State::Alarm if !self.is_acknowledged() => 0,
            State::Alarm => 1,
            State::Failed => 2,
            State::Unknown => 3,
            State::Maintenance => 4,
            State::Ok => 5,
            State::Disabled => 6,
        }
    }
}

/// A probe, or rather what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Probe {
    /// Site.
    pub(crate) site: Arc<str>,
    /// Health.
    pub(crate) health: Health,
    /// Time of its last status.
    pub(crate) written_at: Option<UtcMicros>,
    /// Reason why samples can't be recorded.
    pub(crate) recorder_problem: Option<String>,
    /// Reason why its status can't be read.
    pub(crate) error: Option<String>,
    /// Notification channels that accept nothing, with their last error.
    pub(crate) channels: Vec<(String, String)>,
}

impl Probe {
    /// Whether another differs in the time of its status at most.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        Self { written_at: other.written_at, ..self.clone() } == *other
    }
}

words!(
    /// Health of a probe.
    Health, "health" {
        /// It reports.
        Running = "running",
        /// It was stopped as planned.
        Stopped = "stopped",
        /// Its last status is too old.
        Silent = "silent",
        /// Its status can't be read.
        Unreadable = "unreadable",
        /// There is no status.
        Absent = "absent",
    }
);

impl Health {
    /// Whether its status describes the present.
    pub(crate) fn is_current(self) -> bool {
        self == Self::Running
    }
}

/// What all monitors are at.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Number of this state: a later one has a higher number, even after a restart.
    pub(crate) number: u64,
    /// Monitors, by site and id.
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Probes, by site.
    pub(crate) probes: Vec<Arc<Probe>>,
    /// Reason why samples of the last day can't be read.
    pub(crate) lake_error: Option<String>,
    index: HashMap<(Arc<str>, Arc<str>), usize>,
}

/// Reading of a site's status.
#[derive(Debug, Clone)]
pub(crate) enum Reading {
    /// The status.
    Status(Arc<Status>),
    /// There is none.
    Absent,
    /// It can't be read.
    Failed(String),
}

impl Board {
    /// Composes the board.
    pub(crate) fn new(
        config: &Config,
        readings: &[(Arc<str>, Reading)],
        days: &day::Days,
        now: UtcMicros,
    ) -> Self {
        let mut board = Self { lake_error: days.error.clone(), ..Self::default() };
        let empty = Arc::new(Day::default());
        for (site, reading) in readings {
            let probe = probe(site, reading, now);
            let is_current = probe.health.is_current();
            board.probes.push(Arc::new(probe));
            let is_own = **site == *config.site.as_str();
            let mut seen = BTreeSet::new();
            if let Reading::Status(status) = reading {
                for monitor in &status.monitors {
                    seen.insert(monitor.id.clone());
                    let key = (Arc::clone(site), Arc::from(monitor.id.as_str()));
                    let day = days.all.get(&key).unwrap_or(&empty);
                    let mut entry = of_status(key, monitor, is_current);
                    entry.day = Arc::clone(day);
                    if is_own {
                        complete(&mut entry, config);
                    }
                    board.entries.push(Arc::new(entry.searchable()));
                }
            }
            // Monitors that the probe has not loaded yet.
            for monitor in config.monitors.values().filter(|_| is_own) {
                if seen.contains(&monitor.id) {
                    continue;
                }
                let key = (Arc::clone(site), Arc::from(monitor.id.as_str()));
                let day = Arc::clone(days.all.get(&key).unwrap_or(&empty));
                let mut entry = Entry { day, ..blank(key, monitor.object.to_string()) };
                complete(&mut entry, config);
                board.entries.push(Arc::new(entry.searchable()));
            }
        }
        board.entries.sort_by(|a, b| (&a.site, &a.id).cmp(&(&b.site, &b.id)));
        let keys = board.entries.iter().enumerate();
        board.index = keys
            .map(|(at, entry)| ((Arc::clone(&entry.site), Arc::clone(&entry.id)), at))
            .collect();
        board
    }

    /// Returns a monitor.
    pub(crate) fn get(&self, site: &str, id: &str) -> Option<&Arc<Entry>> {
        let key = (Arc::from(site), Arc::from(id));
        self.index.get(&key).and_then(|at| self.entries.get(*at))
    }
}

/// Returns what the last status of a probe says about the probe.
fn probe(site: &Arc<str>, reading: &Reading, now: UtcMicros) -> Probe {
    let mut probe = Probe {
        site: Arc::clone(site),
        health: Health::Absent,
        written_at: None,
        recorder_problem: None,
        error: None,
        channels: Vec::new(),
    };
    match reading {
        Reading::Absent => {}
        Reading::Failed(error) => {
            probe.health = Health::Unreadable;
            probe.error = Some(error.clone());
        }
        Reading::Status(status) => {
            probe.written_at = Some(status.written_at.into());
            probe.recorder_problem = status.probe.recorder_problem.clone();
            probe.health = if !status.probe.running {
                Health::Stopped
            } else if status.is_stale(now) {
                Health::Silent
            } else {
                Health::Running
            };
            let failing = status.channels.iter().filter(|(_, channel)| channel.failures > 0);
            let error = |error: &Option<String>| error.clone().unwrap_or_default();
            probe.channels =
                failing.map(|(name, channel)| (name.clone(), error(&channel.error))).collect();
        }
    }
    probe
}

/// A monitor of which nothing is known yet.
fn blank((site, id): (Arc<str>, Arc<str>), object: String) -> Entry {
    Entry {
        site,
        name: id.to_string(),
        id,
        object_name: object.clone(),
        object,
        address: String::new(),
        kind: String::new(),
        tags: BTreeSet::new(),
        state: State::Unknown,
        last_known: None,
        failing_since: None,
        failures: 0,
        reason: None,
        last: None,
        last_ok: None,
        next: None,
        alarm: None,
        maintenance: None,
        max_round_trip: None,
        test_interval: None,
        day: Arc::new(Day::default()),
        haystack: String::new(),
    }
}

/// A monitor as in the status of its probe.
fn of_status(key: (Arc<str>, Arc<str>), monitor: &MonitorStatus, is_current: bool) -> Entry {
    let known = State::from(monitor.state);
    let stays = known == State::Disabled;
    let blank = blank(key, monitor.object.to_string());
    Entry {
        name: if monitor.name.is_empty() { blank.name.clone() } else { monitor.name.clone() },
        state: if is_current || stays { known } else { State::Unknown },
        last_known: (!is_current && !stays).then_some(known),
        failing_since: monitor.failing_since.map(Into::into),
        failures: monitor.failures,
        reason: monitor.reason.clone(),
        last: monitor.last.as_ref().map(|last| Last {
            at: last.started_at.into(),
            outcome: last.outcome.clone(),
            round_trip: last.round_trip_us.map(Micros),
        }),
        last_ok: monitor.last_ok.map(Into::into),
        next: monitor.next.filter(|_| is_current).map(Into::into),
        alarm: monitor.alarm.clone(),
        maintenance: monitor.maintenance.clone(),
        ..blank
    }
}

/// Adds what the configuration says.
fn complete(entry: &mut Entry, config: &Config) {
    let Some(monitor) = config.monitors.get(&*entry.id) else {
        return;
    };
    entry.name = monitor.name.clone();
    entry.tags = monitor.tags.clone();
    entry.kind = monitor.kind.name().to_owned();
    entry.max_round_trip = monitor.kind.max_round_trip();
    entry.test_interval = monitor.calendar.is_none().then_some(monitor.test_interval);
    if let Some(object) = config.objects.get(&monitor.object) {
        entry.object_name = object.name.clone();
        entry.address = object.address.clone();
    }
    if !monitor.enabled {
        (entry.state, entry.last_known) = (State::Disabled, None);
    }
}

impl Entry {
    fn searchable(mut self) -> Self {
        let mut texts = vec![
            self.name.as_str(),
            &self.id,
            &self.site,
            &self.object,
            &self.object_name,
            &self.address,
        ];
        texts.extend(self.tags.iter().map(String::as_str));
        self.haystack = texts.join("\n").to_lowercase();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UtcMicros = UtcMicros(1_780_000_000_000_000);

    fn config() -> Config {
        let text = "site = \"lyon\"\n[object.mx]\naddress = \"mx.example.com\"\ntags = [\"plant\"]\n\
            [account.box]\nuser = \"box\"\npassword = { env = \"BOX\" }\n\
            [defaults]\nkind = \"mailbox\"\npickup = { protocol = \"imap\", account = \"box\" }\n\
            [monitor.a]\nobject = \"mx\"\nname = \"Büro A\"\n[monitor.b]\nobject = \"mx\"\n\
            [monitor.off]\nobject = \"mx\"\nenabled = false\n";
        let text = text.to_owned();
        match mailqos_config::of_text("m.toml".as_ref(), text) {
            Ok(config) => config,
            Err(problems) => panic!("{}", problems.render(false)),
        }
    }

    fn status(age: i64, running: bool) -> Reading {
        let text = format!(
            r#"{{"version":1,"site":"lyon","written_at":"{}","interval_s":15,"probe":{{"running":{running}}},
            "monitors":[{{"id":"a","object":"mx","state":"alarm","alarm":{{"since":"2026-05-01T00:00:00Z"}}}},
            {{"id":"off","object":"mx","state":"disabled"}},{{"id":"gone","object":"old","state":"ok"}}]}}"#,
            (NOW - Micros::from_secs(age)).timestamp()
        );
        Reading::Status(Arc::new(serde_json::from_str(&text).expect("a status")))
    }

    fn states(reading: Reading) -> Vec<(String, State, Option<State>)> {
        let readings = [(Arc::from("lyon"), reading)];
        let board = Board::new(&config(), &readings, &day::Days::default(), NOW);
        let state = |entry: &Arc<Entry>| (entry.id.to_string(), entry.state, entry.last_known);
        board.entries.iter().map(state).collect()
    }

    #[test]
    fn stale_states_are_unknown_and_never_shown_as_current() {
        let of = |id: &str, state, known| (id.to_owned(), state, known);
        assert_eq!(
            states(status(10, true)),
            [
                of("a", State::Alarm, None),
                of("b", State::Unknown, None),
                of("gone", State::Ok, None),
                of("off", State::Disabled, None),
            ]
        );
        for reading in [status(100, true), status(-100, true), status(1, false)] {
            assert_eq!(
                states(reading),
                [
                    of("a", State::Unknown, Some(State::Alarm)),
                    of("b", State::Unknown, None),
                    of("gone", State::Unknown, Some(State::Ok)),
                    of("off", State::Disabled, None),
                ]
            );
        }
        let absent = states(Reading::Absent);
        assert_eq!(absent.len(), 3);
        assert!(absent.iter().all(|(id, state, _)| *state == State::Unknown || id == "off"));
    }

    #[test]
    fn tags_of_the_configuration_apply_to_its_own_site_only() {
        let Reading::Status(lyon) = status(1, true) else { panic!("a status") };
        let mut paris = (*lyon).clone();
        paris.site = "paris".parse().expect("a name");
        let readings = [
            (Arc::from("lyon"), Reading::Status(lyon)),
            (Arc::from("paris"), Reading::Status(Arc::new(paris))),
        ];
        let board = Board::new(&config(), &readings, &day::Days::default(), NOW);
        let tags = |site| board.get(site, "a").expect("there").tags.len();
        assert_eq!((tags("lyon"), tags("paris")), (1, 0));
        assert_eq!(board.get("lyon", "a").expect("there").name, "Büro A");
        assert!(board.get("nowhere", "a").is_none());
    }
}
