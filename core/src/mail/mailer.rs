//! Sends mailqos's own mails, alarms and reports, through a configured mail server.

use std::time::Duration;

use lettre::{Address, Message, address::Envelope};

use super::{CredentialError, DkimError, Reply, Smtp, SmtpError, dkim, tls_failure::is_of_certificate};
use crate::{
    config::{Account, MailServer},
    model::{Stage, UtcMicros},
};

/// How long the server may take to accept what it has got completely (RFC 5321, section 4.5.3.2.6): whoever gives up earlier
/// sends twice what was taken once.
const ACCEPTING: Duration = Duration::from_secs(600);

/// How long a whole conversation may take: a large report over a slow line takes its time, but a server that takes byte after byte
/// must not hold up all other mails for ever.
const WHOLE: Duration = Duration::from_secs(3 * 3600);

/// A way to send mails: a mail server and the account for it.
#[derive(Debug, Clone)]
pub struct Mailer {
    server: MailServer,
    account: Option<Account>,
    /// How long the server may take to accept the content.
    accepting: Option<Duration>,
}

/// What became of a mail.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The recipients for whom the server took the mail.
    pub accepted: Vec<Address>,
    /// Those that it refused, with its words.
    pub refused: Vec<(Address, Reply)>,
    /// The reply that accepted the mail.
    pub reply: Reply,
}

/// Why a mail could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The account's password or token could not be had.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The conversation with the server failed.
    #[error("{stage}: {0}", stage = .0.stage)]
    Smtp(SmtpError),
    /// The mail can't be signed.
    #[error(transparent)]
    Dkim(#[from] DkimError),
    /// The server says beforehand that it takes no mail of this size.
    #[error("the mail has {size} bytes, and the server takes {limit} at the most")]
    TooLarge {
        /// The mail's size.
        size: u64,
        /// What the server takes.
        limit: u64,
    },
}

impl MailError {
    /// Whether a later try may succeed: all but the server's final refusal (5xx), and a certificate that is not accepted.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Credentials(_) | Self::Dkim(_) => true,
            Self::TooLarge { .. } => false,
            Self::Smtp(error) if error.stage == Stage::SmtpTls && is_of_certificate(&error.text) => false,
            Self::Smtp(error) => error.reply.as_ref().is_none_or(Reply::is_transient),
        }
    }

    /// Whether a person can mend it, as a log-in that was refused; what the server says of the mail itself is its last word.
    pub fn is_mendable(&self) -> bool {
        match self {
            Self::Credentials(_) | Self::Dkim(_) => true,
            Self::TooLarge { .. } => false,
            Self::Smtp(error) => !matches!(error.stage, Stage::SmtpRcpt | Stage::SmtpData),
        }
    }

    /// Whether the mail may have been taken although no reply came.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Self::Smtp(error) if error.uncertain)
    }
}

impl Mailer {
    /// A mailer for a server; `account` is the one that its endpoint names.
    pub fn new(server: &MailServer, account: Option<&Account>) -> Self {
        Self {
            server: server.clone(),
            account: account.cloned(),
            accepting: None,
        }
    }

    /// Lets the server take as long as the standard allows to accept the content: for what must not come twice.
    #[must_use]
    pub fn patient(self) -> Self {
        Self {
            accepting: Some(ACCEPTING),
            ..self
        }
    }

    /// The configured sender.
    pub fn from(&self) -> &str {
        &self.server.from
    }

    /// Sends a mail to those whom it names.
    ///
    /// # Errors
    /// When nobody gets it.
    pub async fn send(&self, message: &Message) -> Result<Delivered, MailError> {
        self.send_raw(message.envelope(), message.formatted()).await
    }

    /// Sends a mail that is written already. One refused recipient does not hold up the rest.
    ///
    /// # Errors
    /// When nobody gets it.
    pub async fn send_raw(&self, envelope: &Envelope, content: Vec<u8>) -> Result<Delivered, MailError> {
        let credentials = match &self.account {
            Some(account) => Some(account.credentials().await?),
            None => None,
        };
        let content = match &self.server.dkim {
            Some(options) => dkim::sign(content, options, UtcMicros::now()).await?,
            None => content,
        };
        let bounces = match &self.server.return_path {
            Some(address) => address.parse().ok(),
            None => envelope.from().cloned(),
        };
        let mut smtp = Smtp::new(&self.server.endpoint, self.server.timeout.to_std());
        smtp.report_failures_only();
        smtp.limit(WHOLE);
        if let Some(limit) = self.accepting {
            smtp.wait_for_acceptance(limit);
        }
        smtp.open().await.map_err(MailError::Smtp)?;
        if let Some(credentials) = &credentials {
            smtp.authenticate(credentials).await.map_err(MailError::Smtp)?;
        }
        if let Some(limit) = smtp.size_limit()
            && content.len() as u64 > limit
        {
            let size = content.len() as u64;
            smtp.quit();
            return Err(MailError::TooLarge { size, limit });
        }
        let results = smtp
            .envelope(bounces.as_ref(), envelope.to(), content.len(), !content.is_ascii())
            .await
            .map_err(MailError::Smtp)?;
        let reply = smtp.data(move || content).await.map_err(MailError::Smtp)?;
        smtp.quit();
        let (accepted, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, reply)| reply.is_success());
        Ok(Delivered {
            accepted: accepted.into_iter().map(|(address, _)| address).collect(),
            refused,
            reply,
        })
    }
}
