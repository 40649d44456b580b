//! The two servers of a first monitor: ports and encryption, tested immediately and changed until
//! the servers respond.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use inquire::Select;
use mailqos_base::hex;
use mailqos_config::{Endpoint, Proxy, TlsMode};
use mailqos_discovery::{Protocol, tls_word};
use mailqos_mail::{Smtp, Wire};
use mailqos_model::UtcMicros;
use mailqos_net::{TlsSession, Trust};
use toml_edit::Value;

use super::prompter::{Prompter, absolute, is_host, is_port, is_word};
use crate::commands::{Failure, edit::inline};

/// Timeout of a step when a connection is tested.
const PATIENCE: Duration = Duration::from_secs(10);

/// Port of Microsoft Graph.
const GRAPH_PORT: u16 = 443;

/// Role of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Smtp,
    Imap,
    Pop3,
    Graph,
}

impl Role {
    fn what(self) -> &'static str {
        match self {
            Self::Smtp => "SMTP",
            Self::Imap => "IMAP",
            Self::Pop3 => "POP3",
            Self::Graph => "Microsoft Graph",
        }
    }

    /// The same for discovery, which knows no servers of Microsoft Graph.
    pub(super) fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Smtp => Some(Protocol::Smtp),
            Self::Imap => Some(Protocol::Imap),
            Self::Pop3 => Some(Protocol::Pop3),
            Self::Graph => None,
        }
    }

    /// Returns the options for its port and its encryption.
    fn flags(self) -> [&'static str; 2] {
        match self {
            Self::Smtp => ["--smtp-port", "--smtp-tls"],
            Self::Imap | Self::Pop3 | Self::Graph => ["--pickup-port", "--pickup-tls"],
        }
    }

    /// Returns the usual encryption, which is the default.
    fn usual_tls(self) -> &'static str {
        match self {
            Self::Smtp => "starttls",
            Self::Imap | Self::Pop3 | Self::Graph => "implicit",
        }
    }

    fn usual_port(self, tls: &str) -> &'static str {
        match (self, tls) {
            (Self::Smtp, "implicit") => "465",
            (Self::Smtp, "starttls") => "587",
            (Self::Smtp, _) => "25",
            (Self::Imap, "implicit") => "993",
            (Self::Imap, _) => "143",
            (Self::Pop3, "implicit") => "995",
            (Self::Pop3, _) => "110",
            (Self::Graph, _) => "443",
        }
    }
}

/// A server as written to the configuration.
#[derive(Debug, Clone)]
pub(super) struct Server {
    role: Role,
    endpoint: Endpoint,
    object: String,
    tls: String,
}

/// Settings of a server from options or a preset.
#[derive(Debug, Default)]
pub(super) struct ServerOptions {
    /// Address, if it differs from the object's.
    pub(super) server: Option<String>,
    /// Port.
    pub(super) port: Option<u16>,
    /// Encryption.
    pub(super) tls: Option<String>,
}

fn mode(word: &str) -> TlsMode {
    match word {
        "none" => TlsMode::None,
        "starttls" => TlsMode::StartTls,
        _ => TlsMode::Implicit,
    }
}

impl Server {
    /// Prompts for missing settings.
    pub(super) fn ask(
        prompter: Prompter,
        role: Role,
        object: &str,
        said: ServerOptions,
        ca_file: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let [port_flag, _] = role.flags();
        let tls = prompter.choice(
            said.tls,
            &format!("Encryption of {}", role.what()),
            &["starttls", "implicit", "none"],
            role.usual_tls(),
        )?;
        let port = prompter.text(
            said.port.map(|port| port.to_string()),
            &format!("Port of {}", role.what()),
            port_flag,
            Some(role.usual_port(&tls)),
            is_port,
        )?;
        Ok(Self {
            role,
            endpoint: Endpoint {
                server: said.server.unwrap_or_else(|| object.to_owned()),
                port: port.parse().unwrap_or_default(),
                tls: mode(&tls),
                trust: Trust { ca_file, ..Trust::default() },
                account: None,
                helo: None,
                proxy: None,
            },
            object: object.to_owned(),
            tls,
        })
    }

