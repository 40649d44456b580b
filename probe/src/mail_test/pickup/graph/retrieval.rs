//! Reads listed messages as MIME (<https://learn.microsoft.com/graph/outlook-get-mime-message>),
//! and retrieves those that are ours.

use std::cmp::Reverse;

use mailqos_mail::graph::{GraphError, Request, Response, encoded};
use mailqos_model::{Placement, Stage};

use super::{
    super::{Action, Found, KEPT_OF_MAIL, MailClassifier, PickupError, UNREADABLE_FOR, finding},
    Doomed, Folder, GraphVisit, Ours, Seen,
};
use crate::mail_test::{classify::may_notify, evidence::Moment};

/// Maximum size in bytes of our mails that are read.
const MAX_MAIL: usize = 128 * 1024 * 1024;
/// Maximum number of bytes read of a message that does not resemble ours, because it may be a
/// notification.
const MAX_OTHER: usize = 128 * 1024;
/// Maximum number of bytes read of a notification, because pictures and HTML may precede the
/// returned mail.
const MAX_NOTIFICATION: usize = 1024 * 1024;
/// Maximum number of messages read in one visit.
const MAX_A_VISIT: usize = 64;
/// Maximum number of messages from before the first visit that don't resemble ours and are read in
/// one visit.
const OLD_A_VISIT: usize = 8;
/// Maximum number of attempts to read a message.
const TRIES: u8 = 100;
/// Maximum number of remembered mails that were left for others.
const MAX_LEFT: usize = 1000;

impl GraphVisit<'_> {
    /// Reads listed messages, first those that resemble ours.
    pub(super) async fn examine(
        &mut self,
        name: &str,
        judge: &dyn MailClassifier,
    ) -> Result<(), PickupError> {
        let mut failure = None;
        for id in self.due(name) {
            let Some(folder) = self.memory.folders.get_mut(name) else { break };
            let Some(seen) = folder.fresh.get_mut(&id) else { continue };
            // Counted before the attempt: a message that breaks sessions must not stop all visits.
            seen.tries = seen.tries.saturating_add(1);
            let seen = seen.clone();
            let read = self.read(&id, &seen, judge).await;
            let Some(folder) = self.memory.folders.get_mut(name) else { break };
            match read {
                Ok(Some(ours)) => {
                    folder.fresh.remove(&id);
                    folder.ours.insert(id, ours);
                }
                Ok(None) => {
                    folder.fresh.remove(&id);
                }
                Err(error) => {
                    if seen.tries >= TRIES {
                        folder.fresh.remove(&id);
                    }
                    if is_gone(&error) {
                        folder.fresh.remove(&id);
                        continue;
                    }
                    let is_passing = matches!(&error, GraphError::Refused(refusal)
                        if !refusal.is_token() && !refusal.is_permission())
                        || matches!(error, GraphError::Unreadable(_));
                    let error = self.failed(Stage::PickupReceive, &error);
                    if !is_passing {
                        return Err(error);
                    }
                    // An old message is not the expected one.
                    if seen.is_marked && Moment::now() - seen.shown < UNREADABLE_FOR {
                        failure.get_or_insert(PickupError { is_passing: true, ..error });
                    }
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Returns the messages to read in this visit.
    fn due(&self, name: &str) -> Vec<String> {
        let Some(folder) = self.memory.folders.get(name) else { return Vec::new() };
        let mut due: Vec<(&String, &Seen)> = folder.fresh.iter().collect();
        let order = |(_, seen): &(&String, &Seen)| {
            (seen.tries, !seen.is_marked, seen.is_old, Reverse(seen.received))
        };
        due.sort_by_key(order);
        let is_other = |(_, seen): &&(&String, &Seen)| seen.is_old && !seen.is_marked;
        let old = due.iter().filter(is_other).count().min(OLD_A_VISIT);
        let new = due.iter().filter(|entry| !is_other(entry)).take(MAX_A_VISIT);
        let old = due.iter().filter(is_other).take(old);
        new.chain(old).map(|(id, _)| (*id).clone()).collect()
    }

    /// Reads a message and classifies it; returns `None` if it is not ours.
    async fn read(
        &mut self,
        id: &str,
        seen: &Seen,
        judge: &dyn MailClassifier,
    ) -> Result<Option<Ours>, GraphError> {
        let mark = self.graph.wire.mark();
        let most = if seen.is_marked { MAX_MAIL } else { MAX_OTHER };
        let mut response = self.fetch(id, most).await?;
        let mut found = finding(judge, &response.body);
        if found.is_none() && response.is_cut && may_notify(&response.body) {
            response = self.fetch(id, MAX_NOTIFICATION).await?;
            found = finding(judge, &response.body);
        }
        let Some((token, finding)) = found else {
            // These are other people's mails.
            self.graph.wire.withhold(mark);
            return Ok(None);
        };
        let receive = response.took();
        let mut mail = response.body;
        mail.truncate(KEPT_OF_MAIL);
        Ok(Some(Ours { token, finding, seen: seen.clone(), receive, mail }))
    }

    async fn fetch(&mut self, id: &str, most: usize) -> Result<Response, GraphError> {
        let path = format!("/messages/{}/$value", encoded(id));
        let response = self.ask(Stage::PickupReceive, &Request::get(&path, most)).await?;
        if response.body.trim_ascii().is_empty() {
            return Err(GraphError::Unreadable(
                "Microsoft Graph lists a message but does not return its content".to_owned(),
            ));
        }
        Ok(response)
    }

    /// Hands out those of our mails that a test waits for, and schedules mails for deletion.
    pub(super) async fn take(
        &mut self,
        name: &str,
        judge: &dyn MailClassifier,
    ) -> Result<(), PickupError> {
        let Some(folder) = self.memory.folders.get_mut(name) else { return Ok(()) };
        let mut again = Vec::new();
        let ids: Vec<String> = folder.ours.keys().cloned().collect();
        for id in ids {
            let Some(ours) = folder.ours.get_mut(&id) else { continue };
            let action = judge.action(&ours.token);
            if action == Action::Keep {
                ours.mail = Vec::new();
                continue;
            }
            let Some(ours) = folder.ours.remove(&id) else { continue };
            if action == Action::Collect && ours.mail.is_empty() {
                // It was left for others, but now a test waits for it.
                again.push((id, ours.seen));
                continue;
            }
            if ours.finding.is_deletable() {
                folder.doomed.insert(id, Doomed::default());
            }
            self.visit.found.push(Found {
                token: ours.token,
                finding: ours.finding,
                not_shown: ours.seen.not_shown,
                shown: ours.seen.shown,
                receive: (action == Action::Collect).then_some(ours.receive),
                folder: Some(name.to_owned()),
                placement: Some(Placement::of_folder(name)),
                landed: ours.seen.received,
                notified: None,
                mail: ours.mail,
            });
        }
        forget_left(folder);
        folder.fresh.extend(again);
        Ok(())
    }
}

/// Drops mails that were left for others, once there are many of them.
fn forget_left(folder: &mut Folder) {
    while folder.ours.len() > MAX_LEFT {
        folder.ours.pop_first();
    }
}

/// Returns whether the message no longer exists.
fn is_gone(error: &GraphError) -> bool {
    error.refusal().is_some_and(mailqos_mail::graph::Refusal::is_missing_item)
}
