//! Finds the mail servers of an address: SRV records (RFC 6186, RFC 8314), autoconfig files, the
//! provider behind the mail exchangers, and common names. All are queried in parallel; servers are then
//! tried without logging in.
//!
//! DNS answers are not authenticated, so an attacker who forges them could name a server that
//! collects passwords, with a valid certificate for its own name. [`Discovery::choose`] therefore
//! accepts a server only if it answers with TLS and a certificate that matches its name, and if the
//! name lies within the address's domain, belongs to a known provider, or is stated by a file
//! fetched over HTTPS from the domain. Other servers need a person's consent (RFC 6186, section 6).
//!
//! This crate knows no password, no configuration file and no prompt.

mod address;
mod autoconfig;
mod check;
mod choice;
mod dns;
mod document;
mod lookups;
pub mod providers;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use futures_util::future::join_all;
use mailqos_config::TlsMode;
use mailqos_net::{Trust, http::Route};
use tokio::time::timeout;

pub use address::{AddressError, MailAddress};
pub use check::Check;
pub use choice::{Choice, NoChoice};
pub use dns::DnsFailure;
#[cfg(feature = "test-hooks")]
pub use document::replay_document;
pub use providers::{Provider, Recognised};

/// Deadline for trying a set of servers in parallel. With that of the look-ups (five seconds), and a
/// second set of servers, discovery ends within 13 seconds.
const TRYING: Duration = Duration::from_secs(4);
/// Maximum number of servers tried per set.
const MAX_TRIED: usize = 24;

/// A protocol of mail clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Submission of mails.
    Smtp,
    /// Mailboxes over IMAP.
    Imap,
    /// Mailboxes over POP3.
    Pop3,
}

impl Protocol {
    /// Returns its name, such as `IMAP`.
    pub fn title(self) -> &'static str {
        match self {
            Self::Smtp => "SMTP",
            Self::Imap => "IMAP",
            Self::Pop3 => "POP3",
        }
    }

    /// Returns its name in configuration files, such as `imap`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
        }
    }
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its protocol.
    pub protocol: Protocol,
    /// Host name (in ASCII) or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Encryption.
    pub tls: TlsMode,
}

/// Returns the word for an encryption in configuration files.
pub fn tls_word(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::None => "none",
        TlsMode::StartTls => "starttls",
        TlsMode::Implicit => "implicit",
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = match self.tls {
            TlsMode::None => "in plaintext",
            TlsMode::StartTls => "STARTTLS",
            TlsMode::Implicit => "TLS",
        };
        write!(f, "{} {}:{} {tls}", self.protocol.title(), self.host, self.port)
    }
}

/// Where a server was found; earlier variants are preferred.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The domain's autoconfig file at this address.
    Autoconfig(String),
    /// The SRV record of this owner.
    Service(String),
    /// The database of the Thunderbird project.
    Database,
    /// The provider that this mail exchanger or alias reveals.
    Provider(String),
    /// A common name within the domain.
    CommonName,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Autoconfig(url) => write!(f, "autoconfig file of {url}"),
            Self::Service(owner) => write!(f, "SRV {owner}"),
            Self::Database => f.write_str("database of autoconfig.thunderbird.net"),
            Self::Provider(evidence) => f.write_str(evidence),
            Self::CommonName => f.write_str("common name"),
        }
    }
}

/// Why a server's name can be trusted to belong to the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A file fetched over HTTPS names it.
    Published,
    /// It lies within the address's domain.
    Domain,
    /// It belongs to a known provider.
    Known,
    /// Only unauthenticated DNS names it, and it lies outside the address's domain.
    Foreign,
}

/// A server that may be the address's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The server.
    pub server: Server,
    /// Where it was found.
    pub source: Source,
    /// Why its name can be trusted.
    pub standing: Standing,
    /// The user name to log in with, if stated.
    pub user: Option<String>,
    /// Whether its publisher states OAuth 2.0 as the only authentication.
    pub tokens_only: bool,
    /// Result of a connection.
    pub check: Check,
}

/// State of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It found something.
    Found,
    /// There is nothing.
    Nothing,
    /// It failed, or its answer can't be used.
    Failed,
}