    /// Microsoft Graph: nothing to prompt for. `proxy` is that of the configuration.
    pub(super) fn graph(
        (object, server): (&str, Option<String>),
        port: Option<u16>,
        ca_file: Option<PathBuf>,
        proxy: Proxy,
    ) -> Self {
        Self {
            role: Role::Graph,
            endpoint: Endpoint {
                server: server.unwrap_or_else(|| object.to_owned()),
                port: port.unwrap_or(GRAPH_PORT),
                tls: TlsMode::Implicit,
                trust: Trust { ca_file, ..Trust::default() },
                account: None,
                helo: None,
                proxy: Some(proxy),
            },
            object: object.to_owned(),
            tls: tls_word(TlsMode::Implicit).to_owned(),
        }
    }

    /// Prompts for all settings again; the previous answers are the defaults.
    fn change(&mut self, prompter: Prompter) -> Result<(), Failure> {
        let [port_flag, _] = self.role.flags();
        let what = self.role.what();
        let server = prompter.text(
            None,
            &format!("Address of {what}"),
            "",
            Some(&self.endpoint.server),
            is_host,
        )?;
        let tls = match self.role {
            Role::Graph => self.tls.clone(),
            _ => prompter.choice(
                None,
                &format!("Encryption of {what}"),
                &["starttls", "implicit", "none"],
                &self.tls,
            )?,
        };
        let port = if tls == self.tls {
            self.endpoint.port.to_string()
        } else {
            self.role.usual_port(&tls).to_owned()
        };
        let port =
            prompter.text(None, &format!("Port of {what}"), port_flag, Some(&port), is_port)?;
        self.endpoint.server = server;
        self.endpoint.port = port.parse().unwrap_or_default();
        self.endpoint.tls = mode(&tls);
        // A pinned certificate may belong to another server.
        self.endpoint.trust.fingerprint = None;
        self.tls = tls;
        Ok(())
    }

