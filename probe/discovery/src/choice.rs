//! Which of the found servers to use, and why none can be used.

use mailqos_config::TlsMode;

use crate::{
    Candidate, Check, Discovery, Domain, Protocol, Recognised, Standing,
    providers::{Provider, Tokens, of_host},
};

/// Maximum number of failures quoted in an explanation.
const MAX_REASONS: usize = 3;

/// The servers to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<'found> {
    /// `None` if nothing is to be sent.
    pub smtp: Option<&'found Candidate>,
    /// The server of the mailbox.
    pub mailbox: &'found Candidate,
    /// The provider that runs them, if known.
    pub provider: Option<&'static Provider>,
}

/// Why there are no servers to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoChoice<'found> {
    /// These servers could be used if a person confirms them.
    NeedsConsent(Choice<'found>),
    /// No server of these protocols was found; the text explains why.
    Missing(String),
}

impl Discovery {
    /// Chooses the servers of a monitor. `wanted` restricts the protocol of the mailbox; with
    /// `consent`, servers outside the domain that only DNS names are accepted, too.
    ///
    /// # Errors
    /// Servers need consent, or there are none.
    pub fn choose(
        &self,
        sends: bool,
        wanted: Option<Protocol>,
        consent: bool,
    ) -> Result<Choice<'_>, NoChoice<'_>> {
        if let Some(choice) = self.best(sends, wanted, consent) {
            return Ok(choice);
        }
        match self.best(sends, wanted, true) {
            Some(choice) => Err(NoChoice::NeedsConsent(choice)),
            None => Err(NoChoice::Missing(self.explanation(sends, wanted))),
        }
    }

    /// Returns whether the mailboxes are those of Microsoft 365, so that Microsoft Graph opens them:
    /// its exchangers or its alias reveal it, and no other server can be used.
    pub fn is_microsoft_365(&self) -> bool {
        let is_microsoft = |provider: &Provider| provider.tokens == Some(Tokens::Only);
        let others = self.candidates.iter().any(|candidate| {
            candidate.check.is_usable()
                && !of_host(&candidate.server.host).is_some_and(is_microsoft)
        });
        matches!(self.recognised, Some(Recognised::Provider(it)) if is_microsoft(it)) && !others
    }

    fn best(&self, sends: bool, wanted: Option<Protocol>, consent: bool) -> Option<Choice<'_>> {
        let usable = |protocol: Protocol| {
            let mut candidates = self.candidates.iter();
            candidates.find(|candidate| {
                candidate.server.protocol == protocol
                    && candidate.check.is_usable()
                    && (consent || candidate.standing != Standing::Foreign)
            })
        };
        let smtp = match sends {
            true => Some(usable(Protocol::Smtp)?),
            false => None,
        };
        let mailbox = match wanted {
            Some(protocol) => usable(protocol)?,
            None => usable(Protocol::Imap).or_else(|| usable(Protocol::Pop3))?,
        };
        let host = |candidate: &Candidate| of_host(&candidate.server.host);
        Some(Choice { smtp, mailbox, provider: smtp.and_then(host).or_else(|| host(mailbox)) })
    }

    /// Sorts the candidates by preference: those that need no consent first, then by source, then
    /// TLS from the first byte before STARTTLS (RFC 8314, section 3). The order of each source stays.
    pub(crate) fn sort(&mut self) {
        self.candidates.sort_by_key(|candidate| {
            let source = match candidate.source {
                crate::Source::Autoconfig(_) => 0,
                crate::Source::Service(_) => 1,
                crate::Source::Database => 2,
                crate::Source::Provider(_) => 3,
                crate::Source::CommonName => 4,
            };
            let tls = match candidate.server.tls {
                TlsMode::Implicit => 0,
                TlsMode::StartTls => 1,
                TlsMode::None => 2,
            };
            let foreign = candidate.standing == Standing::Foreign;
            (candidate.server.protocol, foreign, source, tls)
        });
    }

    /// The protocols for which no usable server was found. One protocol for the mailbox suffices.
    pub(crate) fn missing(&self) -> Vec<Protocol> {
        let usable = |protocol: Protocol| {
            let mut candidates = self.candidates.iter();
            candidates.any(|candidate| {
                candidate.server.protocol == protocol && candidate.check.is_usable()
            })
        };
        let mut missing = Vec::new();
        if !usable(Protocol::Smtp) {
            missing.push(Protocol::Smtp);
        }
        if !usable(Protocol::Imap) && !usable(Protocol::Pop3) {
            missing.extend([Protocol::Imap, Protocol::Pop3]);
        }
        missing
    }

    /// Explains in one sentence why no servers can be used.
    fn explanation(&self, sends: bool, wanted: Option<Protocol>) -> String {
        let domain = self.address.domain();
        if let Some(Recognised::Closed(text)) = self.recognised {
            return text.to_owned();
        }
        if !self.candidates.is_empty() {
            let usable = |protocol: Protocol| {
                let mut candidates = self.candidates.iter();
                candidates.any(|known| known.server.protocol == protocol && known.check.is_usable())
            };
            let mailbox = match wanted {
                Some(protocol) if !usable(protocol) => Some(protocol.title()),
                None if !usable(Protocol::Imap) && !usable(Protocol::Pop3) => Some("IMAP or POP3"),
                _ => None,
            };
            let smtp = (sends && !usable(Protocol::Smtp)).then_some("SMTP");
            let missing: Vec<&str> = smtp.into_iter().chain(mailbox).collect();
            let reasons = self.candidates.iter().filter_map(|candidate| match &candidate.check {
                Check::Unusable { reason, .. } => Some(format!("{}: {reason}", candidate.server)),
                _ => None,
            });
            let reasons: Vec<String> = reasons.take(MAX_REASONS).collect();
            let reasons = match reasons.is_empty() {
                true => String::new(),
                false => format!(" ({})", reasons.join("; ")),
            };
            let missing = missing.join(" and ");
            return format!(
                "no servers that can be used for {missing} were found for {domain}{reasons}"
            );
        }
        match &self.domain {
            Domain::Missing => format!("the domain {domain} does not exist"),
            Domain::NullExchanger => {
                format!("the domain {domain} states that it accepts no mail (null MX, RFC 7505)")
            }
            Domain::Unknown(failure) => {
                format!("can't look up the mail servers of {domain}: {failure}")
            }
            Domain::NoExchanger => {
                format!("{domain} has no mail exchanger and names no servers for mail clients")
            }
            Domain::AcceptsMail => format!(
                "{domain} names no servers for mail clients, and no server answers at common names such as imap.{domain}"
            ),
        }
    }
}
