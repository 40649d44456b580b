//! Maintenance windows: configured ones, and those that were added while the probe runs, which
//! survive a restart.

mod declared;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use jiff::tz::TimeZone;
use mailqos_base::files;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, Monitor, Window};
use mailqos_control::Repetition;
use mailqos_model::{Event, EventKind, Micros, MonitorId, UtcMicros};
use serde::{Deserialize, Serialize};

pub use declared::DeclaredPeriod;

use crate::record::Recorder;

/// Number of monitors above which a window is recorded as one event of the whole site.
const MAX_EVENTS: usize = 1_000;
/// Longest single window.
const MAX_LENGTH: Micros = Micros::from_secs(366 * 86_400);

/// A single window, such as one added while the probe runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedWindow {
    /// Name of the window.
    pub name: String,
    /// Affected monitors, as selections; all if empty.
    pub monitors: Vec<String>,
    /// Start of the window; of a recurring one, the time before which none starts.
    pub from: UtcMicros,
    /// End of the window, which is not part of it; of a recurring one, the end of the last.
    pub to: UtcMicros,
    /// How often it recurs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repetition>,
    /// Reason for the maintenance.
    pub reason: Option<String>,
    /// The person who added it.
    pub by: Option<String>,
    /// Whether tests are skipped.
    pub pause: bool,
}

/// An open window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Name of the window.
    pub name: String,
    /// Reason for the maintenance.
    pub reason: Option<String>,
    /// End of the window.
    pub until: UtcMicros,
    /// Whether tests are skipped.
    pub pause: bool,
}

struct Planned {
    name: String,
    reason: Option<String>,
    by: Option<String>,
    monitors: Vec<String>,
    pause: bool,
    window: Window,
    /// Time in which a recurring window that was added occurs.
    valid: Option<(UtcMicros, UtcMicros)>,
    repeats: Option<Repetition>,
    /// The occurrence found last.
    occurrence: Option<(UtcMicros, UtcMicros)>,
    /// The time for which it was looked up; an earlier time may have another occurrence.
    looked_up: UtcMicros,
}

impl Planned {
    /// Returns the occurrence that contains `at`, if there is one.
    fn at(&mut self, at: UtcMicros) -> Option<(UtcMicros, UtcMicros)> {
        // After the clock has been set back, the last occurrence may be too late.
        if at < self.looked_up || self.occurrence.is_none_or(|(_, end)| end <= at) {
            self.occurrence = self.next(at);
            self.looked_up = at;
        }
        self.occurrence.filter(|(begin, end)| *begin <= at && at < *end)
    }

    /// Returns the occurrence that contains `at`, or else the first one after it.
    fn next(&self, at: UtcMicros) -> Option<(UtcMicros, UtcMicros)> {
        let Some((from, to)) = self.valid else {
            return self.window.next(at);
        };
        let mut found = self.window.next(at.max(from))?;
        if found.0 < from {
            // It began before the window was added.
            found = self.window.next(found.1)?;
        }
        (found.0 < to).then_some((found.0, found.1.min(to)))
    }
}

/// State that survives a restart.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredWindows {
    added: Vec<AddedWindow>,
    /// Windows whose start is recorded, with their ends.
    begun: BTreeMap<String, UtcMicros>,
    /// Past periods that were declared as maintenance.
    declared: Vec<DeclaredPeriod>,
}

struct Inner {
    planned: Vec<Planned>,
    /// Windows that affect each monitor.
    of_monitor: HashMap<MonitorId, Vec<usize>>,
    config: Arc<Config>,
    kept: StoredWindows,
}

/// Shared handle to all maintenance windows; cloning is cheap.
#[derive(Clone)]
pub struct Maintenance {
    inner: Arc<Mutex<Inner>>,
    file: Arc<PathBuf>,
}

