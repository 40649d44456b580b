//! One pass over the schedules: generates due reports, queues their deliveries, and records what is
//! done.

use std::{
    collections::BTreeMap,
    io::Write as _,
    ops::Range,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::FutureExt as _;
use mailqos_base::files;
use mailqos_config::{Config, Problems};
use mailqos_delivery::outbox::{Outbox, OutboxError, Submitted, is_due};
use mailqos_figures::{Period, PeriodError};
use mailqos_lake_tables::LakeError;
use mailqos_lake_tables::place::{self, PlaceError};
use mailqos_model::{Micros, UtcMicros};
use mailqos_notify::{Notification, Program};
use mailqos_report::{
    among,
    archive::Archive,
    definition::Definition,
    generate::{self, ReportError, Source},
    schedule_keys::{CatchUp, Schedule},
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::dispatch::{self, DispatchError};

/// Maximum number of missed runs to consider.
const MAX: usize = 400;

/// Reasons why a scheduled report was not generated.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The lake can't be reached.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The samples can't be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The period is invalid.
    #[error(transparent)]
    Period(#[from] PeriodError),
    /// The report can't be generated.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Its delivery can't be queued.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// The outbox can't be written.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The state can't be written.
    #[error("{path}: {reason}", path = path.display())]
    State {
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The program panicked.
    #[error("internal error in mailqos; report it as a bug: {0}")]
    Panicked(String),
}

/// Runs of a definition that have become due since the last pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Runs to generate, oldest first.
    pub made: Vec<UtcMicros>,
    /// Runs that are skipped by the definition's policy, oldest first.
    pub left_out: Vec<UtcMicros>,
}

/// State of all definitions; times in microseconds since 1970 UTC.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// Definitions by slug.
    reports: BTreeMap<String, Known>,
    /// Files of definitions that can't be read.
    wrong: BTreeMap<String, Unreadable>,
}

/// State of a definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    /// Time up to which its runs are processed: generated, owed or skipped.
    seen: i64,
    /// The rule of its schedule; empty if an earlier version wrote the state.
    rule: String,
    /// Runs that are owed, oldest first. They are generated whatever becomes due after them.
    owed: Vec<PendingRun>,
}

/// A run to generate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct PendingRun {
    /// Due time.
    at: i64,
    /// Time of the next attempt.
    look: i64,
    /// Whether a notice about the failure was accepted.
    told: bool,
}

/// A definition that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Unreadable {
    /// The problems.
    text: String,
    /// Time of the next notice, until one is accepted.
    tell: Option<i64>,
}

/// Maximum number of reports that are generated at the same time, over all passes: more would only
/// compete for processors and memory.
static MAKING: Semaphore = Semaphore::const_new(4);

/// Name of the lock for notices about invalid definitions; not a valid name of a definition.
const TELLING: &str = "..telling";

/// Shortest and longest time before a waiting or failed run is tried again. In between, the pause
/// equals the time since the run was due.
const PAUSES: (Micros, Micros) = (Micros::from_secs(60), Micros::from_secs(3_600));

/// Runs that became due within this time were not missed: passes of a timer may be this far apart.
const ON_TIME: Micros = Micros::from_secs(3_600);

/// If the clock was further ahead than this at the last pass, it was wrong: runs that were
/// generated too early become due again. Unchanged files are not delivered again.
const AHEAD: Micros = Micros::from_secs(3_600);

/// Returns the runs that became due in `(seen, now]`, and which of them the policy generates.
pub fn due(
    definition: &Definition,
    schedule: &Schedule,
    config: &Config,
    seen: UtcMicros,
    now: UtcMicros,
) -> Due {
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
        CatchUp::All => MAX,
        CatchUp::Latest => 1,
        CatchUp::None => due.made.iter().filter(|at| now - **at < ON_TIME).count().min(1),
    };
    let made = due.made.split_off(due.made.len().saturating_sub(keep));
    due.left_out = std::mem::replace(&mut due.made, made);
    due
}

/// Generates and queues everything that is due now; returns the failures by definition. A failed or
/// slow run does not delay others. A run that another process is generating is skipped.
///
/// # Errors
/// The state can't be read or stored.
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
            // The task was cancelled together with the program.
            Err(error) => failures.push(("a report".to_owned(), failed(&config.state, error))),
        }
    }
    failures.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(failures)
}

