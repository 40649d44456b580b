//! A channel: one way of reaching people, known by its full configuration. What an alarm was opened by is kept with the alarm, so that
//! it is closed there even after the configuration has changed or the probe was restarted.
//!
//! What is kept says where a secret comes from, never the secret itself: one that stands in the configuration in clear is left out,
//! and is found again only while the configuration still has the same channel.

use std::path::PathBuf;

use mailqos_base::{Secret, SecretSource};
use mailqos_config::{
    Account, Action, Config, ContentType, Dkim, Endpoint, Framing, LogPlace, MailServer, Person, Proxy, Service, Step,
    Template, TlsMode, Webhook, Wording, sounds_secret,
};
use mailqos_config::{Login, Mechanism};
use mailqos_model::{AccountName, Micros, Name, SiteName};
use mailqos_net::Trust;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What tells a channel from all others: a digest of its full configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ChannelId(String);

impl std::fmt::Display for ChannelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A channel, with all that is needed to use it.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// The site, for messages.
    pub(crate) site: SiteName,
    /// What is done.
    pub(crate) action: Action,
    /// The mail servers that it uses, each with its account.
    pub(crate) servers: Vec<(Name, MailServer, Option<Account>)>,
    /// How long one try may take.
    pub(crate) timeout: Micros,
    /// The configuration's proxy, which is not part of what tells channels apart.
    pub(crate) proxy: Proxy,
}

