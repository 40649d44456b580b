//! The configuration: one TOML file with includes, validated as a whole. Both programs start from a
//! [`Config`], or report all problems of the file together, each with its location and remedy.
//!
//! A [`Config`] is plain data. This crate depends on no login, no connection and no user of a key.

#[macro_use]
pub mod key;

mod account;
mod actions;
mod alarm;
mod archive;
mod calendar;
mod console;
pub mod edit;
mod engine;
pub mod form;
mod from_toml;
mod heartbeat;
mod hours;
mod kind;
mod mail_server;
mod maintenance;
mod mechanism;
mod message;
mod monitor;
mod object_store;
mod operator;
mod person;
mod problem;
mod proxy;
mod read;
pub mod reference;
mod server;
mod service_level;
mod sign_in;
mod single_sign_on;
mod table;
mod target;
mod test_options;
mod value;
mod wording;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use jiff::tz::TimeZone;

pub use account::{GraphService, Login, OAuthOptions};
pub use actions::{
    Action, ActionList, ContentType, Framing, LogPlace, On, Service, Step, Webhook, sounds_secret,
};
pub use alarm::{AlarmRule, JunkRule, PercentileRule, Threshold, Timing, TlsVersion};
pub use archive::ArchiveOptions;
pub use calendar::{Calendar, Cron};
pub use console::ConsoleOptions;
pub use engine::{EngineKind, EngineOptions};
pub use from_toml::{DateText, FromToml};
pub use heartbeat::{Heartbeat, HeartbeatService};
pub use hours::{Hours, Span, time_of_day, weekday};
pub use kind::{Kind, MailQos, Mailbox, TestKind};
pub use maintenance::{Maintenance, Window};
pub use mechanism::Mechanism;
pub use message::MessageShape;
pub use object_store::ObjectStoreOptions;
pub use person::{Person, PersonError, is_forbidden, is_plain, split_list};
pub use problem::{Problem, Problems, Severity};
pub use proxy::{Proxy, via};
pub use read::{Overlay, load, load_with};
pub use server::SubmissionProtocol;
pub use service_level::{
    Holidays, LevelPeriod, Percent, ServiceHours, ServiceLevel, Target as LevelTarget,
};
pub use single_sign_on::{Group, GroupRole, OidcOptions, ProxyAuthOptions, SingleSignOn};
pub use table::{Node, Source, Table, did_you_mean, nearest, parse};
pub use target::{
    DeliveryOptions, EmailTarget, Existing, FilesPlace, FilesTarget, FtpData, FtpEncoding, Sftp,
    Target, TemporaryName, TooLarge, Verify, foreign_variable,
};
pub use test_options::{MAX_HORIZON, Pickup, PickupProtocol, Transcripts};
pub use wording::{Template, Wording};

use mailqos_base::SecretSource;
use mailqos_model::{AccountName, Micros, MonitorId, Name, ObjectId, SiteName};
use mailqos_net::Trust;

/// Reads and validates a configuration that is, or will be, in this file.
///
/// # Errors
/// All that is wrong with it, warnings included.
pub fn of_text(path: &std::path::Path, text: String) -> Result<Config, Problems> {
    let mut overlay = Overlay::default();
    overlay.insert(path.to_owned(), text);
    load_with(path, &overlay)
}

