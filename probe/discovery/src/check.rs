//! Tries a server: connection, TLS with a matching certificate, greeting. Never logs in.

use std::time::Duration;

use mailqos_base::one_line;
use mailqos_config::{Endpoint, TlsMode};
use mailqos_mail::{Smtp, Wire, WireError};
use mailqos_model::Stage;
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
        /// Whether a server answered at all.
        answers: bool,
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
            answers: false,
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
        Err(Failed { reason, answers }) => Check::Unusable { reason, answers },
    }
}

/// Why a server can't be used, and whether it answered.
struct Failed {
    reason: String,
    answers: bool,
}

impl From<WireError> for Failed {
    fn from(error: WireError) -> Self {
        let answers = !matches!(error, WireError::Resolve { .. } | WireError::Connect { .. });
        Self { reason: error.to_string(), answers }
    }
}

impl Failed {
    /// The server answered, but not as it should.
    fn answered(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), answers: true }
    }
}

async fn smtp(endpoint: &Endpoint, step: Duration) -> Result<String, Failed> {
    let mut smtp = Smtp::new(endpoint, step);
    smtp.limit(step);
    smtp.open().await.map_err(|error| Failed {
        reason: error.to_string(),
        answers: error.stage != Stage::SmtpConnect,
    })?;
    let session = smtp.tls();
    smtp.quit();
    session
        .map(|session| session.version.to_string())
        .ok_or_else(|| Failed::answered("the connection is not encrypted"))
}

async fn mailbox(
    protocol: Protocol,
    endpoint: &Endpoint,
    step: Duration,
) -> Result<String, Failed> {
    let mut wire = Wire::connect(endpoint, step).await?;
    wire.limit(step);
    wire.begin(step, MAX_REPLY);
    let greeting = wire.line(MAX_REPLY).await?;
    let good = match protocol {
        Protocol::Imap => greeting.starts_with(b"* OK") || greeting.starts_with(b"* PREAUTH"),
        _ => greeting.starts_with(b"+OK"),
    };
    if !good {
        let text = one_line(&String::from_utf8_lossy(&greeting), &[]);
        let reason = format!("it does not answer as an {} server: {text}", protocol.title());
        return Err(Failed::answered(reason));
    }
    if endpoint.tls == TlsMode::StartTls {
        upgrade(protocol, &mut wire, step).await?;
        wire.upgrade(&endpoint.trust).await?;
    }
    let version = wire.tls().map(|session| session.version.to_string());
    wire.close().await;
    version.ok_or_else(|| Failed::answered("the connection is not encrypted"))
}

/// Asks for TLS (RFC 9051, section 6.2.1; RFC 2595, section 4).
async fn upgrade(protocol: Protocol, wire: &mut Wire, step: Duration) -> Result<(), Failed> {
    let (command, agreed): (&[u8], &[u8]) = match protocol {
        Protocol::Imap => (b"a1 STARTTLS\r\n", b"a1 OK"),
        _ => (b"STLS\r\n", b"+OK"),
    };
    wire.begin(step, MAX_REPLY);
    wire.send(command).await?;
    loop {
        let line = wire.line(MAX_REPLY).await?;
        let begins = |prefix: &[u8]| {
            line.len() >= prefix.len() && line[..prefix.len()].eq_ignore_ascii_case(prefix)
        };
        if begins(agreed) {
            return Ok(());
        }
        // Untagged responses may come in between.
        if !(protocol == Protocol::Imap && line.starts_with(b"* ")) {
            return Err(Failed::answered("it does not offer STARTTLS"));
        }
    }
}