    /// Returns the value for the configuration.
    pub(super) fn value(&self, protocol: Option<&str>, account: &str) -> Value {
        let mut pairs: Vec<(&'static str, Value)> = Vec::new();
        if let Some(protocol) = protocol {
            pairs.push(("protocol", protocol.into()));
        }
        if self.endpoint.server != self.object {
            pairs.push(("server", self.endpoint.server.as_str().into()));
        }
        // The account's cloud determines where Microsoft Graph is, and it is used over TLS only.
        let is_graph = self.role == Role::Graph;
        if !is_graph || self.endpoint.port != GRAPH_PORT {
            pairs.push(("port", i64::from(self.endpoint.port).into()));
        }
        if !is_graph {
            pairs.push(("tls", self.tls.as_str().into()));
        }
        if let Some(path) = &self.endpoint.trust.ca_file {
            pairs.push(("ca_file", path.display().to_string().into()));
        }
        if let Some(fingerprint) = self.endpoint.trust.fingerprint {
            pairs.push(("fingerprint", hex(&fingerprint).into()));
        }
        pairs.push(("account", account.into()));
        inline(pairs)
    }

    /// Opens the connection and shows the certificate. After a failure, the user can retry, change
    /// the settings or keep them. `authority` is the CA file of another server, which is likely to
    /// apply to this one as well.
    pub(super) async fn try_it(
        &mut self,
        pin: bool,
        authority: Option<&Path>,
        prompter: Prompter,
    ) -> Result<(), Failure> {
        loop {
            let mut notes = std::io::stderr();
            let place =
                format!("{} at {}:{}", self.role.what(), self.endpoint.server, self.endpoint.port);
            let error = match open(self.role, &self.endpoint).await {
                Ok(session) => {
                    let _ = writeln!(notes, "✓ {place} responds{}", describe(session.as_ref()));
                    return Ok(());
                }
                Err(error) => error,
            };
            let seen = self.seen_blindly().await;
            let _ = writeln!(notes, "✗ {place}: {error}{}", describe(seen.as_ref()));
            let fingerprint = seen.and_then(|session| session.fingerprint);
            if let Some(fingerprint) = fingerprint.filter(|_| pin) {
                self.pin(fingerprint);
                return Ok(());
            }
            if !prompter.ask {
                return Err(Failure::Work(match fingerprint {
                    Some(_) => {
                        "name the CA with --ca-file, or pin the certificate with --pin".to_owned()
                    }
                    None => format!("{place} does not respond; use --offline to skip connections"),
                }));
            }
            const PIN: &str = "trust exactly this certificate (pin it)";
            const AUTHORITY: &str = "name the file with the CA that issued it";
            const AGAIN: &str = "try again";
            const CHANGE: &str = "change address, encryption or port";
            const KEEP: &str = "continue without a connection";
            let mut choices = vec![AGAIN, CHANGE, KEEP];
            if fingerprint.is_some() {
                choices.splice(0..0, [PIN, AUTHORITY]);
            }
            match (Select::new("How to continue?", choices).prompt()?, fingerprint) {
                (PIN, Some(fingerprint)) => {
                    self.pin(fingerprint);
                    return Ok(());
                }
                (AUTHORITY, _) => {
                    let usual = authority.and_then(Path::to_str);
                    let path = prompter.text(None, "CA file (PEM)", "--ca-file", usual, is_word)?;
                    self.endpoint.trust.ca_file = Some(absolute(path.into()));
                }
                (CHANGE, _) => self.change(prompter)?,
                (KEEP, _) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Returns the CA file with which its certificate is verified.
    pub(super) fn authority(&self) -> Option<&Path> {
        self.endpoint.trust.ca_file.as_deref()
    }

    fn pin(&mut self, fingerprint: [u8; 32]) {
        self.endpoint.trust = Trust { fingerprint: Some(fingerprint), ..Trust::default() };
    }

    /// Performs the handshake without verification, to find out whether only the certificate is not
    /// trusted.
    async fn seen_blindly(&self) -> Option<TlsSession> {
        if self.endpoint.tls == TlsMode::None {
            return None;
        }
        let mut blind = self.endpoint.clone();
        blind.trust = Trust { insecure: true, ..Trust::default() };
        open(self.role, &blind).await.ok().flatten()
    }
}

async fn open(role: Role, endpoint: &Endpoint) -> Result<Option<TlsSession>, String> {
    if role == Role::Smtp {
        let mut smtp = Smtp::new(endpoint, PATIENCE);
        smtp.open().await.map_err(|error| error.to_string())?;
        let session = smtp.tls();
        smtp.quit();
        return Ok(session);
    }
    // STARTTLS is part of the protocol and is tested by the following test.
    let wire = Wire::connect(endpoint, PATIENCE).await.map_err(|error| error.to_string())?;
    let session = wire.tls().cloned();
    wire.close().await;
    Ok(session)
}

/// Describes a TLS session, one property per line.
fn describe(session: Option<&TlsSession>) -> String {
    let Some(session) = session else {
        return String::new();
    };
    let mut text = format!(", {}", session.version);
    let names = session.names();
    if !names.is_empty() {
        const MAX: usize = 5;
        let shown = names.iter().take(MAX).cloned().collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(MAX);
        text.push_str(&format!("\n    certificate  {shown}"));
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
    }
    if let Some(issuer) = session.issuer() {
        text.push_str(&format!("\n    issued by    {issuer}"));
    }
    if let Some(at) = session.expires_at {
        let left = match (at - UtcMicros::now()).0.div_euclid(86_400_000_000) {
            1 => "1 day".to_owned(),
            days if days < 0 => "expired".to_owned(),
            days => format!("{days} days"),
        };
        text.push_str(&format!("\n    valid until  {} ({left})", at.utc_date()));
    }
    if let Some(fingerprint) = session.fingerprint {
        text.push_str(&format!("\n    SHA-256      {}", hex(&fingerprint)));
    }
    text
}
