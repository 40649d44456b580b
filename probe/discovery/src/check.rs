//! Tries a server: connection, TLS with a matching certificate, greeting. Never logs in.

use std::time::Duration;

use mailqos_base::one_line;
use mailqos_config::{Endpoint, TlsMode};
use mailqos_mail::{Smtp, Wire, WireError};
use mailqos_net::Trust;

use crate::{Protocol, Server};

/// Size limit of a reply.
const MAX_REPLY: usize = 16 * 1024;

/// Result of a connection to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// It was not tried.
    NotTried,
    /// It answers with TLS and a certificate that matches its name.
    Usable {
        /// Version of TLS.
        tls: String,
    },
    /// It can't be used.
    Unusable {
        /// The reason.
        reason: String,
    },
}

impl Check {
    /// Whether the server can be used.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Usable { .. })
    }
}

/// Tries a server; each step may take `step`.
pub(crate) async fn check(server: &Server, trust: &Trust, step: Duration) -> Check {
    if server.tls == TlsMode::None {
        return Check::Unusable {
            reason: "it offers no encryption, so no password is sent to it".to_owned(),
        };
    }
    let endpoint = Endpoint {
        server: server.host.clone(),
        port: server.port,
        tls: server.tls,
        trust: trust.clone(),
        account: None,
        helo: None,
        proxy: None,
    };
    let result = match server.protocol {
        Protocol::Smtp => smtp(&endpoint, step).await,
        Protocol::Imap | Protocol::Pop3 => mailbox(server.protocol, &endpoint, step).await,
    };
    match result {
        Ok(tls) => Check::Usable { tls },
        Err(reason) => Check::Unusable { reason },
    }
}

async fn smtp(endpoint: &Endpoint, step: Duration) -> Result<String, String> {
    let mut smtp = Smtp::new(endpoint, step);
    smtp.limit(step);
    smtp.open().await.map_err(|error| error.to_string())?;
    let session = smtp.tls();
    smtp.quit();
    session
        .map(|session| session.version.to_string())
        .ok_or_else(|| "the connection is not encrypted".to_owned())
}

async fn mailbox(
    protocol: Protocol,
    endpoint: &Endpoint,
    step: Duration,
) -> Result<String, String> {
    let broken = |error: WireError| error.to_string();
    let mut wire = Wire::connect(endpoint, step).await.map_err(broken)?;
    wire.limit(step);
    wire.begin(step, MAX_REPLY);
    let greeting = wire.line(MAX_REPLY).await.map_err(broken)?;
    let good = match protocol {
        Protocol::Imap => greeting.starts_with(b"* OK") || greeting.starts_with(b"* PREAUTH"),
        _ => greeting.starts_with(b"+OK"),
    };
    if !good {
        let text = one_line(&String::from_utf8_lossy(&greeting), &[]);
        return Err(format!("it does not answer as an {} server: {text}", protocol.title()));
    }
    if endpoint.tls == TlsMode::StartTls {
        upgrade(protocol, &mut wire, step).await?;
        wire.upgrade(&endpoint.trust).await.map_err(broken)?;
    }
    let version = wire.tls().map(|session| session.version.to_string());
    wire.close().await;
    version.ok_or_else(|| "the connection is not encrypted".to_owned())
}

/// Asks for TLS (RFC 9051, section 6.2.1; RFC 2595, section 4).
async fn upgrade(protocol: Protocol, wire: &mut Wire, step: Duration) -> Result<(), String> {
    let (command, agreed): (&[u8], &[u8]) = match protocol {
        Protocol::Imap => (b"a1 STARTTLS\r\n", b"a1 OK"),
        _ => (b"STLS\r\n", b"+OK"),
    };
    wire.begin(step, MAX_REPLY);
    wire.send(command).await.map_err(|error| error.to_string())?;
    loop {
        let line = wire.line(MAX_REPLY).await.map_err(|error| error.to_string())?;
        let begins = |prefix: &[u8]| {
            line.len() >= prefix.len() && line[..prefix.len()].eq_ignore_ascii_case(prefix)
        };
        if begins(agreed) {
            return Ok(());
        }
        // Untagged responses may come in between.
        if !(protocol == Protocol::Imap && line.starts_with(b"* ")) {
            return Err("it does not offer STARTTLS".to_owned());
        }
    }
}