impl Maintenance {
    /// Loads the windows that were added while an earlier process ran.
    pub fn open(config: Arc<Config>) -> Self {
        let file = config.state.join(format!("site={}", config.site)).join("maintenance.json");
        let kept = read(&file);
        let mut inner = Inner { planned: Vec::new(), of_monitor: HashMap::new(), config, kept };
        inner.plan();
        Self { inner: Arc::new(Mutex::new(inner)), file: Arc::new(file) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().ignore_poison()
    }

    /// Applies a new configuration.
    pub fn reload(&self, config: Arc<Config>) {
        let mut inner = self.lock();
        inner.config = config;
        inner.plan();
    }

    /// Returns the open window of a monitor, or the one that ends last if there are several.
    pub fn open_for(&self, monitor: &MonitorId, at: UtcMicros) -> Option<Open> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let windows = inner.of_monitor.get(monitor)?;
        let mut found: Option<Open> = None;
        for index in windows {
            let Some(planned) = inner.planned.get_mut(*index) else {
                continue;
            };
            let Some((_, until)) = planned.at(at) else {
                continue;
            };
            let pause = planned.pause || found.as_ref().is_some_and(|open| open.pause);
            if found.as_ref().is_none_or(|open| open.until < until) {
                found = Some(Open {
                    name: planned.name.clone(),
                    reason: planned.reason.clone(),
                    until,
                    pause,
                });
            }
            if let Some(open) = &mut found {
                open.pause = pause;
            }
        }
        found
    }

    /// Adds a window. When this returns, it is on disk.
    ///
    /// # Errors
    /// The window is invalid, selects no monitors, or can't be stored.
    pub fn add(&self, window: AddedWindow) -> Result<(), String> {
        if window.to <= window.from {
            return Err("the window ends before it starts".to_owned());
        }
        if window.to <= UtcMicros::now() {
            return Err("the window ends in the past; declare it instead".to_owned());
        }
        let mut inner = self.lock();
        if let Some(Repetition { cron, lasts }) = &window.repeats {
            Window::recurring(cron, *lasts, inner.config.timezone.clone())?;
        } else if window.to - window.from > MAX_LENGTH {
            return Err("the window is longer than a year".to_owned());
        }
        inner
            .config
            .select(&window.monitors)
            .map_err(|pattern| format!("{pattern:?} matches no monitor"))?;
        if inner.planned.iter().any(|planned| planned.name == window.name) {
            return Err(format!("a maintenance window named {} already exists", window.name));
        }
        inner.kept.added.push(window);
        // A window that can't be stored does not start: the error makes clear that alarms are still
        // raised.
        let kept = self.keep(&inner.kept);
        if kept.is_err() {
            inner.kept.added.pop();
        }
        inner.plan();
        kept
    }

    /// Returns a name that no window and no declaration has: two windows may start at the same
    /// time.
    pub fn free_name(&self, prefix: &str, from: UtcMicros) -> String {
        let inner = self.lock();
        let is_taken = |name: &String| {
            inner.planned.iter().any(|planned| planned.name == *name)
                || inner.kept.declared.iter().any(|period| period.name == *name)
        };
        let first = format!("{prefix}-{}", from.0 / 1_000_000);
        let others = (2..).map(|number| format!("{first}-{number}"));
        let mut names = std::iter::once(first.clone()).chain(others);
        names.find(|name| !is_taken(name)).unwrap_or(first.clone())
    }

    /// Ends an added window now.
    ///
    /// # Errors
    /// There is no window with this name, or the change can't be stored.
    pub fn end(&self, name: &str) -> Result<(), String> {
        let now = UtcMicros::now();
        let mut inner = self.lock();
        let Some(window) = inner.kept.added.iter_mut().find(|window| window.name == name) else {
            return Err(match inner.planned.iter().any(|planned| planned.name == name) {
                true => {
                    format!("{name} is defined in the configuration; change it there and reload")
                }
                false => format!("there is no maintenance window {name}"),
            });
        };
        window.to = now;
        inner.plan();
        self.keep(&inner.kept)
    }