async fn run_one(
    config: &Config,
    definition: &Definition,
    now: UtcMicros,
) -> Result<(), ScheduleError> {
    let Some(schedule) = &definition.schedule else {
        return Ok(());
    };
    let slug = &definition.slug;
    let Some(_lock) = lock(config, slug)? else {
        return Ok(());
    };
    // Only the holder of the lock changes the state of the definition.
    let before = read_state(&state_file(config))?.reports.remove(slug);
    let rule = schedule.rule.text();
    let mut known = known(slug, before.clone(), rule, now);
    let due = due(definition, schedule, config, UtcMicros(known.seen), now);
    if let Some(first) = due.left_out.first() {
        tracing::warn!(report = %slug, runs = due.left_out.len(), %first, "missed runs skipped (catch_up)");
    }
    let outbox = Outbox::open(config)?;
    for at in &due.made {
        // A run that becomes due again, for example after a clock that was wrong, is generated
        // again.
        outbox.close_run(&run(slug, *at))?;
        known.owed.push(PendingRun { at: at.0, ..PendingRun::default() });
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
            // The program crashed before the run was recorded as done. Generating it again could
            // give different figures.
            Ok(true)
        } else {
            caught(make(config, &outbox, definition, now, at..until)).await
        };
        let mut ordered = false;
        match done {
            Ok(true) => {
                known.owed.retain(|other| other.at != owed.at);
                ordered = true;
            }
            Ok(false) => {
                tracing::info!(report = %slug, due = %at, "waiting for unsettled samples");
                owed.look = later.min(until).0;
            }
            Err(error) => {
                // The run stays owed and does not delay later ones.
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

/// Returns the time from which a definition's runs are due, and the runs that it owes.
fn known(slug: &str, before: Option<Known>, rule: String, now: UtcMicros) -> Known {
    match before {
        Some(known) if known.seen > (now + AHEAD).0 => {
            tracing::error!(report = %slug, before = %UtcMicros(known.seen), %now, "the clock was ahead; only runs due from now on are generated");
            Known { seen: now.0, rule, ..known }
        }
        // Under the new rule, many runs may have been due since the last one; they are not
        // generated.
        Some(known) if known.rule != rule && !known.rule.is_empty() => {
            tracing::info!(report = %slug, "the schedule has changed; only runs due from now on are generated");
            Known { seen: known.seen.max(now.0), rule, ..known }
        }
        Some(known) => Known { rule, ..known },
        // A new definition owes no runs before its creation.
        None => Known { seen: now.0, rule, owed: Vec::new() },
    }
}

/// Converts a panic to a failure, so that it is reported with the report's name and retried like
/// other failures.
async fn caught<T>(
    work: impl Future<Output = Result<T, ScheduleError>>,
) -> Result<T, ScheduleError> {
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

/// Returns the name of a run in the outbox.
fn run(slug: &str, due: UtcMicros) -> String {
    format!("{slug} {due}")
}

/// Sends notices about definitions that can't be read, whenever their problems change: no reports
/// are generated from them. If another process is sending them, nothing is done.
///
/// # Errors
/// The state can't be stored.
pub(crate) async fn report_invalid_definitions(
    config: &Config,
    wrong: &[InvalidDefinition],
    now: UtcMicros,
) -> Result<(), ScheduleError> {
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
            let subject = format!("the report definition {file} is invalid");
            let words = format!(
                "No reports are generated from it until it is fixed; missed runs are then generated according \
                 to catch_up.\n\n{}",
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

/// Sends a notice about a report that was not generated; returns whether a channel accepted it.
async fn tell(config: &Config, slug: &str, due: UtcMicros, error: &ScheduleError) -> bool {
    let text = format!(
        "The report {slug}, due {due}, could not be generated. mailqos keeps retrying.\nCause: {error}"
    );
    let subject = format!("the report {slug} could not be generated");
    say(config, &format!("{slug}.{}", due.0), &subject, &text).await
}

/// Sends a notice over the action list of `[delivery]`; returns whether one of its channels
/// accepted it, or true without a list.
pub(crate) async fn say(config: &Config, id: &str, subject: &str, text: &str) -> bool {
    let Some(list) = &config.delivery.action_list else {
        return true;
    };
    let notice = Notification::notice(config, Program::Analytics, id, subject, text);
    match mailqos_notify::notify(config, list.as_str(), &notice).await {
        Ok(()) => true,
        Err(reason) => {
            tracing::error!(action_list = %list, %reason, notice = subject, "notice not accepted");
            false
        }
    }
}

/// Generates a run of a report and queues its deliveries. Returns `false` if it waits for unsettled
/// samples.
async fn make(
    config: &Config,
    outbox: &Outbox,
    definition: &Definition,
    now: UtcMicros,
    due: Range<UtcMicros>,
) -> Result<bool, ScheduleError> {
    let (due, is_patient) = (due.start, now < due.end);
    let lake = place::lake(None, Some(config)).await?;
    let _permit = MAKING.acquire().await;
    let calendar = definition.calendar(Some(config));
    let name = definition.period.as_deref().unwrap_or("last-month");
    let period = Period::named(name, due, calendar)?;
    let output = definition
        .output
        .clone()
        .unwrap_or_else(|| config.state.join("reports").join(&definition.slug));
    let requests = tokio::task::block_in_place(|| -> Result<Option<Vec<_>>, ScheduleError> {
        let source = Source { lake: &lake, config: Some(config), now, made_at: None };
        let mut requests = Vec::new();
        let run = dispatch::Run { definition, period: &period, at: due };
        for report in generate::documents(definition, source, &period)? {
            if report.provisional && is_patient {
                return Ok(None);
            }
            let files =
                generate::write(&report, &definition.formats, &output, Some(&config.templates))?;
            let paths: Vec<PathBuf> = files.iter().map(|(_, path)| path.clone()).collect();
            if let Err(error) = Archive::new(config).add((&definition.slug, due), &paths, now) {
                tracing::warn!(report = %report.stem, %error, "report not recorded in the archive; it is kept until it is removed by hand");
            }
            requests.extend(dispatch::requests(config, &run, &report, &files)?);
            tracing::info!(report = %report.stem, %due, folder = %output.display(), "report generated");
        }
        Ok(Some(requests))
    })?;
    let Some(requests) = requests else {
        return Ok(false);
    };
    let submitted = outbox.submit_run(&run(&definition.slug, due), &requests, now)?;
    for (request, submitted) in requests.iter().zip(submitted) {
        match submitted {
            Submitted::Waits(id) => {
                tracing::info!(target_name = %request.target, %id, "delivery queued")
            }
            Submitted::Delivered(id) => {
                tracing::info!(target_name = %request.target, %id, "already delivered")
            }
        }
    }
    Ok(true)
}

/// An invalid definition's file and its problems.
pub(crate) type InvalidDefinition = (PathBuf, Problems);

/// Reads the definitions of the configuration's folder; invalid ones are returned with their
/// problems and affect no other.
///
/// # Errors
/// The folder can't be listed.
pub fn definitions(config: &Config) -> std::io::Result<(Vec<Definition>, Vec<InvalidDefinition>)> {
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
    // If two definitions would write the same file, the first is generated; the other one waits
    // until this is fixed.
    for (number, problems) in among(&good, config).into_iter().rev() {
        good.remove(number);
        wrong.push((files.remove(number), problems));
    }
    Ok((good, wrong))
}

fn failed(path: &Path, reason: impl std::fmt::Display) -> ScheduleError {
    ScheduleError::State { path: path.to_owned(), reason: reason.to_string() }
}

fn read_state(path: &Path) -> Result<State, ScheduleError> {
    match files::read_state(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(path, error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(failed(path, error)),
    }
}

fn state_file(config: &Config) -> PathBuf {
    config.state.join("schedule.json")
}

/// Locks a report against other processes until dropped; `None` if another one is generating it.
fn lock(config: &Config, slug: &str) -> Result<Option<std::fs::File>, ScheduleError> {
    let folder = config.state.join("schedule-locks");
    let path = folder.join(slug);
    let open = || -> std::io::Result<std::fs::File> {
        std::fs::create_dir_all(&folder)?;
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path)
    };
    let file = open().map_err(|error| failed(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(&path, files::lock_error(error))),
    }
}

/// Stores the state of a definition.
fn remember(config: &Config, slug: &str, known: &Known) -> Result<(), ScheduleError> {
    change_state(config, |state| {
        state.reports.insert(slug.to_owned(), known.clone());
    })
}

/// Changes the stored state; other processes may change it at the same time.
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
    fn a_changed_rule_applies_from_now_on() {
        let owed = vec![PendingRun { at: 5, ..PendingRun::default() }];
        let before =
            |rule: &str| Some(Known { seen: 10, rule: rule.to_owned(), owed: owed.clone() });
        let (month, now) = ("month on 1 at 07:00:00", UtcMicros(1_000));
        let seen = |before| {
            let known = known("monthly", before, month.to_owned(), now);
            assert_eq!(known.rule, month);
            (known.seen, known.owed.len())
        };
        assert_eq!(seen(before(month)), (10, 1));
        assert_eq!(seen(before("cron 0 * * * *")), (1_000, 1));
        // A state written by an earlier version contains no rule.
        let earlier = serde_json::from_str("{\"seen\": 10, \"owed\": [{\"at\": 5}]}")
            .expect("it can be read");
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
