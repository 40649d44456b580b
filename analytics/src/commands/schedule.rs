//! `mailqos-analytics schedule`: runs the report schedules until it is stopped.

use std::{
    collections::BTreeSet,
    io::IsTerminal as _,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Subcommand;
use mailqos_base::clock::{Clock, Steps};
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::Config;
use mailqos_delivery::outbox::{self, Outbox, Reason, Work};
use mailqos_model::{Micros, UtcMicros};
use mailqos_report::{
    archive::{Archive, Archived},
    definition::Definition,
};
use tokio::sync::RwLock;
use tokio_cron_scheduler::{Job, JobScheduler};

use super::{Failure, Global, print};
use crate::schedule::{self, Passes};

/// Options of `schedule`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the next five runs of each report, in its time zone and in UTC.
    List,
    /// Generate and deliver due reports once and exit, for system timers.
    RunDue {
        /// Current time, RFC 3339 [default: system clock].
        #[arg(long, value_name = "TIME")]
        now: Option<String>,
    },
}

/// Time to finish work in progress when the program is stopped, shorter than service managers wait
/// by default.
const FINISHING: Duration = Duration::from_secs(60);
/// Every ten seconds. Rules are read from the definitions each time, so that a new or changed one
/// applies immediately.
const TICK: &str = "*/10 * * * * *";

/// Runs the command.
///
/// # Errors
/// The configuration is wrong, or the state can't be stored.
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
                            format!("{text:?} is not a valid time"),
                            "use RFC 3339, such as 2026-11-01T07:00:00Z",
                        )
                    })?
                    .into(),
                None => UtcMicros::now(),
            };
            let well = pass(&Arc::new(config), now).await?;
            Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        None => serve(config, global).await,
    }
}

/// The last message about invalid definitions.
static SAID: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());

/// Returns the valid definitions, and reports the invalid ones on standard error.
fn definitions(
    config: &Config,
) -> Result<(Vec<Definition>, Vec<schedule::InvalidDefinition>), Failure> {
    let (definitions, wrong) = schedule::definitions(config)
        .map_err(|error| Failure::work(format!("{}: {error}", config.reports.display())))?;
    let said: String = wrong
        .iter()
        .map(|(_, problems)| problems.render(std::io::stderr().is_terminal()))
        .collect();
    // Printed only if it has changed, not every ten seconds.
    let mut last = SAID.lock().ignore_poison();
    if *last != said {
        eprint!("{said}");
        *last = said;
    }
    Ok((definitions, wrong))
}

/// Generates due reports, attempts pending deliveries and removes old files from targets. Returns
/// whether everything succeeded.
async fn pass(config: &Arc<Config>, now: UtcMicros) -> Result<bool, Failure> {
    let made = make(config, now).await?;
    let delivered = deliver(config, now).await?;
    Ok(made && delivered)
}

async fn make(config: &Arc<Config>, now: UtcMicros) -> Result<bool, Failure> {
    let (definitions, wrong) = definitions(config)?;
    // Valid definitions don't wait until notices about invalid ones are sent.
    let (told, made) = tokio::join!(
        schedule::report_invalid_definitions(config, &wrong, now),
        schedule::run_due(config, definitions, now)
    );
    let failures = made.map_err(Failure::work)?;
    told.map_err(Failure::work)?;
    for (slug, error) in &failures {
        tracing::error!(report = %slug, %error, "report not generated; retrying");
    }
    Ok(wrong.is_empty() && failures.is_empty())
}

async fn deliver(config: &Config, now: UtcMicros) -> Result<bool, Failure> {
    let began = Instant::now();
    let outbox = Outbox::open(config).map_err(Failure::work)?;
    let work = outbox::work_off(&outbox, config, now).await.map_err(Failure::work)?;
    say(&work);
    // Deliveries may have taken long: the time until the next notice counts from their end.
    let after = now + Micros::from(began.elapsed());
    outbox::notify(&outbox, config, after).await.map_err(Failure::work)?;
    for removal in outbox::sweep(&outbox, config, now).await.map_err(Failure::work)? {
        let what = match removal.reason {
            Reason::Removed => "old file removed",
            Reason::Gone => "old file was already gone",
            Reason::Changed => "old file was changed by another program and was kept",
            Reason::Unseen => "old file is not visible in the target",
        };
        tracing::info!(target_name = %removal.target, path = %removal.path(), "{what}");
    }
    tidy_archive(config, &outbox, after);
    Ok(work.is_well())
}

