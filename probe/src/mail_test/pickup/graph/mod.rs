//! Pick-ups over Microsoft Graph
//! (<https://learn.microsoft.com/graph/api/resources/mail-api-overview>).
//!
//! Folders are listed by delta queries, so that a visit without news costs one request per folder.
//! As elsewhere, a message is ours only by the signature in its MIME content. Only such messages
//! are deleted, by identifiers that stay the same when a message is moved.

mod deletion;
mod folders;
mod listing;
mod retrieval;

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use mailqos_base::Secret;
use mailqos_mail::{
    Credentials, Wire,
    graph::{Graph, GraphError, Request, Response},
};
use mailqos_model::{Micros, Stage, UtcMicros};

use super::{
    Finding, MailClassifier, MissingFolder, PickupError, STEPS_A_VISIT, Visit, VisitTarget,
    note_renewed, renewed,
};
use crate::mail_test::{evidence::Moment, token::Token};

/// Maximum size in bytes of a response that is not a mail.
const MAX_REPLY: usize = 4 * 1024 * 1024;
/// Time for which suggestions for folders that could not be opened are remembered.
const SUGGESTED_FOR: Micros = Micros::from_secs(3600);

/// A listed message that has not been classified.
#[derive(Debug, Clone)]
struct Seen {
    not_shown: Option<Moment>,
    shown: Moment,
    /// Arrival by the server's clock (`receivedDateTime`).
    received: Option<UtcMicros>,
    /// Whether its subject or its Message-ID resembles ours.
    is_marked: bool,
    /// Whether it was present at the first visit.
    is_old: bool,
    /// Number of failed attempts to read it.
    tries: u8,
}

/// One of our mails that is still present.
#[derive(Debug, Clone)]
struct Ours {
    token: Token,
    finding: Finding,
    seen: Seen,
    receive: Micros,
    /// Beginning of the mail; empty after it has been left for others.
    mail: Vec<u8>,
}

/// One of our mails to be deleted.
#[derive(Debug, Clone, Copy, Default)]
struct Doomed {
    tries: u8,
}

/// State of a folder between visits.
#[derive(Debug, Default)]
struct Folder {
    /// The folder as a path segment: a well-known name, or its identifier.
    segment: Option<String>,
    /// Entries of a page, if the service failed to return more in time.
    page: Option<u32>,
    /// Link to the changes since the last complete round.
    link: Option<String>,
    /// Start of the last complete round.
    listed: Option<Moment>,
    /// Start of the last direct listing, if it showed all new messages.
    checked: Option<Moment>,
    /// Start of the last direct listing.
    check_began: Option<Moment>,
    /// Whether delta queries of this folder were seen to miss messages.
    is_incomplete: bool,
    /// Identifiers of all listed messages that still exist.
    known: std::collections::HashSet<String>,
    /// Messages to classify.
    fresh: HashMap<String, Seen>,
    ours: BTreeMap<String, Ours>,
    doomed: HashMap<String, Doomed>,
}

/// State of a mailbox between visits.
#[derive(Debug, Default)]
pub(super) struct Memory {
    folders: HashMap<String, Folder>,
    /// End of the wait requested by the service, and its message.
    held_back: Option<(Moment, String)>,
    /// Whether the service lacks `permanentDelete`, as in national clouds.
    lacks_permanent_delete: bool,
    /// Whether a refused deletion was already logged.
    has_warned: bool,
    /// Suggestions for folders that could not be opened.
    suggestions: HashMap<String, (Moment, String)>,
}

impl Memory {
    /// Returns the failure of a visit that the service has asked to postpone.
    pub(super) fn held_back(&self) -> Option<PickupError> {
        let (until, text) = self.held_back.as_ref()?;
        let left = *until - Moment::now();
        (left > Micros::ZERO).then(|| {
            let text = format!("{text}; the next request is allowed in {left}");
            PickupError::new(Stage::PickupList, &text)
        })
    }
}

/// A visit over Microsoft Graph.
struct GraphVisit<'a> {
    graph: Graph,
    target: VisitTarget<'a>,
    credentials: Credentials,
    /// Whether the token was already replaced in this visit.
    is_renewed: bool,
    memory: &'a mut Memory,
    visit: &'a mut Visit,
}

