//! POP3 (RFC 1939, with 2449 CAPA, 2595 STLS, 5034 AUTH, 3206 and 2449 response codes).
//!
//! A session shows only the mails present at login, and deletions take effect only at QUIT.
//! Identifiers (UIDL) are remembered between visits, so that a mail is inspected once, and a full
//! mailbox costs one UIDL.

mod listing;
mod login;
mod memory;
mod retrieval;
mod session;

use std::time::Instant;

use mailqos_config::TlsMode;
use mailqos_mail::Wire;
use mailqos_model::Stage;

pub(super) use memory::Memory;
pub(in crate::mail_test) use session::Session;

use super::{MailClassifier, PickupError, STEPS_A_VISIT, Visit, VisitTarget};
use crate::mail_test::evidence::Moment;
use login::Offer;
use retrieval::Retrieval;
use session::{Answer, MAX_REPLY};

/// Maximum number of bytes read of a foreign mail before the connection is given up.
const MAX_TOP: usize = 4 * 1024 * 1024;

/// A visit over POP3.
struct Pop3<'a> {
    session: Session,
    errand: VisitTarget<'a>,
    memory: &'a mut Memory,
    visit: &'a mut Visit,
}

/// Performs the visit on a newly opened connection. The session still has to be ended.
pub(super) async fn converse(
    wire: Wire,
    errand: VisitTarget<'_>,
    memory: &mut Memory,
    judge: &dyn MailClassifier,
    visit: &mut Visit,
) -> (Session, Result<(), PickupError>) {
    let mut retrieval = Retrieval { pop3: Pop3::new(wire, errand, memory, visit), judge };
    let result = match retrieval.pop3.sign_in().await {
        Ok(login_began) => retrieval.look(login_began).await,
        Err(error) => Err(error),
    };
    (retrieval.pop3.session, result)
}

/// Logs in and lists the mailbox.
pub(super) async fn survey(
    wire: Wire,
    errand: VisitTarget<'_>,
    memory: &mut Memory,
    visit: &mut Visit,
) -> (Session, Result<(), PickupError>) {
    let mut pop3 = Pop3::new(wire, errand, memory, visit);
    let result = pop3.sign_in_and_list().await;
    (pop3.session, result)
}

impl<'a> Pop3<'a> {
    fn new(
        wire: Wire,
        errand: VisitTarget<'a>,
        memory: &'a mut Memory,
        visit: &'a mut Visit,
    ) -> Self {
        Self { session: Session::new(wire, errand.door), errand, memory, visit }
    }

    async fn sign_in_and_list(&mut self) -> Result<(), PickupError> {
        self.sign_in().await?;
        let began = Instant::now();
        self.list().await?;
        self.visit.phases.list = Some(self.session.since(began));
        Ok(())
    }

    /// Reads the greeting, performs STLS if configured, and logs in; returns the time at which the
    /// first credential command was sent.
    async fn sign_in(&mut self) -> Result<Moment, PickupError> {
        let stage = Stage::PickupGreeting;
        let connected = Instant::now();
        self.session.wire.limit(self.errand.door.step * STEPS_A_VISIT);
        self.session.wire.begin(self.session.step, MAX_REPLY);
        let greeting = match self.session.answer(stage).await? {
            Answer::Ok(text) => text,
            Answer::Err(text) => return Err(self.session.refusal(stage, "connection", &text)),
        };
        self.visit.phases.greeting = Some(self.session.since(connected));
        let mut capabilities = None;
        if !self.memory.lacks.contains("CAPA") {
            capabilities = self.session.capabilities(stage).await?;
            if capabilities.is_none() {
                self.memory.lacks.insert("CAPA");
            }
        }
        if self.errand.door.endpoint.tls == TlsMode::StartTls {
            let stage = Stage::PickupTls;
            if capabilities.as_ref().is_some_and(|offered| !has(offered, "STLS")) {
                return Err(PickupError::new(
                    stage,
                    "the server does not offer STLS; set tls = \"implicit\" (usually port 995), or tls = \
                     \"none\" to send the password in plaintext",
                ));
            }
            self.session.command(stage, "STLS", MAX_REPLY).await?;
            self.session
                .wire
                .upgrade(&self.errand.door.endpoint.trust)
                .await
                .map_err(|error| PickupError::wire(stage, &error))?;
            // Capabilities that were offered in plaintext can't be trusted (RFC 2595, section 4).
            self.session.wire.begin(self.session.step, MAX_REPLY);
            if !self.memory.lacks.contains("CAPA") {
                capabilities = self.session.capabilities(stage).await?;
            }
        }
        self.session.pipelining =
            capabilities.as_ref().is_some_and(|offered| has(offered, "PIPELINING"));
        if capabilities.as_ref().is_some_and(|offered| has(offered, "TOP")) {
            self.memory.has_top = true;
            self.memory.lacks.remove("TOP");
        }
        self.log_in(&Offer { capabilities, greeting }).await
    }
}

fn has(capabilities: &[Vec<String>], name: &str) -> bool {
    capabilities.iter().any(|line| line.first().is_some_and(|word| word == name))
}