/// Time of the last look for old reports in the archive.
static TIDIED: std::sync::Mutex<Option<Instant>> = std::sync::Mutex::new(None);
/// Time between two looks.
const TIDY_EVERY: Duration = Duration::from_secs(3_600);

/// Removes old reports from the archive, at most once an hour. Reports that are still to be
/// delivered are kept.
fn tidy_archive(config: &Config, outbox: &Outbox, now: UtcMicros) {
    {
        let mut last = TIDIED.lock().ignore_poison();
        if last.is_some_and(|at| at.elapsed() < TIDY_EVERY) {
            return;
        }
        *last = Some(Instant::now());
    }
    let orders = outbox.waiting().and_then(|mut orders| {
        orders.extend(outbox.given_up()?);
        Ok(orders)
    });
    let orders = match orders {
        Ok(orders) => orders,
        Err(error) => {
            tracing::warn!(%error, "old reports not removed");
            return;
        }
    };
    let open: BTreeSet<(String, String)> =
        orders.into_iter().map(|order| (order.report, order.run)).collect();
    let is_needed = |report: &Archived| open.contains(&(report.report.clone(), report.run.clone()));
    match Archive::new(config).sweep(config.archive, now, is_needed) {
        Ok(removals) => {
            for removal in removals {
                let path = removal.path.display();
                if removal.is_removed {
                    tracing::info!(%path, "old report removed from the archive");
                } else {
                    tracing::info!(%path, "old report was changed or removed by another program");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "old reports not removed"),
    }
}

/// Logs the results of the delivery attempts, a line for each.
fn say(work: &Work) {
    for entry in &work.delivered {
        tracing::info!(target_name = %entry.target, id = %entry.id, places = %entry.places.join(", "), reply = %entry.reply, "delivered");
        for (recipient, reply) in &entry.refused {
            tracing::warn!(target_name = %entry.target, id = %entry.id, %recipient, %reply, "recipient rejected");
        }
    }
    for order in &work.failed {
        let reason = order.last_error.as_deref().unwrap_or("no reason given");
        let next = UtcMicros(order.next_attempt_at);
        let event =
            if order.stuck { "not delivered; fix the cause" } else { "not delivered; retrying" };
        tracing::warn!(
            target_name = %order.target, id = %order.id, attempts = order.attempts, %reason, next_attempt = %next,
            "{event}"
        );
    }
    for order in &work.dead {
        let reason = order.last_error.as_deref().unwrap_or("no reason given");
        tracing::error!(target_name = %order.target, id = %order.id, attempts = order.attempts, %reason, remedy = "fix the cause, then run mailqos-analytics outbox retry ID", "delivery given up");
    }
    for error in &work.trouble {
        tracing::error!(%error, "delivery not recorded and therefore not sent");
    }
}

/// Time of the last notice that reports can't be generated or delivered.
static TOLD: std::sync::Mutex<Option<std::time::Instant>> = std::sync::Mutex::new(None);

/// Handles a pass that failed as a whole, for example because the state folder is not writable: it
/// is logged, and a notice is sent once an hour.
async fn trouble(config: &Config, failure: &Failure) {
    let text = failure.text();
    tracing::error!(error = %text, "reports are neither generated nor delivered until this is fixed");
    {
        let mut told = TOLD.lock().ignore_poison();
        if told.is_some_and(|at| at.elapsed() < std::time::Duration::from_secs(3_600)) {
            return;
        }
        *told = Some(std::time::Instant::now());
    }
    let words =
        format!("Reports are neither generated nor delivered until this is fixed.\nCause: {text}");
    schedule::say(config, &text, "report schedules are failing", &words).await;
}

async fn serve(config: Config, global: &Global) -> Result<ExitCode, Failure> {
    warn(&config);
    let config = Arc::new(std::sync::RwLock::new(Arc::new(config)));
    let schedules = Schedules::start(&config).await?;
    run_until_stopped(&config, global, Some(schedules), || {}).await?;
    Ok(ExitCode::SUCCESS)
}

/// Report schedules that run in the background.
pub(super) struct Schedules {
    config: Shared,
    /// Each task in progress holds a shared lock; the end waits until all are released.
    working: Arc<RwLock<()>>,
    scheduler: JobScheduler,
    clock: Clock,
    steps: Steps,
    passes: Arc<Passes>,
    /// Sends heartbeats.
    beating: tokio::task::JoinHandle<()>,
}

/// The configuration, which is replaced when it is reloaded.
type Shared = Arc<std::sync::RwLock<Arc<Config>>>;

impl Schedules {
    /// Starts the schedules.
    ///
    /// # Errors
    /// The state can't be stored, or the folder of definitions can't be read.
    pub(super) async fn start(shared: &Shared) -> Result<Self, Failure> {
        let config = Arc::clone(&shared.read().ignore_poison());
        Outbox::open(&config).and_then(|outbox| outbox.check()).map_err(|error| {
            Failure::work_help(
                error,
                "set `state` in the configuration to a folder that this user can write",
            )
        })?;
        let (all, _) = definitions(&config)?;
        let scheduled = all.iter().filter(|definition| definition.schedule.is_some()).count();
        tracing::info!(reports = scheduled, folder = %config.reports.display(), "schedules started");
        let working = Arc::new(RwLock::new(()));
        let passes = Arc::new(Passes::default());
        let scheduler = ticking(shared, &working, &passes).await?;
        let beating = tokio::spawn(schedule::beat(Arc::clone(shared), Arc::clone(&passes)));
        let clock = Clock::resume(None);
        let steps = Steps::new(clock.now());
        let config = Arc::clone(shared);
        Ok(Self { config, working, scheduler, clock, steps, passes, beating })
    }

    /// Starts the scheduler again if the system clock was set: it waits for a moment of the clock
    /// as it was.
    async fn follow_clock(&mut self) -> Result<(), Failure> {
        if let Some(by) = self.steps.since_last(self.clock.now()) {
            tracing::warn!(%by, "system clock was set");
            let new = ticking(&self.config, &self.working, &self.passes).await?;
            let mut old = std::mem::replace(&mut self.scheduler, new);
            old.shutdown().await.map_err(Failure::work)?;
        }
        Ok(())
    }
}

/// Runs until SIGTERM or SIGINT, and then finishes what is in progress; SIGHUP reloads the
/// configuration. `stopping` is called when the first signal arrives.
///
/// # Errors
/// The scheduler fails.
pub(super) async fn run_until_stopped(
    config: &Shared,
    global: &Global,
    mut schedules: Option<Schedules>,
    stopping: impl FnOnce(),
) -> Result<(), Failure> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut hang_up = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
            // In parallel: a file that can't be read must not prevent the program from stopping.
            _ = hang_up.recv() => drop(tokio::spawn(reload(global.config_file(), Arc::clone(config)))),
            _ = look.tick() => if let Some(schedules) = &mut schedules {
                schedules.follow_clock().await?;
            },
        }
    }
    stopping();
    let Some(mut schedules) = schedules else {
        return Ok(());
    };
    tracing::info!("stopping; reports and deliveries in progress are finished first");
    schedules.beating.abort();
    schedules.scheduler.shutdown().await.map_err(Failure::work)?;
    tokio::select! {
        _ = schedules.working.write() => {}
        _ = terminate.recv() => tracing::warn!("second stop signal; unfinished work resumes at the next start"),
        _ = tokio::signal::ctrl_c() => tracing::warn!("second stop signal; unfinished work resumes at the next start"),
        () = tokio::time::sleep(FINISHING) => {
            tracing::warn!("work in progress did not finish in time; it resumes at the next start");
        }
    }
    Ok(())
}

