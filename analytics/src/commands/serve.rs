//! `mailqos-analytics serve`: runs the web console and the report schedules until told to stop.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, ConsoleOptions};
use mailqos_console::{Console, ConsoleError, check_listen, reset_link};

use super::{
    Failure, Global, print,
    schedule::{Schedules, run_until_stopped, warn},
};

/// Time between two attempts to listen on an address that another program uses.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Run the web console and the report schedules until SIGTERM or SIGINT.
///
/// The first start prints a one-time link for setting the administrator's password. SIGHUP reloads
/// the configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address and port to listen on [default: listen in [console], or 127.0.0.1:8025].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// PEM file with the certificate chain, for TLS.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,

    /// PEM file with the private key of the certificate.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,

    /// Allow connections without TLS from other machines.
    #[arg(long)]
    allow_plaintext: bool,

    /// Run only the console, without report schedules.
    #[arg(long)]
    no_schedule: bool,

    /// Print a one-time link that sets the password of an administrator, and exit; the running
    /// console accepts it. An unknown name is added.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "admin")]
    reset_admin: Option<String>,
}

impl Args {
    /// Returns the options of the configuration, overridden by those of the command line.
    fn options(&self, config: &Config) -> ConsoleOptions {
        let mut options = config.console.clone();
        if let Some(listen) = self.listen {
            options.listen = listen;
        }
        if self.certificate.is_some() {
            (options.certificate, options.key) = (self.certificate.clone(), self.key.clone());
        }
        options.allow_plaintext |= self.allow_plaintext;
        options
    }
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong, or the console can't listen.
pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.load()?;
    let options = args.options(&config);
    if let Some(name) = &args.reset_admin {
        let path = reset_link(&config, Some(name)).map_err(Failure::work)?;
        let scheme = if options.certificate.is_some() { "https" } else { "http" };
        let url = options.url.unwrap_or_else(|| format!("{scheme}://{}", options.listen));
        print(format!("{url}{path}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    check_listen(&options).map_err(failure)?;
    warn(&config);
    let config = Arc::new(RwLock::new(Arc::new(config)));
    let running = Arc::new(Mutex::new(None));
    // Reports must not wait for a console whose address another program uses.
    let may_wait = !args.no_schedule && args.listen.is_none();
    let waiting = match Console::start(Arc::clone(&config), options.clone()).await {
        Ok(console) => {
            announce(&console);
            *running.lock().ignore_poison() = Some(console);
            None
        }
        Err(error @ ConsoleError::Listen { .. }) if may_wait => {
            tracing::warn!(%error, "the console is not available; report schedules run, and it tries again");
            let (config, running) = (Arc::clone(&config), Arc::clone(&running));
            Some(tokio::spawn(listen_again(config, options, running)))
        }
        Err(error) => return Err(failure(error)),
    };
    let schedules = if args.no_schedule { None } else { Some(Schedules::start(&config).await?) };
    let mut stopping = None;
    run_until_stopped(&config, global, schedules, || {
        if let Some(waiting) = waiting {
            waiting.abort();
        }
        let console = running.lock().ignore_poison().take();
        stopping = console.map(|console| tokio::spawn(console.stop()));
    })
    .await?;
    if let Some(stopping) = stopping {
        stopping.await.map_err(Failure::work)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reports where the console is.
fn announce(console: &Console) {
    tracing::info!(url = console.url(), address = %console.address(), "console started");
    if let Some(link) = console.welcome() {
        // To standard error, like everything that is not data; a journal has it, too.
        eprintln!("Set the administrator's password with this one-time link:\n{link}");
    }
}

/// Starts the console once its address is free.
async fn listen_again(
    config: Arc<RwLock<Arc<Config>>>,
    options: ConsoleOptions,
    running: Arc<Mutex<Option<Console>>>,
) {
    loop {
        tokio::time::sleep(LISTEN_AGAIN).await;
        match Console::start(Arc::clone(&config), options.clone()).await {
            Ok(console) => {
                announce(&console);
                *running.lock().ignore_poison() = Some(console);
                return;
            }
            Err(ConsoleError::Listen { .. }) => {}
            Err(error) => {
                tracing::error!(%error, "the console is not available; restart the program");
                return;
            }
        }
    }
}

/// Explains why the console can't start.
fn failure(error: ConsoleError) -> Failure {
    match error {
        ConsoleError::Plaintext(_) => Failure::usage(
            error,
            "set certificate and key in [console], or, behind a reverse proxy with TLS on another \
             machine, allow_plaintext = true",
        ),
        ConsoleError::Listen { .. } => {
            Failure::work_help(error, "choose another address with --listen or in [console]")
        }
        ConsoleError::State { .. } => Failure::work_help(
            error,
            "set `state` in the configuration to a folder that this user can write",
        ),
        error => Failure::work(error),
    }
}