    /// Adjusts to a step of the wall clock: open windows that were added by command keep their
    /// duration. Those of the configuration follow the time of day.
    pub fn stepped(&self, now: UtcMicros, step: Micros) {
        let before = now - step;
        let mut inner = self.lock();
        let mut changed = false;
        for window in &mut inner.kept.added {
            if window.repeats.is_none() && window.from <= before && before < window.to {
                (window.from, window.to) = (window.from + step, window.to + step);
                changed = true;
            }
        }
        if changed {
            inner.plan();
            if let Err(error) = self.keep(&inner.kept) {
                tracing::error!(%error, "can't write the maintenance windows");
            }
        }
    }

    /// Returns all open and future windows, each with its current or next occurrence.
    pub fn list(&self, now: UtcMicros) -> Vec<AddedWindow> {
        let mut windows = Vec::new();
        for planned in &mut self.lock().planned {
            planned.at(now);
            if let Some((from, to)) = planned.occurrence {
                windows.push(AddedWindow {
                    name: planned.name.clone(),
                    monitors: planned.monitors.clone(),
                    from,
                    to,
                    repeats: planned.repeats.clone(),
                    reason: planned.reason.clone(),
                    by: planned.by.clone(),
                    pause: planned.pause,
                });
            }
        }
        windows.sort_by_key(|window| (window.from, window.to));
        windows
    }

    fn keep(&self, kept: &StoredWindows) -> Result<(), String> {
        serde_json::to_vec(kept)
            .map_err(std::io::Error::other)
            .and_then(|bytes| crate::record::write_whole(&self.file, &bytes))
            .map_err(|error| format!("{}: {error}", self.file.display()))
    }

    /// Records which windows have started and ended since the last call.
    pub async fn turn(&self, recorder: &Recorder) {
        for event in self.turns(UtcMicros::now()) {
            if let Err(error) = recorder.record_event(event).await {
                tracing::error!(%error, "can't record an event");
            }
        }
    }

    /// Returns events about windows that have started and ended since the last call.
    fn turns(&self, now: UtcMicros) -> Vec<Event> {
        let mut events = Vec::new();
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut changed = false;
        let mut open = BTreeMap::new();
        for planned in &mut inner.planned {
            if let Some((_, end)) = planned.at(now) {
                open.insert(planned.name.clone(), end);
                if inner.kept.begun.insert(planned.name.clone(), end).is_none() {
                    changed = true;
                    tracing::info!(maintenance = %planned.name, until = %end, "maintenance started");
                    events.extend(about(
                        planned,
                        &inner.config,
                        EventKind::MaintenanceStarted,
                        now,
                        Some(end),
                    ));
                }
            }
        }
        let ended: Vec<String> =
            inner.kept.begun.keys().filter(|name| !open.contains_key(*name)).cloned().collect();
        for name in ended {
            changed = true;
            inner.kept.begun.remove(&name);
            tracing::info!(maintenance = %name, "maintenance ended");
            match inner.planned.iter().find(|planned| planned.name == name) {
                Some(planned) => events.extend(about(
                    planned,
                    &inner.config,
                    EventKind::MaintenanceEnded,
                    now,
                    None,
                )),
                None => events
                    .push(Event::new(None, now, EventKind::MaintenanceEnded).text(name.clone())),
            }
        }
        let before = inner.kept.added.len();
        inner.kept.added.retain(|window| window.to > now);
        if inner.kept.added.len() != before {
            changed = true;
            inner.plan();
        }
        if changed && let Err(error) = self.keep(&inner.kept) {
            tracing::error!(%error, "can't write the maintenance windows");
        }
        events
    }
}

