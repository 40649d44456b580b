//! One pass over the schedules: makes what is due, orders its delivery, and remembers what is done.

use std::{
    collections::BTreeMap,
    io::Write as _,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::FutureExt as _;
use mailqos_base::files;
use mailqos_config::{Config, Problems};
use mailqos_delivery::outbox::{Outbox, OutboxError, Submitted, is_due};
use mailqos_figures::{Period, PeriodError};
use mailqos_lake_tables::place::{self, PlaceError};
use mailqos_lake_tables::{Lake, LakeError};
use mailqos_model::{Micros, UtcMicros};
use mailqos_report::{
    among,
    definition::Definition,
    generate::{self, ReportError, Source},
    schedule_keys::{CatchUp, Schedule},
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::dispatch::{self, DispatchError};

/// Runs that are looked up after a long rest at the most.
const MOST: usize = 400;

/// Why a scheduled report was not made.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The lake can't be reached.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The samples can't be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The period is none.
    #[error(transparent)]
    Period(#[from] PeriodError),
    /// The report can't be made.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Its delivery can't be ordered.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// The outbox can't be written.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// What is done can't be remembered.
    #[error("{path}: {reason}", path = path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The program has a fault.
    #[error("a fault of mailqos, please report it: {0}")]
    Panicked(String),
}

/// A definition's runs that fell due since somebody looked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Those that are made, oldest first.
    pub made: Vec<UtcMicros>,
    /// Those that the definition's policy leaves out, oldest first.
    pub left_out: Vec<UtcMicros>,
}

/// What is known of all definitions; moments in microseconds since 1970 UTC.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// By their slugs.
    reports: BTreeMap<String, Known>,
    /// Files of definitions that can't be read.
    wrong: BTreeMap<String, Unreadable>,
}

/// What is known of a definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    /// Up to when its runs are known: those that fell due until then are made, owed or left out.
    seen: i64,
    /// By which rule; empty where an earlier version has written it.
    rule: String,
    /// Runs that are owed, oldest first: they are made, whatever falls due after them.
    owed: Vec<Owed>,
}

/// A run that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Owed {
    /// When it was due.
    at: i64,
    /// When it is looked at again.
    look: i64,
    /// People were told that it can't be made.
    told: bool,
}

/// A definition that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Unreadable {
    /// What is wrong with it.
    text: String,
    /// When people are told of it, until somebody was.
    tell: Option<i64>,
}

/// So many reports are made at once, over all passes: more would only take each other's processors and memory.
static MAKING: Semaphore = Semaphore::const_new(4);

/// The lock of whoever tells people of wrong definitions: a name that nobody gives a definition.
const TELLING: &str = "..telling";

/// What waits or has failed is looked at again after as long as it has been due, but not sooner nor later than this.
const PAUSES: (Micros, Micros) = (Micros::from_secs(60), Micros::from_secs(3_600));

/// What fell due so short a time ago was not missed: passes by a timer may be as far apart.
const ON_TIME: Micros = Micros::from_secs(3_600);

/// A clock that was further ahead than this when somebody looked last was wrong then: what it made too early falls due again. What
/// is the same is not delivered again.
const AHEAD: Micros = Micros::from_secs(3_600);

/// The runs that fell due in `(seen, now]`, and which of them the policy makes.
pub fn due(definition: &Definition, schedule: &Schedule, config: &Config, seen: UtcMicros, now: UtcMicros) -> Due {
    let zone = definition.calendar(Some(config)).timezone;
    let mut due = Due::default();
    let mut after = seen;
    while let Some(at) = schedule.rule.next(after, &zone) {
        if at > now {
            break;
        }
        due.made.push(at);
        after = at;
    }
    let keep = match schedule.catch_up {
        CatchUp::All => MOST,
        CatchUp::Latest => 1,
        CatchUp::None => due.made.iter().filter(|at| now - **at < ON_TIME).count().min(1),
    };
    let made = due.made.split_off(due.made.len().saturating_sub(keep));
    due.left_out = std::mem::replace(&mut due.made, made);
    due
}

