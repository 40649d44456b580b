//! Computes figures outside this process: a question is divided into shards by monitor, and each is
//! answered by a worker, which reads the lake itself. A monitor's figures depend only on its own
//! rows, so the answers only need to be put in order, and have the same digits as those of this
//! process.

mod collect;
mod grouping;
mod groups;
mod outage_rows;
mod plan;
mod processes;
mod shard;
#[cfg(feature = "spark")]
mod spark;
mod sparkline;
mod worker;

use std::{path::PathBuf, time::Duration};

use mailqos_config::{Config, EngineKind, EngineOptions, ServiceLevel};
use mailqos_figures::{
    Period,
    service_level::{Evidence, Task},
};
use mailqos_lake_tables::{Lake, SeriesQuery};
use mailqos_model::UtcMicros;

use self::{
    collect::{Answer, Runner},
    plan::MAX_SHARDS,
    processes::Processes,
    shard::{Question, Shard},
};
pub(super) use self::{
    grouping::Grouping,
    groups::Seen,
    outage_rows::of as outage_rows,
    shard::{Item, Work},
    sparkline::sparkline,
    worker::run as work,
};
use super::{Failure, progress, source::Source};

/// Options of commands that can be computed elsewhere.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct EngineArgs {
    /// Compute in this process (local), in several processes of this machine (processes), or on a
    /// cluster of Apache Spark (spark) [default: from the configuration, else local].
    #[arg(long, value_name = "ENGINE", value_parser = kind)]
    engine: Option<EngineKind>,

    /// Number of parts that the monitors are divided into [default: four per worker, if the files
    /// allow it].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_SHARDS as i64))]
    shards: Option<u32>,

    /// Address of the Spark Connect server, such as sc://spark.example.com:15002/;use_ssl=true.
    #[arg(long, value_name = "ADDRESS")]
    #[cfg_attr(not(feature = "spark"), allow(dead_code))]
    connect: Option<String>,
}

fn kind(text: &str) -> Result<EngineKind, String> {
    let known: Vec<&str> = EngineKind::WORDS.iter().map(|(word, _)| *word).collect();
    text.parse().map_err(|_| format!("use one of: {}", known.join(", ")))
}

/// An engine outside this process.
pub(super) struct Engine {
    runner: Box<dyn Runner>,
    shards: Option<usize>,
}

/// The answers about all series, in the order of sites and monitors.
#[derive(Debug)]
pub(super) struct Found {
    /// The answers to all shards, each with the site.
    answers: Vec<(String, Answer)>,
    /// Whether some tests are not of kind `mail-qos`.
    pub(super) kinds: bool,
}

impl EngineArgs {
    /// Returns the engine; `None` for this process.
    ///
    /// # Errors
    /// The engine can't be used.
    pub(super) fn engine(
        &self,
        options: Option<&EngineOptions>,
    ) -> Result<Option<Engine>, Failure> {
        let none = EngineOptions::default();
        let options = options.unwrap_or(&none);
        let runner: Box<dyn Runner> = match self.engine.unwrap_or(options.kind) {
            EngineKind::Local => return Ok(None),
            EngineKind::Processes => {
                let timeout = u64::try_from(options.timeout.0).unwrap_or_default();
                let processes =
                    Processes::new(options.worker.clone(), Duration::from_micros(timeout));
                Box::new(processes.map_err(Failure::work)?)
            }
            #[cfg(feature = "spark")]
            EngineKind::Spark => Box::new(spark::Spark::connect(self.connect.as_deref(), options)?),
            #[cfg(not(feature = "spark"))]
            EngineKind::Spark => {
                return Err(Failure::usage(
                    "this program was built without Apache Spark",
                    "build it with: cargo build --release --package mailqos-analytics --features spark",
                ));
            }
        };
        let shards = self.shards.or(options.shards).map(|shards| shards as usize);
        Ok(Some(Engine { runner, shards }))
    }

    /// Returns the word of the engine that the command line names, unless it is this process.
    pub(super) fn elsewhere(&self) -> Option<&'static str> {
        self.engine.filter(|kind| *kind != EngineKind::Local).map(EngineKind::as_str)
    }
}

