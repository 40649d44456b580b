//! The hidden command `worker`: reads shards from standard input, one JSON object per line, and
//! writes lines of JSON to standard output.
//!
//! Engines start it. It ends with an error only for reasons that another attempt may not meet, such
//! as an unreachable store: a scheduler then repeats the task. What another attempt can't repair,
//! such as a corrupt file, is part of the output.

use std::{
    io::{self, BufRead, Read as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use mailqos_config::Config;
use mailqos_figures::{Period, service_level::Task, stats::FiguresQuery};
use mailqos_lake_tables::{Lake, LakeError, Series, SeriesQuery, parallel};

use super::{
    grouping::Grouping,
    groups, outage_rows,
    shard::{
        Asked, Content, End, Item, Line, PROTOCOL, Question, Refusal, Shard, Work, level_digest,
    },
    sparkline::sparkline,
};
use crate::commands::{Failure, lake};

/// Longest line of the input, in bytes: a shard with all its monitors.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// Runs the command.
///
/// # Errors
/// A shard can't be answered, but another attempt may succeed.
pub(in crate::commands) fn run() -> Result<ExitCode, Failure> {
    let (input, mut out) = (io::stdin().lock(), io::BufWriter::new(io::stdout().lock()));
    answer_all(input, &mut out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn answer_all(mut input: impl BufRead, out: &mut impl Write) -> Result<(), Failure> {
    loop {
        let mut line = Vec::new();
        (&mut input).take(MAX_LINE + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.len() as u64 > MAX_LINE {
            return Err(Failure::work(format!("a shard has more than {} MiB", MAX_LINE >> 20)));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        // A shard that is not understood has no number, so it can only be an error.
        let shard: Shard = serde_json::from_slice(&line).map_err(|error| {
            Failure::work_help(
                format!("the shard can't be read: {error}"),
                "mailqos-analytics must have the same version everywhere",
            )
        })?;
        let number = shard.shard;
        let mut write = |content: Content| -> Result<(), Failure> {
            serde_json::to_writer(&mut *out, &Line { shard: number, content })
                .map_err(io::Error::from)?;
            out.write_all(b"\n")?;
            Ok(())
        };
        match answer(&shard, &mut write) {
            Ok(()) => {}
            Err(Unanswered::Refusal(refusal)) => write(Content::Failed(refusal))?,
            Err(Unanswered::Failure(failure)) => return Err(failure),
        }
    }
}

/// Why a shard was not answered.
enum Unanswered {
    /// Another attempt has the same result.
    Refusal(Refusal),
    /// Another attempt may succeed.
    Failure(Failure),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        match failure {
            // A wrong configuration or location stays wrong.
            Failure::Usage(_) | Failure::Configuration(_) => {
                Self::Refusal(Refusal::Other(failure.text()))
            }
            other => Self::Failure(other),
        }
    }
}

/// Returns why a lake can't be read; `inner` makes a path a path within the lake.
fn unread(error: LakeError, inner: impl FnOnce(PathBuf) -> PathBuf) -> Unanswered {
    match error {
        LakeError::Corrupt { path, reason } => {
            Unanswered::Refusal(Refusal::Corrupt(inner(path), reason))
        }
        LakeError::Unsupported { path, reason } => {
            Unanswered::Refusal(Refusal::Unsupported(inner(path), reason))
        }
        error => Unanswered::Failure(error.into()),
    }
}

/// Why the series of a shard were not all answered.
enum Interrupted {
    Lake(LakeError),
    Failure(Failure),
}

impl From<LakeError> for Interrupted {
    fn from(error: LakeError) -> Self {
        Self::Lake(error)
    }
}

/// What is computed for each series, prepared once per shard.
enum Prepared<'a> {
    Figures(FiguresQuery, bool),
    Outages(Period, bool),
    Level(Task<'a>),
    Groups(FiguresQuery, Grouping),
    Counts(FiguresQuery, Grouping, Vec<Asked>),
}

impl<'a> Prepared<'a> {
    fn of(shard: &Shard, config: Option<&'a Config>) -> Result<Self, String> {
        let question = &shard.question;
        Ok(match &question.work {
            Work::Figures { figures, line } => Self::Figures(figures.query(question)?, *line),
            Work::Outages { long } => {
                let period = question.period()?;
                Self::Outages(period.until(question.now).unwrap_or(period), *long)
            }
            Work::Level { id, digest, to, until } => {
                let level = config
                    .and_then(|config| Some((config, config.service_levels.get(id.as_str())?)));
                let (config, level) = level.filter(|(config, level)| level_digest(config, level) == *digest).ok_or_else(|| {
                    format!("its configuration defines the service level {id} differently; use the same file everywhere")
                })?;
                let whole = Question { to: *to, ..question.clone() }.period()?;
                Self::Level(Task::new(config, level, &whole, *until))
            }
            Work::Groups { figures, groups } => {
                Self::Groups(figures.query(question)?, groups.clone())
            }
            Work::Counts { figures, groups, asked } => {
                Self::Counts(figures.query(question)?, groups.clone(), asked.clone())
            }
        })
    }

    /// Computes all items and passes them to `take`.
    fn items(
        &self,
        lake: &Lake,
        query: &SeriesQuery,
        mut take: impl FnMut(Item) -> Result<(), Interrupted>,
    ) -> Result<(), Interrupted> {
        let all = match self {
            Self::Figures(question, line) => {
                let item = |series: &mut Series| Item::Figures {
                    rows: question.rows(series),
                    line: line.then(|| sparkline(series, question)),
                };
                return lake.for_each(query, item, take);
            }
            Self::Outages(period, long) => {
                let item = |series: &mut Series| Item::Outages {
                    empty: series.inside.is_empty(),
                    rows: outage_rows::of(series, period, *long),
                };
                return lake.for_each(query, item, take);
            }
            Self::Level(task) => {
                let item = |series: &mut Series| Item::Evidence(Box::new(task.evidence(series)));
                return lake.for_each(query, item, take);
            }
            Self::Groups(question, groups) => groups::worker_groups(lake, query, question, groups)?,
            Self::Counts(question, groups, asked) => {
                groups::worker_counts(lake, query, (question, groups), asked)?
            }
        };
        all.into_iter().try_for_each(&mut take)
    }
}

fn answer(
    shard: &Shard,
    write: &mut impl FnMut(Content) -> Result<(), Failure>,
) -> Result<(), Unanswered> {
    let other = |reason: String| Unanswered::Refusal(Refusal::Other(reason));
    if (shard.protocol, shard.program.as_str()) != (PROTOCOL, env!("CARGO_PKG_VERSION")) {
        return Err(other(format!(
            "its program has version {} and the client {}; install the same version everywhere",
            env!("CARGO_PKG_VERSION"),
            shard.program
        )));
    }
    parallel::limit(shard.threads.max(1));
    let config: Option<Config> = match &shard.config {
        Some(file) => Some(mailqos_config::load(file).map_err(Failure::Configuration)?),
        None => None,
    };
    let lake = lake(Some(Path::new(&shard.data)), config.as_ref())?;
    let left_out = shard.left_out.iter();
    let left_out = left_out.map(|(path, reason)| (lake.outer_path(path), reason.clone())).collect();
    let lake = lake.skip_corrupt(shard.skip_corrupt).without(&left_out);
    let prepared = Prepared::of(shard, config.as_ref()).map_err(other)?;
    let query = shard.query(config.as_ref()).map_err(other)?;
    match series(&lake, &query, &prepared, write) {
        Ok(()) => Ok(()),
        Err(Interrupted::Failure(failure)) => Err(Unanswered::Failure(failure)),
        Err(Interrupted::Lake(error)) => {
            Err(unread(error, |path| lake.inner_path(&path).to_owned()))
        }
    }
}

/// Answers about all series, and ends the shard.
fn series(
    lake: &Lake,
    query: &SeriesQuery,
    prepared: &Prepared<'_>,
    write: &mut impl FnMut(Content) -> Result<(), Failure>,
) -> Result<(), Interrupted> {
    let before = lake.digest(query)?;
    let kinds = lake.has_kinds(query)?;
    let mut items = 0;
    let each = |item: Item| {
        items += 1;
        write(Content::Item(item)).map_err(Interrupted::Failure)
    };
    prepared.items(lake, query, each)?;
    let mut more = |content: Content| write(content).map_err(Interrupted::Failure);
    for (path, reason) in lake.skipped() {
        more(Content::Skipped(lake.inner_path(&path).to_owned(), reason))?;
    }
    for (path, monitor, count) in lake.double_rows() {
        let path = lake.inner_path(&path).to_owned();
        more(Content::Duplicate(path, monitor.to_string(), count))?;
    }
    // Whatever was read had this version if it has it now and had it before. A store reports
    // versions itself.
    let after = lake.digest(query)?;
    let files = Some(after).filter(|after| *after == before);
    more(Content::End(End { items, kinds, files }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_that_is_not_a_shard_is_refused() {
        for input in ["{}\n", "x", "{\"shard\":1}\n", "\u{0}"] {
            let mut out = Vec::new();
            assert!(answer_all(input.as_bytes(), &mut out).is_err(), "{input}");
            assert!(out.is_empty());
        }
        let mut out = Vec::new();
        answer_all("\n  \n".as_bytes(), &mut out).expect("nothing to do");
        assert!(out.is_empty());
    }
}