/// Makes and orders all that is due now; gives the failures, by definition. Neither a failure nor a long one holds up another; one
/// that somebody else makes at the moment is left to them.
///
/// # Errors
/// What is done can't be read or remembered.
pub async fn run_due(
    config: &Arc<Config>,
    definitions: Vec<Definition>,
    now: UtcMicros,
) -> Result<Vec<(String, ScheduleError)>, ScheduleError> {
    let mut making = JoinSet::new();
    for definition in definitions {
        if definition.schedule.is_some() {
            let config = Arc::clone(config);
            making.spawn(async move {
                let result = caught(run_one(&config, &definition, now)).await;
                (definition.slug, result)
            });
        }
    }
    let mut failures = Vec::new();
    while let Some(joined) = making.join_next().await {
        match joined {
            Ok((_, Ok(()))) => {}
            Ok((slug, Err(error))) => failures.push((slug, error)),
            // It was told to stop, with all of the program.
            Err(error) => failures.push(("a report".to_owned(), failed(&config.state, error))),
        }
    }
    failures.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(failures)
}

async fn run_one(config: &Config, definition: &Definition, now: UtcMicros) -> Result<(), ScheduleError> {
    let Some(schedule) = &definition.schedule else {
        return Ok(());
    };
    let slug = &definition.slug;
    let Some(_lock) = lock(config, slug)? else {
        return Ok(());
    };
    // Only who has the lock changes what is known of the definition.
    let before = read_state(&state_file(config))?.reports.remove(slug);
    let rule = schedule.rule.text();
    let mut known = known(slug, before.clone(), rule, now);
    let due = due(definition, schedule, config, UtcMicros(known.seen), now);
    if let Some(first) = due.left_out.first() {
        tracing::warn!(
            report = %slug,
            "{} runs are left out as catch_up says, the first due {first}: they fell due while nobody ran schedules",
            due.left_out.len(),
        );
    }
    let outbox = Outbox::open(config)?;
    for at in &due.made {
        // A run that falls due anew, as after a clock that was wrong, is made anew.
        outbox.close_run(&run(slug, *at))?;
        known.owed.push(Owed {
            at: at.0,
            ..Owed::default()
        });
    }
    if let Some(last) = due.made.iter().chain(&due.left_out).max() {
        known.seen = last.0;
    }
    if before.as_ref() != Some(&known) {
        remember(config, slug, &known)?;
    }
    let mut result = Ok(());
    for mut owed in known.owed.clone() {
        if !is_due(owed.look, now, PAUSES.1) {
            continue;
        }
        let at = UtcMicros(owed.at);
        let until = at + schedule.grace;
        let later = now + (now - at).clamp(PAUSES.0, PAUSES.1);
        let done = if outbox.is_ordered(&run(slug, at)) {
            // A crash came before it was remembered. What it would say now is not what it said.
            Ok(true)
        } else {
            caught(make(config, &outbox, definition, at, now, now < until)).await
        };
        let mut ordered = false;
        match done {
            Ok(true) => {
                known.owed.retain(|other| other.at != owed.at);
                ordered = true;
            }
            Ok(false) => {
                tracing::info!(report = %slug, due = %at, "waits for samples that are not settled yet");
                owed.look = later.min(until).0;
            }
            Err(error) => {
                // It stays owed, and holds up no run after it.
                owed.told = owed.told || tell(config, slug, at, &error).await;
                owed.look = later.0;
                result = Err(error);
            }
        }
        if let Some(place) = known.owed.iter_mut().find(|other| other.at == owed.at) {
            *place = owed;
        }
        remember(config, slug, &known)?;
        if ordered {
            outbox.close_run(&run(slug, at))?;
        }
    }
    result
}

/// From when on a definition's runs are looked up, and those that it owes.
fn known(slug: &str, before: Option<Known>, rule: String, now: UtcMicros) -> Known {
    match before {
        Some(known) if known.seen > (now + AHEAD).0 => {
            tracing::error!(
                report = %slug,
                "the clock has been at {} and is at {now}: what falls due from now on is made",
                UtcMicros(known.seen)
            );
            Known {
                seen: now.0,
                rule,
                ..known
            }
        }
        // By another rule much may have been due since the last run; nobody waits for that.
        Some(known) if known.rule != rule && !known.rule.is_empty() => {
            tracing::info!(report = %slug, "its rule has changed: what falls due from now on is made");
            Known {
                seen: known.seen.max(now.0),
                rule,
                ..known
            }
        }
        Some(known) => Known { rule, ..known },
        // A definition that is new owes nothing of the time before.
        None => Known {
            seen: now.0,
            rule,
            owed: Vec::new(),
        },
    }
}