/// A look-up and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// What was asked for, such as `SRV _imaps._tcp.example.com`.
    pub what: String,
    /// The answer in one line.
    pub result: String,
    /// Its state.
    pub outcome: Outcome,
}

/// What the mail exchangers state about a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// It accepts mail.
    AcceptsMail,
    /// It exists and has no mail exchanger.
    NoExchanger,
    /// It states that it accepts no mail (RFC 7505).
    NullExchanger,
    /// It does not exist.
    Missing,
    /// The look-up failed.
    Unknown(DnsFailure),
}

/// Options of a discovery.
#[derive(Clone, Default)]
pub struct Options {
    /// Name server to ask instead of the system's.
    pub name_server: Option<SocketAddr>,
    /// Certificate authority of the servers, instead of the platform's store.
    pub ca_file: Option<PathBuf>,
    /// Whether to ask Thunderbird's database, which then learns the domain.
    pub database: bool,
    /// Route to web sites: through a proxy or not.
    pub route: Route,
}

impl Options {
    /// Certificates that mail servers must come from.
    fn trust(&self) -> Trust {
        Trust { ca_file: self.ca_file.clone(), ..Trust::default() }
    }

    /// Certificates that web servers may come from: a private authority does not issue those of the
    /// public web.
    fn web_trusts(&self) -> Vec<Trust> {
        let mut trusts = vec![self.trust()];
        if self.ca_file.is_some() {
            trusts.push(Trust::default());
        }
        trusts
    }
}

/// What was found about an address.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// The address.
    pub address: MailAddress,
    /// What the domain's mail exchangers state.
    pub domain: Domain,
    /// Operator of the mail exchangers, if known.
    pub recognised: Option<Recognised>,
    /// All look-ups with their results.
    pub lookups: Vec<Lookup>,
    /// The servers found, in the order of preference.
    pub candidates: Vec<Candidate>,
}

/// Finds and tries the servers of an address, within 13 seconds.
///
/// # Errors
/// This machine has no name server.
pub async fn discover(address: &MailAddress, options: &Options) -> Result<Discovery, DnsFailure> {
    let dns = dns::Dns::new(options.name_server)?;
    let found = lookups::run(&dns, address, options).await;
    let mut discovery = Discovery {
        address: address.clone(),
        domain: found.domain,
        recognised: found.recognised,
        lookups: found.lookups,
        candidates: found.candidates,
    };
    let trust = options.trust();
    try_all(&mut discovery.candidates, &trust).await;
    let missing = discovery.missing();
    let mut guesses: Vec<Candidate> = found
        .guesses
        .into_iter()
        .filter(|guess| missing.contains(&guess.server.protocol))
        .filter(|guess| !discovery.candidates.iter().any(|known| known.server == guess.server))
        .collect();
    try_all(&mut guesses, &trust).await;
    // Of names that are not published, only those that lead to a server are of interest. One that
    // can't be used explains why there is none, for example a certificate for the hoster's name.
    let is_found = |protocol| {
        guesses.iter().any(|guess| guess.server.protocol == protocol && guess.check.is_usable())
    };
    let found = [Protocol::Smtp, Protocol::Imap, Protocol::Pop3].map(|it| (it, is_found(it)));
    discovery.candidates.extend(guesses.into_iter().filter(|guess| match &guess.check {
        Check::Unusable { answers, .. } => {
            *answers && found.contains(&(guess.server.protocol, false))
        }
        check => check.is_usable(),
    }));
    discovery.sort();
    Ok(discovery)
}

/// Tries servers in parallel.
async fn try_all(candidates: &mut [Candidate], trust: &Trust) {
    let tried = candidates.iter_mut().take(MAX_TRIED).map(|candidate| async {
        let checking = check::check(&candidate.server, trust, TRYING);
        candidate.check = timeout(TRYING, checking).await.unwrap_or_else(|_| Check::Unusable {
            reason: format!("no answer within {} s", TRYING.as_secs()),
            answers: false,
        });
    });
    join_all(tried).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_without_any_answer_ends_within_fifteen_seconds() {
        // Look-ups in parallel, then at most two sets of servers, each in parallel.
        let longest = lookups::LONGEST + 2 * TRYING;
        assert!(longest < Duration::from_secs(15), "{longest:?}");
    }
}