/// Returns the events of a window: one for each of its monitors, or one for the site.
fn about(
    planned: &Planned,
    config: &Config,
    kind: EventKind,
    at: UtcMicros,
    until: Option<UtcMicros>,
) -> Vec<Event> {
    let text = match &planned.reason {
        Some(reason) => format!("{}: {reason}", planned.name),
        None => planned.name.clone(),
    };
    let monitors: Vec<&Monitor> = config.select(&planned.monitors).unwrap_or_default();
    let one = |monitor: Option<MonitorId>| {
        Event {
        actor: planned.by.clone(),
        until,
        detail: Some(
            serde_json::json!({ "maintenance": planned.name, "monitors": planned.monitors, "tests": if planned.pause { "pause" } else { "run" } })
                .to_string(),
        ),
        ..Event::new(monitor, at, kind).text(text.clone())
    }
    };
    if planned.monitors.is_empty() || monitors.len() > MAX_EVENTS {
        return vec![one(None)];
    }
    monitors.into_iter().map(|monitor| one(Some(monitor.id.clone()))).collect()
}

impl Inner {
    /// Plans the configured and the added windows.
    fn plan(&mut self) {
        let fixed = self.config.maintenance.iter().map(|window| Planned {
            name: window.name.to_string(),
            reason: window.reason.clone(),
            by: None,
            monitors: window.monitors.clone(),
            pause: window.pause,
            window: window.when.clone(),
            valid: None,
            repeats: None,
            occurrence: None,
            looked_up: UtcMicros(i64::MAX),
        });
        let zone = &self.config.timezone;
        let added = self.kept.added.iter().map(|window| Planned {
            name: window.name.clone(),
            reason: window.reason.clone(),
            by: window.by.clone(),
            monitors: window.monitors.clone(),
            pause: window.pause,
            window: occurrences(window, zone),
            valid: window.repeats.as_ref().map(|_| (window.from, window.to)),
            repeats: window.repeats.clone(),
            occurrence: None,
            looked_up: UtcMicros(i64::MAX),
        });
        self.planned = fixed.chain(added).collect();
        self.of_monitor.clear();
        for (index, planned) in self.planned.iter().enumerate() {
            // Monitors named by an added window may have been removed.
            let selects = |monitor: &Monitor| {
                planned.monitors.is_empty()
                    || planned.monitors.iter().any(|pattern| monitor.is_selected(pattern))
            };
            for monitor in self.config.monitors.values().filter(|monitor| selects(monitor)) {
                self.of_monitor.entry(monitor.id.clone()).or_default().push(index);
            }
        }
    }
}

/// Returns when an added window occurs.
fn occurrences(window: &AddedWindow, zone: &TimeZone) -> Window {
    let once = Window::Once { from: window.from, to: window.to };
    let Some(Repetition { cron, lasts }) = &window.repeats else {
        return once;
    };
    Window::recurring(cron, *lasts, zone.clone()).unwrap_or_else(|error| {
        // For example, in another time zone; an occurrence that has ended is none.
        tracing::error!(maintenance = %window.name, %error, "the recurring window can't be planned");
        Window::Once { from: UtcMicros(0), to: UtcMicros(0) }
    })
}