/// Generates and delivers due reports every ten seconds.
async fn ticking(
    config: &Arc<std::sync::RwLock<Arc<Config>>>,
    working: &Arc<RwLock<()>>,
    passes: &Arc<Passes>,
) -> Result<JobScheduler, Failure> {
    let scheduler = JobScheduler::new().await.map_err(Failure::work)?;
    let (job_config, job_working) = (Arc::clone(config), Arc::clone(working));
    let job_passes = Arc::clone(passes);
    let job = Job::new_async(TICK, move |_, _| {
        let (config, working) = (Arc::clone(&job_config), Arc::clone(&job_working));
        let (of_reports, of_deliveries) = (Arc::clone(&job_passes), Arc::clone(&job_passes));
        Box::pin(async move {
            // Passes may overlap: a report or target that one of them is processing is skipped by
            // the others.
            let now = UtcMicros::now();
            let config = Arc::clone(&config.read().ignore_poison());
            let (reports, guard) = (Arc::clone(&config), Arc::clone(&working).read_owned().await);
            tokio::spawn(async move {
                match make(&reports, now).await {
                    Ok(true) => of_reports.generated(None),
                    Ok(false) => {
                        let problem = "a definition is invalid or a report could not be generated";
                        of_reports.generated(Some(problem.to_owned()));
                    }
                    Err(failure) => {
                        of_reports.generated(Some(failure.text()));
                        trouble(&reports, &failure).await;
                    }
                }
                drop(guard);
            });
            let guard = working.read_owned().await;
            tokio::spawn(async move {
                match deliver(&config, now).await {
                    // A delivery that is retried is reported by the action list.
                    Ok(_) => of_deliveries.delivered(None),
                    Err(failure) => {
                        of_deliveries.delivered(Some(failure.text()));
                        trouble(&config, &failure).await;
                    }
                }
                drop(guard);
            });
        })
    })
    .map_err(Failure::work)?;
    scheduler.add(job).await.map_err(Failure::work)?;
    scheduler.start().await.map_err(Failure::work)?;
    Ok(scheduler)
}