/// The contents of the configuration file and all included files.
#[derive(Debug, Clone)]
pub struct Config {
    /// The configuration file.
    pub file: PathBuf,
    /// Name of the place from which this probe measures.
    pub site: SiteName,
    /// Location of the lake.
    pub data: DataLocation,
    /// Access to the object store, if the lake is in one.
    pub object_store: ObjectStoreOptions,
    /// HTTP proxy for requests.
    pub proxy: Proxy,
    /// Age at which days are removed from the lake; `None` keeps all.
    pub retention: Option<Micros>,
    /// Local folder of journals, locks, keys and queues (default: `<data>/state`).
    pub state: PathBuf,
    /// Time zone of calendars and reports that don't set their own.
    pub timezone: TimeZone,
    /// Interval at which recorded samples are sealed into the day's Parquet file.
    pub seal_interval: Micros,
    /// Key that signs the test mails (default: a file in `state`, created at the first start).
    pub signing_key: Option<SecretSource>,
    /// Accounts by name.
    pub accounts: BTreeMap<AccountName, Account>,
    /// Monitored hosts and services.
    pub objects: BTreeMap<ObjectId, Object>,
    /// Configured tests.
    pub monitors: BTreeMap<MonitorId, Monitor>,
    /// People and groups to notify.
    pub operators: BTreeMap<Name, Operator>,
    /// SMTP servers for mailqos's own mails: alarms and reports.
    pub mail_servers: BTreeMap<Name, MailServer>,
    /// Actions for alarms that are raised and clear.
    pub action_lists: BTreeMap<Name, ActionList>,
    /// Planned windows without alarms.
    pub maintenance: Vec<Maintenance>,
    /// Maximum numbers of simultaneous tests.
    pub limits: Limits,
    /// Where figures are computed.
    pub engine: EngineOptions,
    /// Address of the OpenMetrics endpoint, if it is enabled.
    pub metrics: Option<std::net::SocketAddr>,
    /// Options of the web console.
    pub console: ConsoleOptions,
    /// Addresses (`HOST:PORT`) that show whether the probe itself has a network connection.
    pub references: Vec<String>,
    /// The heartbeat of the probe.
    pub heartbeat: Option<Heartbeat>,
    /// Targets to which reports can be delivered.
    pub targets: BTreeMap<Name, Target>,
    /// Settings of all deliveries.
    pub delivery: DeliveryOptions,
    /// How long generated reports are kept.
    pub archive: ArchiveOptions,
    /// Promised service levels.
    pub service_levels: BTreeMap<Name, ServiceLevel>,
    /// Folder of the user's report templates, searched before the built-in ones.
    pub templates: PathBuf,
    /// Folder of the report definitions.
    pub reports: PathBuf,
    /// Problems that deserve attention but are not errors.
    pub warnings: Problems,
}

/// Maximum numbers of simultaneous tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum in total.
    pub tests: u32,
    /// Maximum on the same SMTP or mailbox server.
    pub per_server: Option<u32>,
    /// Maximum on the same mailbox.
    pub per_mailbox: Option<u32>,
}

/// Location of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataLocation {
    /// A local folder.
    Folder(PathBuf),
    /// An object store, such as `s3://bucket/prefix`.
    ObjectStore(String),
}

impl DataLocation {
    /// URL schemes of object stores.
    const SCHEMES: [&str; 7] = ["s3", "s3a", "az", "azure", "abfs", "abfss", "gs"];

    /// Parses the location of a lake. A relative path is relative to `folder`.
    ///
    /// # Errors
    /// The text is not a valid location; returns the reason and the remedy.
    pub fn parse(text: &str, folder: &std::path::Path) -> Result<Self, (String, String)> {
        let store = "write a folder, or the address of an object store: s3://bucket/prefix, az://container/prefix or \
                     gs://bucket/prefix";
        if text.trim().is_empty() {
            return Err(("the location of the lake is empty".to_owned(), store.to_owned()));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let bucket = rest.split('/').next().unwrap_or_default();
            if Self::SCHEMES.contains(&scheme) {
                if bucket.trim().is_empty() {
                    let reason = format!("{text:?} contains no bucket");
                    return Err((reason, format!("use {scheme}://bucket/prefix")));
                }
                return Ok(Self::ObjectStore(text.to_owned()));
            }
            let help = match scheme.to_ascii_lowercase().as_str() {
                "http" | "https" => format!(
                    "for an object store, write data = \"s3://bucket/prefix\", and endpoint = {:?} in \
                     [object_store]",
                    format!("{scheme}://{bucket}")
                ),
                "file" => format!(
                    "write the path alone: {:?}",
                    format!("/{}", rest.trim_start_matches('/'))
                ),
                "gcs" => format!("write {:?}", format!("gs://{rest}")),
                "smb" | "cifs" | "nfs" | "sftp" | "ftp" => {
                    "mount it, and write the path of the folder".to_owned()
                }
                lower if Self::SCHEMES.contains(&lower) => {
                    format!("write {:?}", format!("{lower}://{rest}"))
                }
                _ => store.to_owned(),
            };
            return Err((format!("{text:?} is not a valid location of a lake"), help));
        }
        if let Some((scheme, rest)) = text.split_once(':')
            && Self::SCHEMES.contains(&scheme)
        {
            let meant = format!("{scheme}://{}", rest.trim_start_matches('/'));
            return Err((
                format!("{text:?} looks like the address of an object store"),
                format!("write {meant:?}"),
            ));
        }
        match from_toml::not_a_path(text) {
            Some(reason) => Err((
                reason,
                "write the full path; neither ~ nor environment variables are expanded".to_owned(),
            )),
            None => Ok(Self::Folder(folder.join(text))),
        }
    }
}