fn read(file: &Path) -> StoredWindows {
    match files::read_state(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::error!(file = %file.display(), %error, "the file of maintenance windows is damaged");
            StoredWindows::default()
        }),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::error!(file = %file.display(), %error, "can't read the maintenance windows");
            }
            StoredWindows::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> Arc<Config> {
        config_of(folder, "02:00-03:00")
    }

    /// Like [`config`], with these hours for the night.
    fn config_of(folder: &Path, night: &str) -> Arc<Config> {
        let path = folder.join("mailqos.toml");
        let text = "site = \"here\"\ntimezone = \"UTC\"\n[defaults]\nfrom = \"a@b.example\"\nto = \"a@b.example\"\nsmtp = {}\npickup = { account = \"a\" }\n\
                    [account.a]\nuser = \"a\"\npassword = { env = \"X\" }\n[object.o]\naddress = \"localhost\"\ntags = [\"t\"]\n[object.p]\naddress = \"localhost\"\n\
                    [monitor.a]\nobject = \"o\"\n[monitor.b]\nobject = \"p\"\n\
                    [maintenance.night]\nhours = \"02:00-03:00\"\nmonitors = [\"tag:t\"]\ntests = \"pause\"\n";
        std::fs::write(&path, text.replace("02:00-03:00", night)).expect("write");
        Arc::new(mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}")))
    }

    /// 2099-01-01T00:00:00Z, so that added windows are not over.
    const MIDNIGHT: i64 = 4_070_908_800_000_000;

    fn id(name: &str) -> MonitorId {
        name.parse().expect("a name")
    }

    #[test]
    fn a_past_period_is_declared_and_withdrawn() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        std::fs::create_dir_all(config.state.join("site=here")).expect("folder");
        let maintenance = Maintenance::open(Arc::clone(&config));
        let now = UtcMicros::now();
        let ago = |minutes: i64| now - Micros::from_secs(60 * minutes);
        let period = |name: &str, from, to, monitors: &[&str]| DeclaredPeriod {
            name: name.to_owned(),
            monitors: monitors.iter().map(|word| (*word).to_owned()).collect(),
            from,
            to,
            reason: "new disks".to_owned(),
            by: "anna".to_owned(),
        };
        let event = maintenance.declare(period("x", ago(90), ago(30), &["tag:t"]), now);
        let event = event.expect("declared");
        assert_eq!(event.kind, EventKind::MaintenanceDeclared);
        assert_eq!((event.at, event.until), (now, Some(ago(30))));
        assert_eq!(event.actor.as_deref(), Some("anna"));
        let detail = event.detail.expect("detail");
        assert!(detail.contains("\"monitors\":[\"a\"]"), "{detail}");
        // No alarm, no sample and no planned window is affected.
        assert!(maintenance.list(now).iter().all(|window| window.name != "x"));
        for (wrong, said) in [
            (period("x", ago(20), ago(10), &[]), "already exists"),
            (period("y", ago(10), ago(20), &[]), "ends before"),
            (period("y", ago(10), ago(-5), &[]), "only a past period"),
            (period("y", ago(10), ago(5), &["nothing"]), "matches no monitor"),
            (period("y", ago(60 * 24 * 401), ago(60 * 24 * 400), &[]), "days ago"),
            (period("y", ago(60 * 24 * 390), ago(5), &[]), "longer than a year"),
        ] {
            let refused = maintenance.declare(wrong, now).expect_err(said);
            assert!(refused.contains(said), "{refused}");
        }
        // It survives a restart, and is withdrawn by its name, once.
        let again = Maintenance::open(config);
        assert_eq!(again.declared().len(), 1);
        let event = again.withdraw("x", "bert", now).expect("withdrawn");
        assert_eq!(event.kind, EventKind::MaintenanceWithdrawn);
        assert!(again.withdraw("x", "bert", now).is_err() && again.declared().is_empty());
    }

    #[test]
    fn a_window_affects_the_selected_monitors() {
        let folder = tempfile::tempdir().expect("folder");
        let maintenance = Maintenance::open(config(folder.path()));
        let night = UtcMicros(Micros::from_secs(2 * 3600 + 1800).0);
        let open = maintenance.open_for(&id("a"), night).expect("open");
        assert_eq!((open.name.as_str(), open.pause), ("night", true));
        assert_eq!(open.until, UtcMicros(Micros::from_secs(3 * 3600).0));
        assert_eq!(maintenance.open_for(&id("b"), night), None);
        assert_eq!(maintenance.open_for(&id("a"), UtcMicros(0)), None);
        let kinds = |at| -> Vec<&str> {
            maintenance.turns(at).iter().map(|event| event.kind.as_str()).collect()
        };
        assert_eq!(kinds(night), ["maintenance_started"]);
        assert_eq!(kinds(night), [""; 0]);
        assert_eq!(kinds(night + Micros::from_secs(3600)), ["maintenance_ended"]);
    }

    #[test]
    fn overlapping_windows_last_until_the_last_one_ends() {
        let folder = tempfile::tempdir().expect("folder");
        let maintenance = Maintenance::open(config(folder.path()));
        // Tomorrow night, and an added window over its second half.
        let day = UtcMicros::now().0 / 86_400_000_000 + 1;
        let hour = |hour: i64| UtcMicros(day * 86_400_000_000) + Micros::from_secs(hour * 1800);
        let added = AddedWindow {
            name: "disks".into(),
            monitors: vec!["a".into()],
            from: hour(5),
            to: hour(8),
            repeats: None,
            reason: None,
            by: None,
            pause: false,
        };
        maintenance.add(added).expect("fine");
        let open = |at| {
            maintenance.open_for(&id("a"), hour(at)).map(|open| (open.name, open.pause, open.until))
        };
        assert_eq!(open(4), Some(("night".into(), true, hour(6))));
        assert_eq!(
            open(5),
            Some(("disks".into(), true, hour(8))),
            "both: the later end, the stricter rule"
        );
        assert_eq!(open(6), Some(("disks".into(), false, hour(8))));
        assert_eq!(open(8), None);
        let maintenance = Maintenance::open(config(folder.path()));
        let kinds = |at| -> Vec<String> {
            let events = maintenance.turns(hour(at));
            events
                .iter()
                .map(|event| {
                    format!("{} {}", event.kind, event.text.as_deref().unwrap_or_default())
                })
                .collect()
        };
        assert_eq!(kinds(4), ["maintenance_started night"]);
        assert_eq!(kinds(5), ["maintenance_started disks"]);
        assert_eq!(kinds(6), ["maintenance_ended night"]);
        assert_eq!(kinds(8), ["maintenance_ended disks"]);
    }

    /// Returns an hour of maintenance of the monitor `b`.
    fn window(now: UtcMicros) -> AddedWindow {
        AddedWindow {
            name: "disks".into(),
            monitors: vec!["object:p".into()],
            from: now,
            to: now + Micros::from_secs(3600),
            repeats: None,
            reason: Some("new disks".into()),
            by: Some("anna".into()),
            pause: false,
        }
    }

    #[test]
    fn an_added_window_survives_a_restart_and_ends_on_command() {
        let folder = tempfile::tempdir().expect("folder");
        let now = UtcMicros::now();
        // Not now, whenever the test runs.
        let noon = (now.0 / 3_600_000_000 + 12) % 24;
        let config = config_of(folder.path(), &format!("{noon:02}:00-{noon:02}:30"));
        let added = window(now);
        let maintenance = Maintenance::open(config.clone());
        maintenance.add(added.clone()).expect("fine");
        assert!(maintenance.add(added.clone()).is_err(), "twice");
        let nobody =
            AddedWindow { name: "x".into(), monitors: vec!["nobody".into()], ..added.clone() };
        assert!(maintenance.add(nobody).is_err());
        let backwards = AddedWindow { name: "y".into(), to: now - Micros(1), ..added };
        assert!(maintenance.add(backwards).is_err());
        let nowhere = Maintenance {
            file: Arc::new(folder.path().join("mailqos.toml/maintenance.json")),
            ..Maintenance::open(config.clone())
        };
        let unkept = AddedWindow { name: "z".into(), ..window(now) };
        assert!(nowhere.add(unkept).is_err(), "it can't be kept");
        assert!(nowhere.list(now).iter().all(|window| window.name != "z"));
        assert_eq!(maintenance.turns(now).len(), 1);
        drop(maintenance);
        let maintenance = Maintenance::open(config);
        assert!(
            maintenance.open_for(&id("b"), now).is_some()
                && maintenance.open_for(&id("a"), now).is_none()
        );
        assert!(maintenance.turns(now).is_empty(), "its beginning is on record");
        maintenance.end("disks").expect("fine");
        assert!(maintenance.end("night").is_err() && maintenance.end("nothing").is_err());
        let later = UtcMicros::now() + Micros(1);
        assert_eq!(maintenance.turns(later)[0].kind, EventKind::MaintenanceEnded);
        assert_eq!(maintenance.open_for(&id("b"), later), None);
    }

    #[test]
    fn setting_the_clock_neither_hides_nor_extends_a_window() {
        let folder = tempfile::tempdir().expect("folder");
        let maintenance = Maintenance::open(config(folder.path()));
        let hour = |hour: i64| UtcMicros(MIDNIGHT) + Micros::from_secs(hour * 1800);
        let is_open = |monitor: &str, at| maintenance.open_for(&id(monitor), at).is_some();
        // The clock was three hours ahead: the night is over, and then starts after all.
        assert!(!is_open("a", hour(10)));
        assert!(is_open("a", hour(5)));
        // Started for an hour at 23:00 by a clock that is then corrected to 21:10.
        let (began, step) = (hour(46), Micros::from_secs(-6_600));
        maintenance.add(window(began)).expect("fine");
        assert!(is_open("b", began + Micros::from_secs(600)));
        let corrected = began + Micros::from_secs(600) + step;
        assert!(!is_open("b", corrected));
        maintenance.stepped(corrected, step);
        assert!(is_open("b", corrected));
        assert!(is_open("b", corrected + Micros::from_secs(2_999)));
        assert!(!is_open("b", corrected + Micros::from_secs(3_001)));
    }

    #[test]
    fn a_recurring_window_keeps_its_local_time_when_the_clocks_change() {
        // louislam/uptime-kuma#6233: maintenance moved by an hour with summer time; #2987: it
        // occurred only once.
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        config(folder.path());
        let text =
            std::fs::read_to_string(&path).expect("text").replace("\"UTC\"", "\"Europe/Berlin\"");
        std::fs::write(&path, text).expect("write");
        let config =
            Arc::new(mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}")));
        let maintenance = Maintenance::open(Arc::clone(&config));
        let at = |text: &str| UtcMicros::from(text.parse::<jiff::Timestamp>().expect("a time"));
        let repeats = |cron: &str, hours: i64| {
            Some(Repetition { cron: cron.to_owned(), lasts: Micros::from_secs(3_600 * hours) })
        };
        let nightly = AddedWindow {
            name: "nightly".into(),
            monitors: vec!["b".into()],
            from: at("2099-03-26T12:00:00Z"),
            to: at("2099-10-28T12:00:00Z"),
            repeats: repeats("30 4 * * *", 1),
            reason: None,
            by: Some("anna".into()),
            pause: false,
        };
        maintenance.add(nightly.clone()).expect("added");
        for (cron, hours, said) in [
            ("nonsense", 1, "nonsense"),
            ("30 4 * * *", 25, "before this one"),
            ("0 0 30 2 *", 1, "never"),
        ] {
            let wrong = AddedWindow {
                name: "wrong".into(),
                repeats: repeats(cron, hours),
                ..nightly.clone()
            };
            let refused = maintenance.add(wrong).expect_err(said);
            assert!(refused.contains(said), "{refused}");
        }
        // It survives a restart.
        for maintenance in [&maintenance, &Maintenance::open(config)] {
            let is_open = |text: &str| maintenance.open_for(&id("b"), at(text)).is_some();
            // Before and after 2099-03-29, when summer time begins, and 2099-10-25, when it ends.
            for open in [
                "2099-03-28T03:30:00Z",
                "2099-03-29T02:30:00Z",
                "2099-10-24T02:45:00Z",
                "2099-10-25T03:45:00Z",
            ] {
                assert!(is_open(open), "{open}");
            }
            for closed in [
                "2099-03-26T03:45:00Z",
                "2099-03-28T02:45:00Z",
                "2099-03-29T03:45:00Z",
                "2099-10-25T02:45:00Z",
                "2099-10-29T03:45:00Z",
            ] {
                assert!(!is_open(closed), "{closed}");
            }
        }
    }
}