/// Performs the visit on a newly opened connection.
pub(super) async fn converse(
    wire: Wire,
    target: VisitTarget<'_>,
    memory: &mut Memory,
    judge: &dyn MailClassifier,
    visit: &mut Visit,
) -> (Graph, Result<(), PickupError>) {
    let mut graph = GraphVisit::new(wire, target, memory, visit);
    let result = match graph.log_in() {
        Ok(()) => graph.work(judge).await,
        Err(error) => Err(error),
    };
    (graph.graph, result)
}

/// Opens the configured folders without reading any message.
pub(super) async fn survey(
    wire: Wire,
    target: VisitTarget<'_>,
    memory: &mut Memory,
    visit: &mut Visit,
) -> (Graph, Result<(), PickupError>) {
    let mut graph = GraphVisit::new(wire, target, memory, visit);
    let result = match graph.log_in() {
        Ok(()) => graph.survey_folders().await,
        Err(error) => Err(error),
    };
    (graph.graph, result)
}

impl<'a> GraphVisit<'a> {
    fn new(
        mut wire: Wire,
        target: VisitTarget<'a>,
        memory: &'a mut Memory,
        visit: &'a mut Visit,
    ) -> Self {
        let (door, step) = (target.door, target.door.step);
        wire.limit(step * STEPS_A_VISIT);
        let nobody = || Credentials::token("", Secret::new(""));
        let credentials = target.credentials.cloned().unwrap_or_else(nobody);
        let patience = Instant::now() + step;
        Self {
            graph: Graph::new(wire, &door.endpoint, &credentials, step, patience),
            target,
            credentials,
            is_renewed: false,
            memory,
            visit,
        }
    }

    /// Records the time that obtaining the token took, which counts as the login.
    fn log_in(&mut self) -> Result<(), PickupError> {
        let stage = Stage::PickupLogin;
        if self.target.credentials.is_none() {
            return Err(PickupError::new(stage, "no account is configured for the mailbox"));
        }
        if !self.credentials.is_token {
            let text = "Microsoft Graph accepts no passwords; give the account oauth = { … }";
            return Err(PickupError::new(stage, text));
        }
        let took = self.credentials.took;
        self.visit.phases.login = Some(took.unwrap_or(Micros::ZERO));
        self.visit.phases.is_token_cached = took.is_none();
        self.graph.wire.note(match took {
            Some(_) => "using a new access token",
            None => "using the access token of an earlier request",
        });
        Ok(())
    }

    /// Sends a request, with another token if the first one is rejected.
    async fn ask(&mut self, stage: Stage, request: &Request<'_>) -> Result<Response, GraphError> {
        self.target.door.whereabouts.note(Some(stage));
        let result = self.graph.send(request).await;
        let is_rejected = |error: &GraphError| {
            error.refusal().is_some_and(mailqos_mail::graph::Refusal::is_token)
        };
        let error = match result {
            Err(error) if is_rejected(&error) && !self.is_renewed => error,
            result => return result,
        };
        self.is_renewed = true;
        let rejected = PickupError::new(Stage::PickupLogin, &error.to_string());
        let Ok(credentials) = renewed(&self.credentials, rejected).await else {
            return Err(error);
        };
        self.visit.phases.login = Some(credentials.took.unwrap_or(Micros::ZERO));
        self.visit.phases.is_token_cached = false;
        self.graph.wire.note("the access token was rejected; using a new one");
        self.graph.use_token(&credentials);
        self.credentials = credentials;
        let result = self.graph.send(request).await;
        if let Err(error) = &result
            && is_rejected(error)
        {
            let rejected = PickupError {
                refused: true,
                ..PickupError::new(Stage::PickupLogin, &error.to_string())
            };
            note_renewed(&self.credentials, Some(&rejected)).await;
        }
        result
    }