/// Named credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// User name.
    pub user: String,
    /// Windows domain, for network shares.
    pub domain: Option<String>,
    /// Password or tokens.
    pub login: Login,
    /// SASL mechanisms that may be used; all if empty.
    pub mechanisms: Vec<Mechanism>,
}

/// A monitored host or service.
#[derive(Debug, Clone)]
pub struct Object {
    /// Display name (default: the id).
    pub name: String,
    /// Host name or IP address.
    pub address: String,
    /// Labels for selection.
    pub tags: BTreeSet<String>,
}

/// A configured test on an object.
#[derive(Debug, Clone)]
pub struct Monitor {
    /// Id in the lake.
    pub id: MonitorId,
    /// Display name (default: the id).
    pub name: String,
    /// The monitored object.
    pub object: ObjectId,
    /// Labels of the monitor and its object.
    pub tags: BTreeSet<String>,
    /// Whether the monitor is tested.
    pub enabled: bool,
    /// Time between the starts of two tests.
    pub test_interval: Micros,
    /// Start times of tests, if there is no interval.
    pub calendar: Option<Calendar>,
    /// Time between the starts of two tests while it fails.
    pub retest_interval: Option<Micros>,
    /// Whether a test may start while the previous one is running.
    pub overlap: bool,
    /// Action list for its alarms, if any.
    pub action_list: Option<Name>,
    /// Whether no one is to be notified of its alarms: `action_list = "none"`.
    pub is_silent: bool,
    /// Conditions under which its alarm is raised and clears.
    pub alarm: AlarmRule,
    /// The kind of its tests, with options.
    pub kind: Kind,
}

/// Address and access settings of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or IP address.
    pub server: String,
    /// TCP port.
    pub port: u16,
    /// Encryption of the connection.
    pub tls: TlsMode,
    /// Trusted certificates.
    pub trust: Trust,
    /// Account for the login; `None` for no login.
    pub account: Option<AccountName>,
    /// Name sent in EHLO (SMTP); by default the literal of the local address.
    pub helo: Option<String>,
    /// The HTTP proxy to connect through, for Microsoft Graph; `None` to connect directly.
    pub proxy: Option<Proxy>,
}

impl Endpoint {
    /// Returns the address with port and encryption: `mail.example.com:587 STARTTLS`.
    pub fn place(&self) -> String {
        let tls = match self.tls {
            TlsMode::None => "in plaintext",
            TlsMode::StartTls => "STARTTLS",
            TlsMode::Implicit => "TLS",
        };
        format!("{}:{} {tls}", self.server, self.port)
    }
}

/// Encryption of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Plaintext.
    None,
    /// Plaintext, then upgraded (RFC 3207, RFC 2595); fails if the server does not offer it.
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
}

/// A person or a group to notify.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Display name (default: the name).
    pub name: String,
    /// Mail addresses of the operator, or of the members if it is a group.
    pub email: Vec<Person>,
    /// Maximum size in bytes of the files in a mail to them.
    pub attachments: Option<u64>,
}

/// An SMTP server for mailqos's own mails.
#[derive(Debug, Clone)]
pub struct MailServer {
    /// Address and login of the server.
    pub endpoint: Endpoint,
    /// Protocol by which it accepts mails.
    pub protocol: SubmissionProtocol,
    /// Sender of the mails.
    pub from: Person,
    /// Address for bounces, if it is not the sender.
    pub return_path: Option<String>,
    /// DKIM key that signs the mails.
    pub dkim: Option<Dkim>,
    /// Deadline of each step of the conversation.
    pub timeout: Micros,
}

/// A DKIM key that signs mails (RFC 6376).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dkim {
    /// Signing domain.
    pub domain: String,
    /// Selector of the key.
    pub selector: String,
    /// Private key, RSA or Ed25519, in PEM.
    pub key: SecretSource,
}

impl Config {
    /// Returns the shares that service levels promise, each in [0, 1].
    pub fn promised_shares(&self) -> Vec<f64> {
        let targets = self.service_levels.values().flat_map(|level| &level.targets);
        targets
            .filter(|target| !matches!(target, LevelTarget::Percentile { .. }))
            .map(|target| target.share().as_f64())
            .collect()
    }

