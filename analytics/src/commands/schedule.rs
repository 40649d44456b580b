//! `mailqos-analytics schedule`: runs the report schedules until told to stop.

use std::{io::IsTerminal as _, process::ExitCode, sync::Arc};

use clap::Subcommand;
use mailqos_core::{config::Config, model::UtcMicros};
use tokio::sync::RwLock;
use tokio_cron_scheduler::{Job, JobScheduler};

use super::{Failure, Global, deliver::tell, print};
use crate::{
    delivery::outbox::Outbox,
    report::{definition::Definition, generate},
    schedule,
};

/// Options of `schedule`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The next five runs of each report, in its zone and in UTC.
    List,
    /// One pass: makes and delivers what is due, and ends. For timers of the system.
    RunDue {
        /// The present, RFC 3339 [default: that of the clock].
        #[arg(long, value_name = "TIME")]
        now: Option<String>,
    },
}

/// Every ten seconds: calendar rules are looked up in the definitions, so that a new or changed one counts at once.
const TICK: &str = "*/10 * * * * *";

/// Runs the command.
///
/// # Errors
/// The configuration is wrong, or nothing can be remembered.
pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.load()?;
    match args.action {
        Some(Action::List) => list(&config),
        Some(Action::RunDue { now }) => {
            let now = match now {
                Some(text) => text
                    .parse::<jiff::Timestamp>()
                    .map_err(|_| {
                        Failure::usage(
                            format!("{text:?} is no moment"),
                            "write one such as 2026-11-01T07:00:00Z",
                        )
                    })?
                    .into(),
                None => UtcMicros::now(),
            };
            let well = pass(&Arc::new(config), now).await?;
            Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        None => serve(config).await,
    }
}

/// What was said last about wrong definitions.
static SAID: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());

/// The definitions that are right; those that are wrong are named on standard error.
fn definitions(config: &Config) -> Result<(Vec<Definition>, bool), Failure> {
    let (definitions, wrong) = schedule::definitions(config)
        .map_err(|error| Failure::work(format!("{}: {error}", config.reports.display())))?;
    let said: String = wrong
        .iter()
        .map(|(_, problems)| problems.render(std::io::stderr().is_terminal()))
        .collect();
    // Said when it is new, not every ten seconds.
    let mut last = SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if *last != said {
        eprint!("{said}");
        *last = said;
    }
    Ok((definitions, wrong.is_empty()))
}

/// Makes what is due, works the outbox off, and keeps the targets tidy; tells whether all went well.
async fn pass(config: &Arc<Config>, now: UtcMicros) -> Result<bool, Failure> {
    let made = make(config, now).await?;
    let delivered = deliver(config, now).await?;
    Ok(made && delivered)
}

async fn make(config: &Arc<Config>, now: UtcMicros) -> Result<bool, Failure> {
    let (definitions, well) = definitions(config)?;
    let failures = schedule::run_due(config, definitions, now)
        .await
        .map_err(Failure::work)?;
    for (slug, error) in &failures {
        tracing::error!(report = %slug, "due, and not made: {error}; it is tried again");
    }
    Ok(well && failures.is_empty())
}

async fn deliver(config: &Config, now: UtcMicros) -> Result<bool, Failure> {
    let outbox = Outbox::open(config).map_err(Failure::work)?;
    let work = outbox.work_off(config, now).await.map_err(Failure::work)?;
    tell(&work);
    outbox.tell(config, now).await.map_err(Failure::work)?;
    for removal in outbox.sweep(config, now).await.map_err(Failure::work)? {
        tracing::info!(target = %removal.target, "{}/{} is no longer kept", removal.folder, removal.name);
    }
    Ok(work.failed.is_empty() && work.dead.is_empty())
}

async fn serve(config: Config) -> Result<ExitCode, Failure> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let (all, _) = definitions(&config)?;
    let scheduled = all.iter().filter(|definition| definition.schedule.is_some()).count();
    tracing::info!(reports = scheduled, folder = %config.reports.display(), "schedules run");
    let config = Arc::new(config);
    // Whoever works holds it with others; the end waits until nobody does.
    let working = Arc::new(RwLock::new(()));
    let mut scheduler = JobScheduler::new().await.map_err(Failure::work)?;
    let (job_config, job_working) = (Arc::clone(&config), Arc::clone(&working));
    let job = Job::new_async(TICK, move |_, _| {
        let (config, working) = (Arc::clone(&job_config), Arc::clone(&job_working));
        Box::pin(async move {
            // Passes may overlap: what one is at, each report and each target, is left alone by the others.
            let now = UtcMicros::now();
            let (reports, guard) = (Arc::clone(&config), Arc::clone(&working).read_owned().await);
            tokio::spawn(async move {
                if let Err(failure) = make(&reports, now).await {
                    tracing::error!("{failure:?}");
                }
                drop(guard);
            });
            let guard = working.read_owned().await;
            tokio::spawn(async move {
                if let Err(failure) = deliver(&config, now).await {
                    tracing::error!("{failure:?}");
                }
                drop(guard);
            });
        })
    })
    .map_err(Failure::work)?;
    scheduler.add(job).await.map_err(Failure::work)?;
    scheduler.start().await.map_err(Failure::work)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping: what is being made or delivered is finished first");
    scheduler.shutdown().await.map_err(Failure::work)?;
    let _ = working.write().await;
    Ok(ExitCode::SUCCESS)
}

fn list(config: &Config) -> Result<ExitCode, Failure> {
    let (definitions, well) = definitions(config)?;
    let mut text = String::new();
    for definition in &definitions {
        let Some(schedule) = &definition.schedule else { continue };
        let zone = generate::calendar(definition, Some(config)).timezone;
        text.push_str(&format!("{}  {}\n", definition.slug, definition.template.title));
        let mut after = UtcMicros::now();
        for _ in 0..5 {
            let Some(at) = schedule.rule.next(after, &zone) else {
                break;
            };
            let local = at.timestamp().to_zoned_datetime(zone.clone());
            text.push_str(&format!("  {local}  {at}\n"));
            after = at;
        }
    }
    if text.is_empty() {
        text = format!("no definition in {} has a [schedule]\n", config.reports.display());
    }
    print(text)?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
