//! One pass over the schedules: makes what is due, orders its delivery, and remembers what is done.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
};

use mailqos_core::{
    config::{Config, Problems},
    model::UtcMicros,
};
use serde::{Deserialize, Serialize};

use crate::{
    delivery::outbox::{Outbox, OutboxError, Submitted},
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

/// What is done, by the definitions' slugs.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Up to when each definition's runs are done, in microseconds since 1970 UTC.
    done: BTreeMap<String, i64>,
}

/// The runs that fell due in `(done, now]`, oldest first, and which of them the policy makes.
pub fn due(definition: &Definition, schedule: &Schedule, config: &Config, done: UtcMicros, now: UtcMicros) -> Vec<Due> {
    let zone = generate::calendar(definition, Some(config)).timezone;
    let mut runs = Vec::new();
    let mut after = done;
    while let Some(at) = schedule.rule.next(after, &zone) {
        if at + schedule.grace > now {
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
            CatchUp::None => {
                index == last && now - (run.at + schedule.grace) < mailqos_core::model::Micros::from_secs(600)
            }
        };
    }
    runs
}

/// Makes and orders all that is due now; gives the failures, by definition. One failure holds up no other report.
///
/// # Errors
/// What is done can't be read or remembered.
pub async fn run_due(
    config: &Config,
    definitions: &[Definition],
    now: UtcMicros,
) -> Result<Vec<(String, ScheduleError)>, ScheduleError> {
    let file = config.state.join("schedule.json");
    let mut state = read_state(&file)?;
    let mut failures = Vec::new();
    for definition in definitions {
        let Some(schedule) = &definition.schedule else { continue };
        let Some(done) = state.done.get(&definition.slug).copied() else {
            // A definition that is new owes nothing of the time before.
            state.done.insert(definition.slug.clone(), now.0);
            write_state(&file, &state)?;
            continue;
        };
        let runs = due(definition, schedule, config, UtcMicros(done), now);
        if let Some(first) = runs.iter().find(|run| !run.made) {
            let count = runs.iter().filter(|run| !run.made).count();
            tracing::warn!(
                report = %definition.slug,
                "{count} runs are left out, the first due {}: they fell due while nobody ran schedules",
                first.at
            );
        }
        for run in runs.iter().filter(|run| run.made) {
            if let Err(error) = make(config, definition, run.at, now).await {
                // It stays due, and is tried again at the next pass.
                failures.push((definition.slug.clone(), error));
                break;
            }
            state.done.insert(definition.slug.clone(), run.at.0);
            write_state(&file, &state)?;
        }
        // Runs left out after the last that was made are done with, too; not before a failed one.
        if let Some(last) = runs.last()
            && !last.made
            && !failures.iter().any(|(slug, _)| *slug == definition.slug)
        {
            state.done.insert(definition.slug.clone(), last.at.0);
            write_state(&file, &state)?;
        }
    }
    Ok(failures)
}

async fn make(config: &Config, definition: &Definition, due: UtcMicros, now: UtcMicros) -> Result<(), ScheduleError> {
    let folder = &place::folder(None, Some(config)).await?;
    let calendar = generate::calendar(definition, Some(config));
    let name = definition.period.as_deref().unwrap_or("last-month");
    let period = Period::named(name, due, calendar)?;
    let output = definition
        .output
        .clone()
        .unwrap_or_else(|| config.state.join("reports").join(&definition.slug));
    let requests = tokio::task::block_in_place(|| -> Result<Vec<_>, ScheduleError> {
        let lake = Lake::open(folder)?;
        let source = Source {
            lake: &lake,
            config: Some(config),
            now,
            made_at: None,
        };
        let mut requests = Vec::new();
        for report in generate::documents(definition, source, &period)? {
            let files = generate::write(&report, &definition.formats, &output, Some(&config.templates))?;
            requests.extend(dispatch::requests(config, definition, &report, &files, &period, due)?);
            tracing::info!(report = %report.stem, %due, "made in {}", output.display());
        }
        Ok(requests)
    })?;
    let outbox = Outbox::open(config)?;
    for request in &requests {
        match outbox.submit(request, now)? {
            Submitted::Waits(id) => tracing::info!(target = %request.target, %id, "delivery ordered"),
            Submitted::Delivered(id) => tracing::info!(target = %request.target, %id, "delivered before"),
        }
    }
    Ok(())
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

fn write_state(path: &Path, state: &State) -> Result<(), ScheduleError> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let new = path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(state)?)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| failed(path, error))
}