    /// Returns the account of an endpoint, if it names one.
    pub fn account(&self, name: Option<&AccountName>) -> Option<&Account> {
        self.accounts.get(name?)
    }

    /// Returns all secrets of the configuration, each with its purpose.
    pub fn secrets(&self) -> Vec<(String, &SecretSource)> {
        let mut found = Vec::new();
        if let Some(key) = &self.signing_key {
            found.push(("signing_key".to_owned(), key));
        }
        if let Some(address) = &self.proxy.address {
            found.push(("proxy".to_owned(), address));
        }
        for (what, heartbeat) in [
            ("heartbeat", &self.heartbeat),
            ("the heartbeat of report schedules", &self.delivery.heartbeat),
        ] {
            let sources = heartbeat.iter().flat_map(|heartbeat| {
                std::iter::once(&heartbeat.url).chain(&heartbeat.key).chain(&heartbeat.proxy)
            });
            found.extend(sources.map(|source| (what.to_owned(), source)));
        }
        for (name, account) in &self.accounts {
            match &account.login {
                Login::Password(password) => {
                    found.push((format!("the password of account {name}"), password))
                }
                Login::OAuth(oauth) => {
                    let secret = oauth.client_secret.as_ref();
                    found.extend(
                        secret.map(|secret| (format!("client_secret of account {name}"), secret)),
                    );
                    let certificate = oauth.certificate.as_ref();
                    found.extend(certificate.map(|certificate| {
                        (format!("certificate of account {name}"), certificate)
                    }));
                    let key = oauth.service_account.as_ref();
                    found
                        .extend(key.map(|key| (format!("service_account of account {name}"), key)));
                    let token = oauth.refresh_token.as_ref();
                    found.extend(
                        token.map(|token| (format!("refresh_token of account {name}"), token)),
                    );
                }
            }
        }
        for (name, server) in &self.mail_servers {
            let key = server.dkim.as_ref().map(|dkim| &dkim.key);
            found.extend(key.map(|key| (format!("the DKIM key of mail server {name}"), key)));
        }
        for (name, list) in &self.action_lists {
            for step in &list.steps {
                match &step.action {
                    Action::Webhook(webhook) => {
                        let headers = webhook.headers.iter().map(|(_, value)| value);
                        let sources = std::iter::once(&webhook.url)
                            .chain(&webhook.key)
                            .chain(&webhook.proxy)
                            .chain(headers);
                        found
                            .extend(sources.map(|source| {
                                (format!("a webhook of action list {name}"), source)
                            }));
                    }
                    Action::Command { environment, .. } => {
                        let sources = environment.iter().map(|(_, value)| value);
                        found
                            .extend(sources.map(|source| {
                                (format!("a command of action list {name}"), source)
                            }));
                    }
                    Action::Email { .. } | Action::Syslog { .. } => {}
                }
            }
        }
        found
    }

    /// Returns the monitors that match a selection: by id, object, tag (`tag:NAME`, `object:NAME`)
    /// or glob (`mail-*`). An empty selection matches all.
    ///
    /// # Errors
    /// The first pattern that matches nothing.
    pub fn select(&self, patterns: &[String]) -> Result<Vec<&Monitor>, String> {
        if patterns.is_empty() {
            return Ok(self.monitors.values().collect());
        }
        let mut chosen = BTreeMap::new();
        for pattern in patterns {
            let mut hit = false;
            for monitor in self.monitors.values() {
                if monitor.is_selected(pattern) {
                    hit = true;
                    chosen.insert(monitor.id.clone(), monitor);
                }
            }
            if !hit {
                return Err(pattern.clone());
            }
        }
        Ok(chosen.into_values().collect())
    }
}

impl Monitor {
    /// Returns whether a pattern matches the monitor: `tag:NAME`, `object:NAME`, an id or a glob of
    /// ids.
    pub fn is_selected(&self, pattern: &str) -> bool {
        if let Some(tag) = pattern.strip_prefix("tag:") {
            self.tags.iter().any(|own| glob(tag, own))
        } else if let Some(object) = pattern.strip_prefix("object:") {
            glob(object, self.object.as_str())
        } else {
            glob(pattern, self.id.as_str())
        }
    }
}

/// Returns whether `text` matches `pattern`, in which `*` stands for any characters and `?` for
/// one.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star, at)) = retry {
            retry = Some((star, at + 1));
            p = star + 1;
            t = at + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}
