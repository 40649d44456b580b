//! Channels: routes of notifications, identified by their full configuration. The channel through
//! which an alarm was reported is stored with the alarm, so that its end is reported there even
//! after the configuration has changed or the probe was restarted.
//!
//! A stored channel records where a secret comes from, never the secret itself. A secret that the
//! configuration has in plaintext is omitted; the channel works again only while the configuration
//! still contains it.

use std::path::PathBuf;

use mailqos_base::{Secret, SecretSource};
use mailqos_config::{
    Account, Action, Config, ContentType, Dkim, Endpoint, Framing, LogPlace, MailServer, Person,
    Proxy, Service, Step, SubmissionProtocol, Template, TlsMode, Webhook, Wording, sounds_secret,
};
use mailqos_config::{Login, Mechanism};
use mailqos_model::{AccountName, Micros, Name, SiteName};
use mailqos_net::Trust;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Identifies a channel: a digest of its full configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelId(String);

impl std::fmt::Display for ChannelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A channel, with everything that is needed to use it.
#[derive(Debug, Clone)]
pub struct Channel {
    /// The site, for Message-IDs.
    pub site: SiteName,
    /// Action of the step.
    pub action: Action,
    /// The mail servers that it uses, each with its account, if any.
    pub servers: Vec<(Name, MailServer, Option<Account>)>,
    /// How long one attempt may take.
    pub timeout: Micros,
    /// The configuration's proxy, which is not part of the channel's identity.
    pub proxy: Proxy,
}

impl Channel {
    /// Returns the channel of a step in the configuration.
    pub fn of(config: &Config, step: &Step) -> Self {
        let names: Vec<&Name> = match &step.action {
            Action::Email { mail_server, fallback, .. } => {
                std::iter::once(mail_server).chain(fallback).collect()
            }
            _ => Vec::new(),
        };
        let servers = names.into_iter().filter_map(|name| {
            let server = config.mail_servers.get(name)?;
            let account = config.account(server.endpoint.account.as_ref());
            Some((name.clone(), server.clone(), account.cloned()))
        });
        Self {
            site: config.site.clone(),
            action: step.action.clone(),
            servers: servers.collect(),
            timeout: step.timeout,
            proxy: config.proxy.clone(),
        }
    }

    /// Returns its id.
    pub fn id(&self) -> ChannelId {
        let whole = StoredChannel::of(self, Literals::Included);
        let text = serde_json::to_vec(&whole).unwrap_or_default();
        let digest = Sha256::digest(&text);
        ChannelId(digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns whether the service counts alarms individually and expects each to be closed.
    pub fn counts_incidents(&self) -> bool {
        matches!(&self.action, Action::Webhook(hook) if hook.service.counts_incidents())
    }

    /// Returns a mail server by its name.
    pub fn server(&self, name: &Name) -> Option<(&MailServer, Option<&Account>)> {
        let found = self.servers.iter().find(|(known, ..)| known == name)?;
        Some((&found.1, found.2.as_ref()))
    }
}

/// Treatment of secrets that are in the configuration in plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Literals {
    /// Included in the digest.
    Included,
    /// Not stored.
    LeftOut,
}

/// A channel as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredChannel {
    site: SiteName,
    #[serde(flatten)]
    action: StoredAction,
    #[serde(default)]
    timeout: Option<Micros>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum StoredAction {
    Email {
        to: Vec<StoredPerson>,
        mail_server: Name,
        fallback: Option<Name>,
        servers: Vec<StoredServer>,
        #[serde(default, skip_serializing_if = "StoredWording::is_built_in")]
        wording: StoredWording,
    },
    Webhook {
        service: String,
        url: Source,
        method: String,
        key: Option<Source>,
        headers: Vec<(String, Source)>,
        trust: StoredTrust,
        template: Option<StoredTemplate>,
        #[serde(default, skip_serializing_if = "is_json")]
        content_type: ContentType,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proxy: Option<Source>,
    },
    Command {
        words: Vec<String>,
        environment: Vec<(String, Source)>,
    },
    SyslogLocal {
        path: PathBuf,
        facility: u8,
    },
    SyslogUdp {
        server: String,
        port: u16,
        facility: u8,
    },
    SyslogStream {
        endpoint: StoredEndpoint,
        facility: u8,
        #[serde(default, skip_serializing_if = "is_counted")]
        framing: Framing,
    },
}

/// The name of a template, and its text.
type StoredTemplate = (String, String);

fn stored_template(template: &Template) -> StoredTemplate {
    (template.name.clone(), template.text.clone())
}

fn template_of(kept: &StoredTemplate) -> Template {
    Template { text: kept.1.clone(), name: kept.0.clone(), node: None }
}

/// The user's wording of a mail.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct StoredWording {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<StoredTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<StoredTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    html: Option<StoredTemplate>,
}