impl Way {
    /// The way of a step, as the configuration has it.
    pub(crate) fn of(config: &Config, step: &Step) -> Self {
        let names: Vec<&Name> = match &step.action {
            Action::Email {
                mail_server, fallback, ..
            } => std::iter::once(mail_server).chain(fallback).collect(),
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

    /// What tells it from all others.
    pub(crate) fn id(&self) -> ChannelId {
        let whole = Kept::of(self, Literals::Kept);
        let text = serde_json::to_vec(&whole).unwrap_or_default();
        let digest = Sha256::digest(&text);
        ChannelId(digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether it is a service that counts alarms one by one, and has them closed one by one.
    pub(crate) fn counts_incidents(&self) -> bool {
        matches!(&self.action, Action::Webhook(hook) if hook.service.counts_incidents())
    }

    /// A mail server by its name.
    pub(crate) fn server(&self, name: &Name) -> Option<(&MailServer, Option<&Account>)> {
        let found = self.servers.iter().find(|(known, ..)| known == name)?;
        Some((&found.1, found.2.as_ref()))
    }
}

/// What becomes of secrets that stand in the configuration in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Literals {
    /// They are part of the digest.
    Kept,
    /// They are written nowhere.
    LeftOut,
}

/// A channel as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    site: SiteName,
    #[serde(flatten)]
    action: KeptAction,
    #[serde(default)]
    timeout: Option<Micros>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum KeptAction {
    Email {
        to: Vec<KeptPerson>,
        mail_server: Name,
        fallback: Option<Name>,
        servers: Vec<KeptServer>,
        #[serde(default, skip_serializing_if = "KeptWording::is_built_in")]
        wording: KeptWording,
    },
    Webhook {
        service: String,
        url: Source,
        method: String,
        key: Option<Source>,
        headers: Vec<(String, Source)>,
        trust: KeptTrust,
        template: Option<KeptTemplate>,
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
        endpoint: KeptEndpoint,
        facility: u8,
        #[serde(default, skip_serializing_if = "is_counted")]
        framing: Framing,
    },
}

/// The name of a template, and its text.
type KeptTemplate = (String, String);

fn kept_template(template: &Template) -> KeptTemplate {
    (template.name.clone(), template.text.clone())
}

fn template_of(kept: &KeptTemplate) -> Template {
    Template {
        text: kept.1.clone(),
        name: kept.0.clone(),
        node: None,
    }
}

/// The own wording of a mail.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct KeptWording {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<KeptTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<KeptTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    html: Option<KeptTemplate>,
}

impl KeptWording {
    fn of(wording: &Wording) -> Self {
        Self {
            subject: wording.subject.as_ref().map(kept_template),
            text: wording.text.as_ref().map(kept_template),
            html: wording.html.as_ref().map(kept_template),
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
    /// It is no secret.
    Text(String),
    /// It stood in the configuration in clear.
    LeftOut,
}

fn is_counted(framing: &Framing) -> bool {
    *framing == Framing::OctetCounting
}

fn is_json(kind: &ContentType) -> bool {
    *kind == ContentType::Json
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptPerson {
    name: Option<String>,
    address: String,
}

impl KeptPerson {
    fn of(person: &Person) -> Self {
        Self {
            name: person.name.clone(),
            address: person.address.clone(),
        }
    }

    fn person(&self) -> Person {
        Person {
            name: self.name.clone(),
            address: self.address.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptServer {
    name: Name,
    endpoint: KeptEndpoint,
    from: KeptPerson,
    return_path: Option<String>,
    dkim: Option<(String, String, Source)>,
    #[serde(default)]
    timeout: Option<Micros>,
    account: Option<KeptAccount>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptAccount {
    user: String,
    domain: Option<String>,
    /// None: it logs in with tokens, which only the configuration can describe.
    password: Option<Source>,
    /// The application that asks for tokens.
    client_id: Option<String>,
    mechanisms: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptEndpoint {
    server: String,
    port: u16,
    tls: String,
    trust: KeptTrust,
    account: Option<AccountName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    helo: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptTrust {
    ca_file: Option<PathBuf>,
    fingerprint: Option<[u8; 32]>,
    insecure: bool,
}

/// Why a channel that was written down can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Lost(String);

impl Kept {
    /// What is written down of a way: all but secrets in clear.
    pub(crate) fn from_way(way: &Way) -> Self {
        Self {
            timeout: Some(way.timeout),
            ..Self::of(way, Literals::LeftOut)
        }
    }

    fn of(way: &Way, literals: Literals) -> Self {
        let secret = |source: &SecretSource| Source::of(source, literals == Literals::Kept);
        let plain = |source: &SecretSource| Source::of(source, true);
        let named = |(name, source): &(String, SecretSource)| {
            let source = if sounds_secret(name) {
                secret(source)
            } else {
                plain(source)
            };
            (name.clone(), source)
        };
        let action = match &way.action {
            Action::Email {
                to,
                mail_server,
                fallback,
                wording,
            } => KeptAction::Email {
                to: to.iter().map(KeptPerson::of).collect(),
                mail_server: mail_server.clone(),
                fallback: fallback.clone(),
                servers: way
                    .servers
                    .iter()
                    .map(|(name, server, account)| KeptServer::of(name, server, account.as_ref(), literals))
                    .collect(),
                wording: KeptWording::of(wording),
            },
            Action::Webhook(hook) => {
                let is_secret = matches!(hook.service, Service::Slack | Service::Teams);
                KeptAction::Webhook {
                    service: hook.service.as_str().to_owned(),
                    url: if is_secret { secret(&hook.url) } else { plain(&hook.url) },
                    method: hook.method.clone(),
                    key: hook.key.as_ref().map(secret),
                    headers: hook.headers.iter().map(named).collect(),
                    trust: KeptTrust::of(&hook.trust),
                    template: hook.template.as_ref().map(kept_template),
                    content_type: hook.content_type,
                    // There may be a password in it.
                    proxy: hook.proxy.as_ref().map(secret),
                }
            }
            Action::Command { words, environment } => KeptAction::Command {
                words: words.clone(),
                environment: environment.iter().map(named).collect(),
            },
            Action::Syslog { to, facility } => {
                let facility = *facility;
                match to {
                    LogPlace::Local(path) => KeptAction::SyslogLocal {
                        path: path.clone(),
                        facility,
                    },
                    LogPlace::Udp { server, port } => KeptAction::SyslogUdp {
                        server: server.clone(),
                        port: *port,
                        facility,
                    },
                    LogPlace::Stream(endpoint, framing) => KeptAction::SyslogStream {
                        endpoint: KeptEndpoint::of(endpoint),
                        facility,
                        framing: *framing,
                    },
                }
            }
        };
        Self {
            site: way.site.clone(),
            action,
            timeout: None,
        }
    }

    /// The way that was written down.
    ///
    /// # Errors
    /// It needs a secret that stood in the configuration in clear, or what this version of the probe does not know.
    pub(crate) fn way(&self, config: &Config) -> Result<Way, Lost> {
        let mut servers = Vec::new();
        let action = match &self.action {
            KeptAction::Email {
                to,
                mail_server,
                fallback,
                servers: kept,
                wording,
            } => {
                for server in kept {
                    servers.push(server.server(config)?);
                }
                Action::Email {
                    to: to.iter().map(KeptPerson::person).collect(),
                    mail_server: mail_server.clone(),
                    fallback: fallback.clone(),
                    wording: Box::new(wording.wording()),
                }
            }
            KeptAction::Webhook {
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
                service: Service::of(service)
                    .ok_or_else(|| Lost(format!("{service} is not known to this version of the probe")))?,
                url: url.source()?,
                method: method.clone(),
                key: key.as_ref().map(Source::source).transpose()?,
                headers: named(headers)?,
                trust: trust.trust(),
                template: template.as_ref().map(template_of),
                content_type: *content_type,
                proxy: proxy.as_ref().map(Source::source).transpose()?,
            })),
            KeptAction::Command { words, environment } => Action::Command {
                words: words.clone(),
                environment: named(environment)?,
            },
            KeptAction::SyslogLocal { path, facility } => syslog(LogPlace::Local(path.clone()), *facility),
            KeptAction::SyslogUdp { server, port, facility } => {
                let (server, port) = (server.clone(), *port);
                syslog(LogPlace::Udp { server, port }, *facility)
            }
            KeptAction::SyslogStream {
                endpoint,
                facility,
                framing,
            } => syslog(LogPlace::Stream(endpoint.endpoint(), *framing), *facility),
        };
        Ok(Way {
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

fn named(sources: &[(String, Source)]) -> Result<Vec<(String, SecretSource)>, Lost> {
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

    fn source(&self) -> Result<SecretSource, Lost> {
        Ok(match self {
            Self::Env(name) => SecretSource::Env(name.clone()),
            Self::File(path) => SecretSource::File(path.clone()),
            Self::Credential(name) => SecretSource::Credential(name.clone()),
            Self::Command(words) => SecretSource::Command(words.clone()),
            Self::Text(text) => SecretSource::Literal(Secret::new(text.clone())),
            Self::LeftOut => {
                return Err(Lost(
                    "its secret stood in the configuration in clear, is not kept anywhere else, and the configuration has changed \
                     since: close by hand what is still open there"
                        .to_owned(),
                ));
            }
        })
    }
}

impl KeptServer {
    fn of(name: &Name, server: &MailServer, account: Option<&Account>, literals: Literals) -> Self {
        let secret = |source: &SecretSource| Source::of(source, literals == Literals::Kept);
        Self {
            name: name.clone(),
            endpoint: KeptEndpoint::of(&server.endpoint),
            from: KeptPerson::of(&server.from),
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
                KeptAccount {
                    user: account.user.clone(),
                    domain: account.domain.clone(),
                    password,
                    client_id,
                    mechanisms: account.mechanisms.iter().map(|one| one.name().to_owned()).collect(),
                }
            }),
        }
    }

    fn server(&self, config: &Config) -> Result<(Name, MailServer, Option<Account>), Lost> {
        let dkim = match &self.dkim {
            Some((domain, selector, key)) => Some(Dkim {
                domain: domain.clone(),
                selector: selector.clone(),
                key: key.source()?,
            }),
            None => None,
        };
        let endpoint = self.endpoint.endpoint();
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
                // Tokens are renewed by what the configuration says, and only there.
                None => config
                    .account(endpoint.account.as_ref())
                    .cloned()
                    .ok_or_else(|| Lost(format!("the configuration has no account of {} any more", self.name)))?,
            }),
        };
        let server = MailServer {
            endpoint,
            from: self.from.person(),
            return_path: self.return_path.clone(),
            dkim,
            timeout: self.timeout.unwrap_or(Micros::from_secs(30)),
        };
        Ok((self.name.clone(), server, account))
    }
}

impl KeptEndpoint {
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
            trust: KeptTrust::of(&endpoint.trust),
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
        }
    }
}

impl KeptTrust {
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