impl Engine {
    /// Answers a question about the selected monitors, asked at `now`.
    ///
    /// # Errors
    /// A worker failed, or its answer is incomplete; the lake can't be read.
    pub(super) fn ask(
        &self,
        source: &Source,
        (query, period): (&SeriesQuery, &Period),
        now: UtcMicros,
        work: Work,
    ) -> Result<Found, Failure> {
        let question = self.question(source, (query, period), now, work)?;
        let mut shards = self.plan(source, query, &question)?;
        let answers = self.run(&mut shards, &source.lake)?;
        let kinds = answers.iter().any(|answer| answer.kinds);
        let sites = shards.into_iter().map(|shard| shard.site);
        Ok(Found { answers: sites.zip(answers).collect(), kinds })
    }

    /// Returns the evidence for and against a service level.
    ///
    /// # Errors
    /// A worker failed, or its answer is incomplete; the lake can't be read.
    pub(super) fn evidence(
        &self,
        source: &Source,
        (config, (id, level)): (&Config, (&str, &ServiceLevel)),
        (task, query): (&Task<'_>, &SeriesQuery),
        (to, until): (UtcMicros, UtcMicros),
    ) -> Result<Vec<Evidence>, Failure> {
        let work = Work::Level {
            id: id.to_owned(),
            digest: shard::level_digest(config, level),
            to,
            until,
        };
        let found = self.ask(source, (query, task.passed()), until, work)?;
        let evidence = found.items(&source.lake).filter_map(|item| match item {
            Item::Evidence(evidence) => Some(*evidence),
            _ => None,
        });
        Ok(evidence.collect())
    }

    /// Returns the question about the samples of a query.
    fn question(
        &self,
        source: &Source,
        (query, period): (&SeriesQuery, &Period),
        now: UtcMicros,
        work: Work,
    ) -> Result<Question, Failure> {
        if source.lake.skips() {
            // Damaged footers are then known before the first figure, as they are without workers.
            source.lake.has_kinds(query)?;
        }
        Question::new(query, period, now, work)
    }

    /// Divides a question.
    fn plan(
        &self,
        source: &Source,
        query: &SeriesQuery,
        question: &Question,
    ) -> Result<Vec<Shard>, Failure> {
        let size = plan::Size {
            asked: self.shards,
            workers: self.runner.count(),
            threads: self.runner.threads(),
        };
        plan::shards(source, query, question, size)
    }

    /// Runs workers for all shards, and returns their answers.
    fn run(&self, shards: &mut [Shard], lake: &Lake) -> Result<Vec<Answer>, Failure> {
        let bar = progress::steps(shards.len());
        bar.set_message("parts");
        let answers = collect::all(shards, &*self.runner, lake, &|| bar.inc(1))?;
        bar.finish_and_clear();
        Ok(answers)
    }
}

/// Records what a worker has found out about the files.
fn note(lake: &Lake, answer: &mut Answer) {
    for (path, reason) in std::mem::take(&mut answer.skipped) {
        lake.note_skipped(lake.outer_path(&path), reason);
    }
    let duplicates = std::mem::take(&mut answer.duplicates).into_iter();
    let outer =
        |(path, monitor, count): (PathBuf, String, usize)| (lake.outer_path(&path), monitor, count);
    lake.note_doubles(duplicates.map(outer).collect());
}

impl Found {
    /// Returns all items in order. What workers found out about the files of a site is recorded
    /// before its first item, as it is without workers.
    pub(super) fn items(self, lake: &Lake) -> impl Iterator<Item = Item> {
        let mut answers = self.answers.into_iter().peekable();
        std::iter::from_fn(move || {
            let (site, first) = answers.next()?;
            let mut of_site = vec![first];
            while let Some((_, answer)) = answers.next_if(|(next, _)| *next == site) {
                of_site.push(answer);
            }
            of_site.iter_mut().for_each(|answer| note(lake, answer));
            Some(of_site.into_iter().flat_map(|answer| answer.items))
        })
        .flatten()
    }
}