    /// Returns the failure of a visit caused by a failed request.
    fn failed(&mut self, stage: Stage, error: &GraphError) -> PickupError {
        match error {
            GraphError::Wire(error) => PickupError::wire(stage, error),
            GraphError::Unreadable(text) => PickupError::new(stage, text),
            GraphError::Throttled { wait, refusal } => {
                self.memory.held_back = Some((Moment::now() + *wait, refusal.throttling()));
                PickupError::new(stage, &error.to_string())
            }
            GraphError::Refused(refusal) => {
                let refused = refusal.is_token() || refusal.is_permission();
                let is_login = refused || refusal.is_missing_mailbox();
                if is_login {
                    self.visit.phases.login = None;
                }
                let stage = if is_login { Stage::PickupLogin } else { stage };
                PickupError { refused, ..PickupError::new(stage, &error.to_string()) }
            }
        }
    }

    async fn work(&mut self, judge: &dyn MailClassifier) -> Result<(), PickupError> {
        let folders = self.target.door.folders.clone();
        let mut failure = None;
        for (number, name) in folders.iter().enumerate() {
            let segment = match self.open(name, number == 0, &mut failure).await? {
                Some(segment) => segment,
                None => continue,
            };
            match self.search(name, &segment, judge).await {
                Ok(()) => {}
                // The service may return it later.
                Err(error) if error.is_passing => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Finds a folder. A missing one is recorded; without the first folder there is nothing to
    /// measure.
    async fn open(
        &mut self,
        name: &str,
        is_first: bool,
        failure: &mut Option<PickupError>,
    ) -> Result<Option<String>, PickupError> {
        let stage = Stage::PickupList;
        match self.segment(name).await {
            Ok(Some(segment)) => {
                self.memory.suggestions.remove(name);
                return Ok(Some(segment));
            }
            Ok(None) => {}
            Err(error) => return Err(self.failed(stage, &error)),
        }
        let reason = self.suggestion(name).await?;
        if is_first {
            let text = format!("the folder {name:?} can't be opened: {reason}");
            *failure = Some(PickupError { is_passing: true, ..PickupError::new(stage, &text) });
        }
        self.visit.missing.push(MissingFolder { name: name.to_owned(), reason });
        Ok(None)
    }

    /// Suggests existing folders in place of a missing one, asking the server at most once an hour.
    async fn suggestion(&mut self, name: &str) -> Result<String, PickupError> {
        if let Some((at, suggestion)) = self.memory.suggestions.get(name)
            && Moment::now() - *at < SUGGESTED_FOR
        {
            return Ok(suggestion.clone());
        }
        let suggestion = match self.folder_names().await {
            Ok(names) => folders::suggest(&names),
            Err(error) => return Err(self.failed(Stage::PickupList, &error)),
        };
        tracing::warn!(
            folder = name,
            suggestion,
            "a configured folder can't be opened and is not searched"
        );
        let known = (Moment::now(), suggestion.clone());
        self.memory.suggestions.insert(name.to_owned(), known);
        Ok(suggestion)
    }

    /// Lists a folder, and retrieves and deletes our mails.
    async fn search(
        &mut self,
        name: &str,
        segment: &str,
        judge: &dyn MailClassifier,
    ) -> Result<(), PickupError> {
        let listed = self.list_folder(name, segment).await;
        // Messages known so far are read and retrieved in any case.
        let examined = match &listed {
            Err(error) if !error.is_passing => return listed,
            _ => self.examine(name, judge).await,
        };
        let taken = self.take(name, judge).await;
        let deleted = self.delete(name).await;
        examined?;
        taken?;
        if let Err(error) = deleted {
            // The deletion is retried later; the findings count.
            match self.visit.found.iter().any(|found| found.receive.is_some()) {
                true => tracing::debug!(folder = name, %error, "test mails not deleted"),
                false => return Err(error),
            }
        }
        listed
    }

    async fn survey_folders(&mut self) -> Result<(), PickupError> {
        let folders = self.target.door.folders.clone();
        let began = Instant::now();
        let mut failure = None;
        for name in &folders {
            let Some(segment) = self.open(name, true, &mut failure).await? else { continue };
            let path = format!("/mailFolders/{segment}?$select=id,totalItemCount");
            let asked = self.ask(Stage::PickupList, &Request::get(&path, MAX_REPLY)).await;
            if let Err(error) = asked {
                return Err(self.failed(Stage::PickupList, &error));
            }
        }
        let took = self.graph.wire.received_at().saturating_duration_since(began);
        self.visit.phases.list = Some(Micros::from(took));
        failure.map_or(Ok(()), Err)
    }
}