/// A panic becomes a failure like any other: people are told of it by the report's name, and it is tried again as seldom.
async fn caught<T>(work: impl Future<Output = Result<T, ScheduleError>>) -> Result<T, ScheduleError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(ScheduleError::Panicked(text.unwrap_or("no reason given").to_owned()))
        }
    }
}

/// What a run is called in the outbox.
fn run(slug: &str, due: UtcMicros) -> String {
    format!("{slug} {due}")
}

/// Tells people of definitions that can't be read, whenever one is wrong in a way that is new: nothing of them is made. Where somebody
/// else tells of them just now, it is left to them.
///
/// # Errors
/// It can't be remembered.
pub(crate) async fn tell_wrong(config: &Config, wrong: &[Wrong], now: UtcMicros) -> Result<(), ScheduleError> {
    let Some(_lock) = lock(config, TELLING)? else {
        return Ok(());
    };
    let known = read_state(&state_file(config))?.wrong;
    let mut all = BTreeMap::new();
    for (file, problems) in wrong {
        let (file, text) = (file.display().to_string(), problems.render(false));
        let tell = match known.get(&file) {
            Some(known) if known.text == text => known.tell,
            _ => Some(now.0),
        };
        let mut told = Unreadable { text, tell };
        if tell.is_some_and(|tell| is_due(tell, now, PAUSES.0)) {
            let subject = format!("the report definition {file} is wrong");
            let words = format!(
                "Nothing of it is made until it is mended; then what fell due is made as its catch_up says.\n\n{}",
                told.text
            );
            let done = say(config, &format!("{file}\n{}", told.text), &subject, &words).await;
            told.tell = (!done).then_some((now + PAUSES.0).0);
        }
        all.insert(file, told);
    }
    if all == known {
        return Ok(());
    }
    change_state(config, |state| state.wrong = all)
}

/// Tells people that a report was not made; whether somebody's way has accepted it.
async fn tell(config: &Config, slug: &str, due: UtcMicros, error: &ScheduleError) -> bool {
    let text =
        format!("The report {slug}, due {due}, could not be made. It is tried again until it can.\nWhy: {error}");
    let subject = format!("the report {slug} could not be made");
    say(config, &format!("{slug}.{}", due.0), &subject, &text).await
}

/// Tells people by the action list of `[delivery]`; whether one of its ways has accepted it. Without a list there is nobody to tell.
pub(crate) async fn say(config: &Config, id: &str, subject: &str, text: &str) -> bool {
    let Some(list) = &config.delivery.action_list else {
        return true;
    };
    match mailqos_notify::notify(config, list.as_str(), id, subject, text).await {
        Ok(()) => true,
        Err(reason) => {
            tracing::error!("nobody could be told by the action list {list} that {subject}: {reason}");
            false
        }
    }
}

/// Makes a run of a report and orders its deliveries; `false` if it is patient and some samples are not settled yet.
async fn make(
    config: &Config,
    outbox: &Outbox,
    definition: &Definition,
    due: UtcMicros,
    now: UtcMicros,
    patient: bool,
) -> Result<bool, ScheduleError> {
    let folder = &place::folder(None, Some(config)).await?;
    let _permit = MAKING.acquire().await;
    let calendar = definition.calendar(Some(config));
    let name = definition.period.as_deref().unwrap_or("last-month");
    let period = Period::named(name, due, calendar)?;
    let output = definition
        .output
        .clone()
        .unwrap_or_else(|| config.state.join("reports").join(&definition.slug));
    let requests = tokio::task::block_in_place(|| -> Result<Option<Vec<_>>, ScheduleError> {
        let lake = Lake::open(folder)?;
        let source = Source {
            lake: &lake,
            config: Some(config),
            now,
            made_at: None,
        };
        let mut requests = Vec::new();
        for report in generate::documents(definition, source, &period)? {
            if report.provisional && patient {
                return Ok(None);
            }
            let files = generate::write(&report, &definition.formats, &output, Some(&config.templates))?;
            requests.extend(dispatch::requests(config, definition, &report, &files, &period, due)?);
            tracing::info!(report = %report.stem, %due, "made in {}", output.display());
        }
        Ok(Some(requests))
    })?;
    let Some(requests) = requests else {
        return Ok(false);
    };
    let submitted = outbox.submit_run(&run(&definition.slug, due), &requests, now)?;
    for (request, submitted) in requests.iter().zip(submitted) {
        match submitted {
            Submitted::Waits(id) => tracing::info!(target = %request.target, %id, "delivery ordered"),
            Submitted::Delivered(id) => tracing::info!(target = %request.target, %id, "delivered before"),
        }
    }
    Ok(true)
}