/// Reloads the configuration; an invalid one is rejected as a whole.
async fn reload(file: PathBuf, config: Arc<std::sync::RwLock<Arc<Config>>>) {
    let loaded = tokio::task::spawn_blocking(move || mailqos_config::load(&file)).await;
    match loaded {
        Err(error) => tracing::error!(%error, "configuration not reloaded"),
        Ok(Ok(new)) => {
            warn(&new);
            *config.write().ignore_poison() = Arc::new(new);
            tracing::info!("configuration reloaded");
        }
        Ok(Err(problems)) => tracing::error!(
            "configuration rejected, keeping the previous one:\n{}",
            problems.render(false)
        ),
    }
}

/// Logs the configuration's warnings, and whether no one would be notified of failures.
pub(super) fn warn(config: &Config) {
    for warning in config.warnings.iter() {
        tracing::warn!(problem = %warning, remedy = warning.help.as_deref(), "configuration warning");
    }
    if config.delivery.action_list.is_none() && !config.targets.is_empty() {
        tracing::warn!("no one is notified of failures; set action_list in [delivery]");
    }
}

fn list(config: &Config) -> Result<ExitCode, Failure> {
    let (definitions, wrong) = definitions(config)?;
    let mut text = String::new();
    for definition in &definitions {
        let Some(schedule) = &definition.schedule else {
            continue;
        };
        let zone = definition.calendar(Some(config)).timezone;
        text.push_str(&format!("{}  {}\n", definition.slug, definition.template.title));
        let mut after = UtcMicros::now();
        for number in 0..5 {
            let Some(at) = schedule.rule.next(after, &zone) else {
                if number == 0 {
                    text.push_str("  no more runs: the years of its cron expression have passed\n");
                }
                break;
            };
            let local = at.timestamp().to_zoned_datetime(zone.clone());
            text.push_str(&format!("  {local}  {at}\n"));
            after = at;
        }
    }
    if text.is_empty() {
        let folder = config.reports.display();
        text = match (definitions.len(), wrong.len()) {
            (0, 0) => format!("{folder} contains no definitions\n"),
            (_, 0) => format!("no definition in {folder} contains [schedule]\n"),
            (_, 1) => format!(
                "1 definition in {folder} can't be read, and no other contains [schedule]\n"
            ),
            (_, count) => format!(
                "{count} definitions in {folder} can't be read, and no other contains \
                [schedule]\n"
            ),
        };
    }
    print(text)?;
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
