//! The console as a whole: starts, keeps the board up to date, and stops.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{ConsoleOptions, SingleSignOn};
use mailqos_model::UtcMicros;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    access::{
        forms::FormSecret, links, sessions::Sessions, shared::SharedLinks, throttle::Throttle,
        users::Users,
    },
    app::{App, SharedConfig},
    audit::Audit,
    board::{Keeper, shown::Views},
    figures::Figures,
    http::{
        listener::{self, Service},
        tls::{CertificateError, Certificates},
    },
    render::Pages,
    reports::jobs::Jobs,
    routes,
    sign_on::provider::Provider,
};

/// How often the board is brought up to date.
const REFRESH: Duration = Duration::from_secs(1);
/// How often changes are sent to the probe.
const SEND_EVERY: Duration = Duration::from_secs(5);
/// How long to wait when no probe takes them: on some machines, none ever runs.
const SEND_AGAIN: Duration = Duration::from_secs(60);
/// How often the certificate is checked for changes.
const CERTIFICATE_EVERY: u32 = 10;
/// How often sessions are saved, so that a crash does not end them.
const SESSIONS_EVERY: u32 = 300;

/// Reasons why the console can't start.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Other machines could connect without TLS.
    #[error("{0} can be reached by other machines, and passwords would be sent in plaintext")]
    Plaintext(SocketAddr),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The certificate can't be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The state folder can't be used.
    #[error("{path}: {source}", path = path.display())]
    State {
        /// Path of the folder or file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Users can't be read, or the templates are invalid.
    #[error("{0}")]
    Other(String),
}

/// Checks that passwords never travel in plaintext to other machines.
///
/// # Errors
/// They would.
pub fn check_listen(options: &ConsoleOptions) -> Result<(), ConsoleError> {
    let is_safe = options.certificate.is_some()
        || options.listen.ip().to_canonical().is_loopback()
        || options.allow_plaintext;
    if is_safe { Ok(()) } else { Err(ConsoleError::Plaintext(options.listen)) }
}

/// A running console.
#[derive(Debug)]
pub struct Console {
    address: SocketAddr,
    url: String,
    welcome: Option<String>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Console {
    /// Starts the console: listens, and keeps the board up to date.
    ///
    /// # Errors
    /// It can't listen, or its state can't be used.
    pub async fn start(
        config: SharedConfig,
        options: ConsoleOptions,
    ) -> Result<Self, ConsoleError> {
        check_listen(&options)?;
        let certificates = match (&options.certificate, &options.key) {
            (Some(certificate), Some(key)) => Some(Arc::new(Certificates::open(certificate, key)?)),
            _ => None,
        };
        let address = options.listen;
        let failed = |source| ConsoleError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let options = ConsoleOptions { listen: address, ..options };
        let app = Arc::new(open(config, options)?);
        let url = app.options.url.clone().unwrap_or_else(|| {
            format!("{}://{address}", if app.is_tls() { "https" } else { "http" })
        });
        let welcome = if app.users.has_administrator() {
            None
        } else {
            let link = links::reset_link(&app.config(), None);
            Some(link.map_err(|error| ConsoleError::Other(error.to_string()))?)
        };
        let (stop, stopped) = watch::channel(false);
        let proxies = app.options.trusted_proxies.clone().into();
        let router = routes::router(Arc::clone(&app));
        let service = Service { router, certificates: certificates.clone(), proxies };
        let first = Arc::clone(&app);
        let _ = tokio::task::spawn_blocking(move || first.keeper.refresh(UtcMicros::now())).await;
        let tasks = vec![
            tokio::spawn(listener::serve(listener, service, stopped.clone())),
            tokio::spawn(send_changes(Arc::clone(&app), stopped.clone())),
            tokio::spawn(keep(app, certificates, stopped)),
        ];
        Ok(Self { address, url, welcome, stop, tasks })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address at which people open it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the one-time link for the first administrator, if there is none yet.
    pub fn welcome(&self) -> Option<String> {
        self.welcome.as_ref().map(|path| format!("{}{path}", self.url))
    }

    /// Stops the console; requests in progress are finished.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "console: a task failed");
            }
        }
    }
}

fn open(config: SharedConfig, options: ConsoleOptions) -> Result<App, ConsoleError> {
    let current = Arc::clone(&config.read().ignore_poison());
    let state = |path: PathBuf| move |source| ConsoleError::State { path, source };
    let other = |error: &dyn std::fmt::Display| ConsoleError::Other(error.to_string());
    let folder = current.state.join("console");
    let folder = links::state_folder(&current).map_err(state(folder))?;
    let provider = match &options.single_sign_on {
        Some(SingleSignOn::OpenIdConnect(oidc)) => {
            Some(Provider::new((**oidc).clone(), current.proxy.clone()))
        }
        _ => None,
    };
    Ok(App {
        options,
        provider,
        users: Users::open(&folder).map_err(|error| other(&error))?,
        sessions: Sessions::open(&folder),
        shared: SharedLinks::open(&folder).map_err(|error| other(&error))?,
        throttle: Throttle::default(),
        forms: FormSecret::new().map_err(|error| other(&error))?,
        audit: Audit::open(&folder).map_err(state(folder.join("audit.jsonl")))?,
        keeper: Keeper::new(Arc::clone(&config)),
        views: Views::default(),
        figures: Figures::default(),
        reports: Jobs::new(&folder),
        pages: Pages::new().map_err(|error| other(&error))?,
        folder,
        config,
    })
}

/// Sends changes from the audit log to the probe, which records them as events in the lake.
async fn send_changes(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    loop {
        let config = app.config();
        let pause = tokio::select! {
            sent = app.audit.send(&config) => match sent {
                Ok(()) => SEND_EVERY,
                Err(error) => {
                    tracing::debug!(%error, "console: changes are not in the lake yet");
                    SEND_AGAIN
                }
            },
            _ = stop.changed() => return,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Keeps the board and the certificate up to date.
async fn keep(
    app: Arc<App>,
    certificates: Option<Arc<Certificates>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(REFRESH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut number = 0_u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => break,
        }
        number = number.wrapping_add(1);
        app.keeper.mirror().await;
        let (app, certificates) = (Arc::clone(&app), certificates.clone());
        let work = tokio::task::spawn_blocking(move || {
            app.keeper.refresh(UtcMicros::now());
            if let Some(certificates) =
                certificates.filter(|_| number.is_multiple_of(CERTIFICATE_EVERY))
            {
                certificates.refresh();
            }
            if number.is_multiple_of(SESSIONS_EVERY) {
                app.sessions.keep();
            }
        });
        // A read that hangs in a network file system must not prevent the console from stopping.
        tokio::select! {
            result = work => if let Err(error) = result {
                tracing::error!(%error, "console: the board can't be refreshed");
            },
            _ = stop.changed() => break,
        }
    }
    app.sessions.keep();
    let _ = tokio::task::spawn_blocking(move || app.reports.stop()).await;
}
