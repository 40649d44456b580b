//! One pass over the schedules: makes what is due, orders its delivery, and remembers what is done.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use mailqos_core::{
    config::{Config, Problems},
    model::{Micros, UtcMicros},
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    delivery::{
        notice,
        outbox::{Outbox, OutboxError, Submitted},
    },
    figures::{Lake, LakeError, Period, PeriodError},
    lake::place::{self, PlaceError},
    report::{
        definition::{CatchUp, Definition, Schedule},
        dispatch::{self, DispatchError},
        generate::{self, ReportError, Source},
    },
};

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
}

/// A run of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// When it was due.
    pub at: UtcMicros,
    /// Whether it is made, or left out by the definition's policy.
    pub made: bool,
}

/// What is done, by the definitions' slugs; moments in microseconds since 1970 UTC.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// Up to when each definition's runs are done.
    done: BTreeMap<String, i64>,
    /// When those that wait or have failed are looked at again.
    look: BTreeMap<String, i64>,
    /// The failed runs that people were told of.
    told: BTreeMap<String, i64>,
}

/// So many reports are made at once, over all passes.
static MAKING: Semaphore = Semaphore::const_new(2);

/// What waits or has failed is looked at again after this time.
const PAUSE: Micros = Micros::from_secs(60);

/// The runs that fell due in `(done, now]`, oldest first, and which of them the policy makes.
pub fn due(definition: &Definition, schedule: &Schedule, config: &Config, done: UtcMicros, now: UtcMicros) -> Vec<Due> {
    let zone = generate::calendar(definition, Some(config)).timezone;
    let mut runs = Vec::new();
    let mut after = done;
    while let Some(at) = schedule.rule.next(after, &zone) {
        if at > now {
            break;
        }
        runs.push(Due { at, made: true });
        if runs.len() > MOST {
            runs.remove(0);
        }
        after = at;
    }
    let last = runs.len().saturating_sub(1);
    for (index, run) in runs.iter_mut().enumerate() {
        run.made = match schedule.catch_up {
            CatchUp::All => true,
            CatchUp::Latest => index == last,
            // What fell due a moment ago was not missed.
            CatchUp::None => index == last && now - (run.at + schedule.grace) < Micros::from_secs(600),
        };
    }
    runs
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
                let _permit = MAKING.acquire().await;
                let result = run_one(&config, &definition, now).await;
                (definition.slug, result)
            });
        }
    }
    let mut failures = Vec::new();
    while let Some(joined) = making.join_next().await {
        match joined {
            Ok((_, Ok(()))) => {}
            Ok((slug, Err(error))) => failures.push((slug, error)),
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
    let state = read_state(&state_file(config))?;
    let Some(done) = state.done.get(slug).copied() else {
        // A definition that is new owes nothing of the time before.
        return change_state(config, |state| {
            state.done.insert(slug.clone(), now.0);
        });
    };
    if state
        .look
        .get(slug)
        .is_some_and(|look| (now.0..now.0 + PAUSE.0).contains(look))
    {
        return Ok(());
    }
    let runs = due(definition, schedule, config, UtcMicros(done), now);
    if let Some(first) = runs.iter().find(|run| !run.made) {
        let count = runs.iter().filter(|run| !run.made).count();
        tracing::warn!(
            report = %slug,
            "{count} runs are left out, the first due {}: they fell due while nobody ran schedules",
            first.at
        );
    }
    for run in &runs {
        if run.made {
            let patient = now < run.at + schedule.grace;
            match make(config, definition, run.at, now, patient).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::info!(report = %slug, due = %run.at, "waits for samples that are not settled yet");
                    return change_state(config, |state| {
                        state.look.insert(slug.clone(), (now + PAUSE).0);
                    });
                }
                Err(error) => {
                    // It stays due, and is tried again.
                    let told = state.told.get(slug) == Some(&run.at.0) || tell(config, slug, run.at, &error).await;
                    change_state(config, |state| {
                        state.look.insert(slug.clone(), (now + PAUSE).0);
                        if told {
                            state.told.insert(slug.clone(), run.at.0);
                        }
                    })?;
                    return Err(error);
                }
            }
        }
        change_state(config, |state| {
            state.done.insert(slug.clone(), run.at.0);
            state.look.remove(slug);
            state.told.remove(slug);
        })?;
    }
    Ok(())
}

/// Tells people that a report was not made; whether somebody's way has accepted it.
async fn tell(config: &Config, slug: &str, due: UtcMicros, error: &ScheduleError) -> bool {
    let Some(list) = &config.delivery.action_list else {
        return true;
    };
    let text = format!("The report {slug}, due {due}, could not be made. It is tried again each minute.\nWhy: {error}");
    let told = notice::tell(
        config,
        list.as_str(),
        &format!("{slug}.{}", due.0),
        &format!("the report {slug} could not be made"),
        &text,
    )
    .await;
    if let Err(reason) = &told {
        tracing::error!(report = %slug, "nobody could be told by the action list {list}: {reason}");
    }
    told.is_ok()
}

/// Makes a run of a report and orders its deliveries; `false` if it is patient and some samples are not settled yet.
async fn make(
    config: &Config,
    definition: &Definition,
    due: UtcMicros,
    now: UtcMicros,
    patient: bool,
) -> Result<bool, ScheduleError> {
    let folder = &place::folder(None, Some(config)).await?;
    let calendar = generate::calendar(definition, Some(config));
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
    let outbox = Outbox::open(config)?;
    for request in &requests {
        match outbox.submit(request, now)? {
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
    let (mut good, mut wrong) = (Vec::new(), Vec::new());
    for file in crate::report::definition::files(config)? {
        match crate::report::definition::load(Some(config), &file) {
            Ok(definition) => good.push(definition),
            Err(problems) => wrong.push((file, problems)),
        }
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
        Err(std::fs::TryLockError::Error(error)) => Err(failed(&path, error)),
    }
}

/// Changes what is remembered; others may remember something at the same time.
fn change_state(config: &Config, change: impl FnOnce(&mut State)) -> Result<(), ScheduleError> {
    let path = state_file(config);
    let folder = path.parent().unwrap_or(Path::new("."));
    let lock = || -> std::io::Result<std::fs::File> {
        std::fs::create_dir_all(folder)?;
        let file = std::fs::File::create(path.with_extension("lock"))?;
        file.lock()?;
        Ok(file)
    };
    let _lock = lock().map_err(|error| failed(&path, error))?;
    let mut state = read_state(&path)?;
    change(&mut state);
    let write = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&state)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| failed(&path, error))
}