impl StoredWording {
    fn of(wording: &Wording) -> Self {
        Self {
            subject: wording.subject.as_ref().map(stored_template),
            text: wording.text.as_ref().map(stored_template),
            html: wording.html.as_ref().map(stored_template),
        }
    }

    fn is_built_in(&self) -> bool {
        *self == Self::default()
    }

    fn wording(&self) -> Wording {
        Wording {
            subject: self.subject.as_ref().map(template_of),
            text: self.text.as_ref().map(template_of),
            html: self.html.as_ref().map(template_of),
        }
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Env(String),
    File(PathBuf),
    Credential(String),
    Command(Vec<String>),
    /// Not a secret.
    Text(String),
    /// In the configuration in plaintext.
    LeftOut,
}

fn is_counted(framing: &Framing) -> bool {
    *framing == Framing::OctetCounting
}

fn is_json(kind: &ContentType) -> bool {
    *kind == ContentType::Json
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredPerson {
    name: Option<String>,
    address: String,
}

impl StoredPerson {
    fn of(person: &Person) -> Self {
        Self { name: person.name.clone(), address: person.address.clone() }
    }

    fn person(&self) -> Person {
        Person { name: self.name.clone(), address: self.address.clone() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredServer {
    name: Name,
    endpoint: StoredEndpoint,
    /// Whether mails are submitted over Microsoft Graph.
    #[serde(default)]
    is_graph: bool,
    from: StoredPerson,
    return_path: Option<String>,
    dkim: Option<(String, String, Source)>,
    #[serde(default)]
    timeout: Option<Micros>,
    account: Option<StoredAccount>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredAccount {
    user: String,
    domain: Option<String>,
    /// Absent if it logs in with tokens, which only the configuration can describe.
    password: Option<Source>,
    /// Client id of the application that requests tokens.
    client_id: Option<String>,
    mechanisms: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredEndpoint {
    server: String,
    port: u16,
    tls: String,
    trust: StoredTrust,
    account: Option<AccountName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    helo: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredTrust {
    ca_file: Option<PathBuf>,
    fingerprint: Option<[u8; 32]>,
    insecure: bool,
}

/// Why a stored channel can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LostChannel(String);

impl StoredChannel {
    /// Returns the form of a channel that is stored: everything but secrets in plaintext.
    pub fn from_channel(channel: &Channel) -> Self {
        Self { timeout: Some(channel.timeout), ..Self::of(channel, Literals::LeftOut) }
    }

    fn of(channel: &Channel, literals: Literals) -> Self {
        let secret = |source: &SecretSource| Source::of(source, literals == Literals::Included);
        let plain = |source: &SecretSource| Source::of(source, true);
        let named = |(name, source): &(String, SecretSource)| {
            let source = if sounds_secret(name) { secret(source) } else { plain(source) };
            (name.clone(), source)
        };
        let action = match &channel.action {
            Action::Email { to, mail_server, fallback, wording } => StoredAction::Email {
                to: to.iter().map(StoredPerson::of).collect(),
                mail_server: mail_server.clone(),
                fallback: fallback.clone(),
                servers: channel
                    .servers
                    .iter()
                    .map(|(name, server, account)| {
                        StoredServer::of(name, server, account.as_ref(), literals)
                    })
                    .collect(),
                wording: StoredWording::of(wording),
            },
            Action::Webhook(hook) => {
                let is_secret = matches!(hook.service, Service::Slack | Service::Teams);
                StoredAction::Webhook {
                    service: hook.service.as_str().to_owned(),
                    url: if is_secret { secret(&hook.url) } else { plain(&hook.url) },
                    method: hook.method.clone(),
                    key: hook.key.as_ref().map(secret),
                    headers: hook.headers.iter().map(named).collect(),
                    trust: StoredTrust::of(&hook.trust),
                    template: hook.template.as_ref().map(stored_template),
                    content_type: hook.content_type,
                    // The address may contain a password.
                    proxy: hook.proxy.as_ref().map(secret),
                }
            }
            Action::Command { words, environment } => StoredAction::Command {
                words: words.clone(),
                environment: environment.iter().map(named).collect(),
            },
            Action::Syslog { to, facility } => {
                let facility = *facility;
                match to {
                    LogPlace::Local(path) => {
                        StoredAction::SyslogLocal { path: path.clone(), facility }
                    }
                    LogPlace::Udp { server, port } => {
                        StoredAction::SyslogUdp { server: server.clone(), port: *port, facility }
                    }
                    LogPlace::Stream(endpoint, framing) => StoredAction::SyslogStream {
                        endpoint: StoredEndpoint::of(endpoint),
                        facility,
                        framing: *framing,
                    },
                }
            }
        };
        Self { site: channel.site.clone(), action, timeout: None }
    }

    /// Returns the stored channel, ready for use.
    ///
    /// # Errors
    /// The channel needs a secret that was in the configuration in plaintext, or has something that
    /// this version doesn't know.
    pub fn channel(&self, config: &Config) -> Result<Channel, LostChannel> {
        let mut servers = Vec::new();
        let action = match &self.action {
            StoredAction::Email { to, mail_server, fallback, servers: kept, wording } => {
                for server in kept {
                    servers.push(server.server(config)?);
                }
                Action::Email {
                    to: to.iter().map(StoredPerson::person).collect(),
                    mail_server: mail_server.clone(),
                    fallback: fallback.clone(),
                    wording: Box::new(wording.wording()),
                }
            }
            StoredAction::Webhook {
                service,
                url,
                method,
                key,
                headers,
                trust,
                template,
                content_type,
                proxy,
            } => Action::Webhook(Box::new(Webhook {
                service: service.parse().map_err(|_| {
                    LostChannel(format!("this version of the probe does not support {service}"))
                })?,
                url: url.source()?,
                method: method.clone(),
                key: key.as_ref().map(Source::source).transpose()?,
                headers: named(headers)?,
                trust: trust.trust(),
                template: template.as_ref().map(template_of),
                content_type: *content_type,
                proxy: proxy.as_ref().map(Source::source).transpose()?,
            })),
            StoredAction::Command { words, environment } => {
                Action::Command { words: words.clone(), environment: named(environment)? }
            }
            StoredAction::SyslogLocal { path, facility } => {
                syslog(LogPlace::Local(path.clone()), *facility)
            }
            StoredAction::SyslogUdp { server, port, facility } => {
                let (server, port) = (server.clone(), *port);
                syslog(LogPlace::Udp { server, port }, *facility)
            }
            StoredAction::SyslogStream { endpoint, facility, framing } => {
                syslog(LogPlace::Stream(endpoint.endpoint(), *framing), *facility)
            }
        };
        Ok(Channel {
            site: self.site.clone(),
            action,
            servers,
            timeout: self.timeout.unwrap_or(Micros::from_secs(30)),
            proxy: config.proxy.clone(),
        })
    }
}

fn syslog(to: LogPlace, facility: u8) -> Action {
    Action::Syslog { to, facility }
}

fn named(sources: &[(String, Source)]) -> Result<Vec<(String, SecretSource)>, LostChannel> {
    let read = |(name, source): &(String, Source)| Ok((name.clone(), source.source()?));
    sources.iter().map(read).collect()
}

impl Source {
    fn of(source: &SecretSource, literal: bool) -> Self {
        match source {
            SecretSource::Env(name) => Self::Env(name.clone()),
            SecretSource::File(path) => Self::File(path.clone()),
            SecretSource::Credential(name) => Self::Credential(name.clone()),
            SecretSource::Command(words) => Self::Command(words.clone()),
            SecretSource::Literal(secret) if literal => Self::Text(secret.expose().to_owned()),
            SecretSource::Literal(_) => Self::LeftOut,
        }
    }

    fn source(&self) -> Result<SecretSource, LostChannel> {
        Ok(match self {
            Self::Env(name) => SecretSource::Env(name.clone()),
            Self::File(path) => SecretSource::File(path.clone()),
            Self::Credential(name) => SecretSource::Credential(name.clone()),
            Self::Command(words) => SecretSource::Command(words.clone()),
            Self::Text(text) => SecretSource::Literal(Secret::new(text.clone())),
            Self::LeftOut => {
                return Err(LostChannel(
                    "its secret was in the configuration in plaintext, is not stored anywhere else, and the \
                     configuration has changed since; close open alarms there manually"
                        .to_owned(),
                ));
            }
        })
    }
}

impl StoredServer {
    fn of(name: &Name, server: &MailServer, account: Option<&Account>, literals: Literals) -> Self {
        let secret = |source: &SecretSource| Source::of(source, literals == Literals::Included);
        Self {
            name: name.clone(),
            endpoint: StoredEndpoint::of(&server.endpoint),
            is_graph: server.protocol == SubmissionProtocol::Graph,
            from: StoredPerson::of(&server.from),
            return_path: server.return_path.clone(),
            dkim: server
                .dkim
                .as_ref()
                .map(|dkim| (dkim.domain.clone(), dkim.selector.clone(), secret(&dkim.key))),
            timeout: (literals == Literals::LeftOut).then_some(server.timeout),
            account: account.map(|account| {
                let (password, client_id) = match &account.login {
                    Login::Password(source) => (Some(secret(source)), None),
                    Login::OAuth(oauth) => (None, Some(oauth.client_id.clone())),
                };
                StoredAccount {
                    user: account.user.clone(),
                    domain: account.domain.clone(),
                    password,
                    client_id,
                    mechanisms: account
                        .mechanisms
                        .iter()
                        .map(|one| one.as_str().to_owned())
                        .collect(),
                }
            }),
        }
    }

    fn server(&self, config: &Config) -> Result<(Name, MailServer, Option<Account>), LostChannel> {
        let dkim = match &self.dkim {
            Some((domain, selector, key)) => Some(Dkim {
                domain: domain.clone(),
                selector: selector.clone(),
                key: key.source()?,
            }),
            None => None,
        };
        let proxy = self.is_graph.then(|| config.proxy.clone());
        let endpoint = Endpoint { proxy, ..self.endpoint.endpoint() };
        let account = match &self.account {
            None => None,
            Some(kept) => Some(match &kept.password {
                Some(password) => Account {
                    user: kept.user.clone(),
                    domain: kept.domain.clone(),
                    login: Login::Password(password.source()?),
                    mechanisms: kept
                        .mechanisms
                        .iter()
                        .filter_map(|one| one.parse::<Mechanism>().ok())
                        .collect(),
                },
                // Tokens can only be renewed with the settings in the configuration.
                None => config.account(endpoint.account.as_ref()).cloned().ok_or_else(|| {
                    LostChannel(format!(
                        "the configuration no longer contains the account of {}",
                        self.name
                    ))
                })?,
            }),
        };
        let server = MailServer {
            endpoint,
            protocol: match self.is_graph {
                true => SubmissionProtocol::Graph,
                false => SubmissionProtocol::Smtp,
            },
            from: self.from.person(),
            return_path: self.return_path.clone(),
            dkim,
            timeout: self.timeout.unwrap_or(Micros::from_secs(30)),
        };
        Ok((self.name.clone(), server, account))
    }
}

impl StoredEndpoint {
    fn of(endpoint: &Endpoint) -> Self {
        let tls = match endpoint.tls {
            TlsMode::None => "none",
            TlsMode::StartTls => "starttls",
            TlsMode::Implicit => "implicit",
        };
        Self {
            server: endpoint.server.clone(),
            port: endpoint.port,
            tls: tls.to_owned(),
            trust: StoredTrust::of(&endpoint.trust),
            account: endpoint.account.clone(),
            helo: endpoint.helo.clone(),
        }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            server: self.server.clone(),
            port: self.port,
            tls: match self.tls.as_str() {
                "none" => TlsMode::None,
                "implicit" => TlsMode::Implicit,
                _ => TlsMode::StartTls,
            },
            trust: self.trust.trust(),
            account: self.account.clone(),
            helo: self.helo.clone(),
            // Not part of the channel's identity; the current configuration's is used.
            proxy: None,
        }
    }
}

impl StoredTrust {
    fn of(trust: &Trust) -> Self {
        Self {
            ca_file: trust.ca_file.clone(),
            fingerprint: trust.fingerprint,
            insecure: trust.insecure,
        }
    }

    fn trust(&self) -> Trust {
        Trust {
            ca_file: self.ca_file.clone(),
            fingerprint: self.fingerprint,
            insecure: self.insecure,
        }
    }
}