/// A definition's file, and what is wrong with it.
pub(crate) type Wrong = (PathBuf, Problems);

/// Reads the definitions of the configuration's folder; those that are wrong are named, and hold up no other.
///
/// # Errors
/// The folder can't be listed.
pub fn definitions(config: &Config) -> std::io::Result<(Vec<Definition>, Vec<Wrong>)> {
    let (mut good, mut files, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for file in mailqos_report::definitions::files(config)? {
        match mailqos_report::definitions::load(Some(config), &file) {
            Ok(definition) => {
                good.push(definition);
                files.push(file);
            }
            Err(problems) => wrong.push((file, problems)),
        }
    }
    // The first of two that would write the same file is made; the other one waits until that is mended.
    for (number, problems) in among(&good, config).into_iter().rev() {
        good.remove(number);
        wrong.push((files.remove(number), problems));
    }
    Ok((good, wrong))
}

fn failed(path: &Path, reason: impl std::fmt::Display) -> ScheduleError {
    ScheduleError::State {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn read_state(path: &Path) -> Result<State, ScheduleError> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(path, error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(failed(path, error)),
    }
}

fn state_file(config: &Config) -> PathBuf {
    config.state.join("schedule.json")
}

/// Keeps everybody else from making a report until it is dropped; `None` where somebody makes it just now.
fn lock(config: &Config, slug: &str) -> Result<Option<std::fs::File>, ScheduleError> {
    let folder = config.state.join("schedule-locks");
    let path = folder.join(slug);
    let open = || -> std::io::Result<std::fs::File> {
        std::fs::create_dir_all(&folder)?;
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
    };
    let file = open().map_err(|error| failed(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(&path, files::lock_error(error))),
    }
}

/// Remembers what is known of a definition.
fn remember(config: &Config, slug: &str, known: &Known) -> Result<(), ScheduleError> {
    change_state(config, |state| {
        state.reports.insert(slug.to_owned(), known.clone());
    })
}

/// Changes what is remembered; others may remember something at the same time.
fn change_state(config: &Config, change: impl FnOnce(&mut State)) -> Result<(), ScheduleError> {
    let path = state_file(config);
    let folder = path.parent().unwrap_or(Path::new("."));
    let lock = || -> std::io::Result<std::fs::File> {
        std::fs::create_dir_all(folder)?;
        let file = std::fs::File::create(path.with_extension("lock"))?;
        file.lock().map_err(files::lock_error)?;
        Ok(file)
    };
    let _lock = lock().map_err(|error| failed(&path, error))?;
    let mut state = read_state(&path)?;
    change(&mut state);
    let write = || -> std::io::Result<()> {
        let bytes = serde_json::to_vec_pretty(&state)?;
        let temporary = path.with_extension("new");
        files::replace(&path, &temporary, files::Access::Umask, |file| file.write_all(&bytes))
    };
    write().map_err(|error| failed(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_has_changed_begins_when_it_is_seen() {
        let owed = vec![Owed {
            at: 5,
            ..Owed::default()
        }];
        let before = |rule: &str| {
            Some(Known {
                seen: 10,
                rule: rule.to_owned(),
                owed: owed.clone(),
            })
        };
        let (month, now) = ("month on 1 at 07:00:00", UtcMicros(1_000));
        let seen = |before| {
            let known = known("monthly", before, month.to_owned(), now);
            assert_eq!(known.rule, month);
            (known.seen, known.owed.len())
        };
        assert_eq!(seen(before(month)), (10, 1));
        assert_eq!(seen(before("cron 0 * * * *")), (1_000, 1));
        // What an earlier version has written names no rule.
        let earlier = serde_json::from_str("{\"seen\": 10, \"owed\": [{\"at\": 5}]}").expect("it can be read");
        assert_eq!(seen(Some(earlier)), (10, 1));
        assert_eq!(seen(None), (1_000, 0));
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_with_its_reason() {
        async fn work(value: Option<u8>) -> Result<u8, ScheduleError> {
            Ok(value.expect("there is a value"))
        }
        assert!(matches!(caught(work(Some(1))).await, Ok(1)));
        let error = caught(work(None)).await.expect_err("it panicked").to_string();
        assert!(error.contains("there is a value"), "{error}");
    }
}
