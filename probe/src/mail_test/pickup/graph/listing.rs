//! Lists a folder by a delta query (<https://learn.microsoft.com/graph/api/message-delta>), and
//! periodically also directly, because delta queries were reported to miss messages
//! (<https://github.com/microsoftgraph/microsoft-graph-docs/issues/2153>).

use std::time::Instant;

use mailqos_mail::graph::{GraphError, Request, Response, Target};
use mailqos_model::{Micros, Stage, UtcMicros};

use super::{Folder, GraphVisit, MAX_REPLY, PickupError, Seen};
use crate::mail_test::evidence::Moment;

/// The properties that a listing returns.
const SELECT: &str = "$select=receivedDateTime,subject,internetMessageId";
/// Age from which messages are not listed: no test waits for a mail for longer than 30 days.
const WINDOW: Micros = Micros::from_secs(31 * 86_400);
/// Number of entries per page of a delta query.
const PAGE: u32 = 200;
/// Fewest entries of a page, after the service has failed to return longer ones in time.
const MIN_PAGE: u32 = 10;
/// Maximum number of pages of a round. A filtered query returns at most 5,000 messages
/// (<https://learn.microsoft.com/graph/delta-query-messages>).
const MAX_PAGES: usize = 200;
/// Time between two direct listings in addition to the delta query.
const CHECK_INTERVAL: Micros = Micros::from_secs(30);
/// Number of messages returned by a direct listing, newest first.
const CHECKED: usize = 25;
/// Minimum time before the start of a round at which a received message should be part of the
/// round.
const LATE: Micros = Micros::from_secs(10);
/// Maximum number of messages of a folder that are remembered.
const MAX_KNOWN: usize = 100_000;

/// The failure of a delta query that does not work as documented.
fn broken(how: &str) -> GraphError {
    GraphError::Unreadable(format!("a delta query of Microsoft Graph {how}"))
}

/// Whether a page took the service too long
/// (<https://github.com/microsoftgraph/microsoft-graph-docs/issues/5288>).
fn is_too_slow(error: &GraphError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.status == 504)
}

/// An entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    id: String,
    is_removed: bool,
    received: Option<UtcMicros>,
    /// Whether its subject or its Message-ID resembles ours.
    is_marked: bool,
}

/// A page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    entries: Vec<Entry>,
    /// Link to the next page of the round.
    next: Option<String>,
    /// Link to the changes after this round.
    changes: Option<String>,
}

impl Page {
    fn read(json: &serde_json::Value) -> Option<Self> {
        let text = |name: &str| json.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        let entries = json.get("value")?.as_array()?;
        // An error in place of a message, with status 200
        // (https://github.com/microsoftgraph/microsoft-graph-docs-contrib/issues/106): it is unknown
        // which messages are missing.
        if entries.iter().any(|entry| entry.get("id").is_none() && entry.get("error").is_some()) {
            return None;
        }
        Some(Self {
            entries: entries.iter().filter_map(Entry::read).collect(),
            next: text("@odata.nextLink"),
            changes: text("@odata.deltaLink"),
        })
    }
}

impl Entry {
    fn read(json: &serde_json::Value) -> Option<Self> {
        let text = |name: &str| json.get(name).and_then(|value| value.as_str());
        let marks = |name: &str, mark: &str| text(name).is_some_and(|value| value.contains(mark));
        Some(Self {
            id: text("id").filter(|id| !id.is_empty())?.to_owned(),
            is_removed: json.get("@removed").is_some(),
            received: text("receivedDateTime").and_then(moment),
            is_marked: marks("subject", "mq1:") || marks("internetMessageId", "mq1."),
        })
    }
}

/// Parses a time such as `2026-12-01T09:00:00Z`.
fn moment(text: &str) -> Option<UtcMicros> {
    text.parse::<jiff::Timestamp>().ok().map(|at| UtcMicros(at.as_microsecond()))
}

impl Folder {
    /// Returns a time at which messages that appear now were known to be absent.
    fn not_shown(&self) -> Option<Moment> {
        if self.is_incomplete { self.checked } else { self.listed }
    }

    /// Records the entries of a page; returns the number of new messages.
    fn note(&mut self, entries: Vec<Entry>, shown: Moment, not_shown: Option<Moment>) -> usize {
        let mut count = 0;
        for entry in entries {
            if entry.is_removed {
                self.known.remove(&entry.id);
                self.fresh.remove(&entry.id);
                self.ours.remove(&entry.id);
                self.doomed.remove(&entry.id);
                continue;
            }
            if !self.known.insert(entry.id.clone()) {
                continue;
            }
            count += 1;
            let seen = Seen {
                not_shown,
                shown,
                received: entry.received,
                is_marked: entry.is_marked,
                is_old: self.listed.is_none(),
                tries: 0,
            };
            self.fresh.insert(entry.id, seen);
        }
        count
    }
}

impl GraphVisit<'_> {
    /// Lists the new messages of a folder.
    pub(super) async fn list_folder(
        &mut self,
        name: &str,
        segment: &str,
    ) -> Result<(), PickupError> {
        let began = Instant::now();
        let result = self.list(name, segment).await;
        let took = self.graph.wire.received_at().saturating_duration_since(began);
        let so_far = self.visit.phases.list.unwrap_or_default();
        self.visit.phases.list = Some(so_far + Micros::from(took));
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                if error.refusal().is_some_and(mailqos_mail::graph::Refusal::is_missing_item) {
                    // The folder was removed, and may exist again with another identifier.
                    self.memory.folders.remove(name);
                }
                if self.visit.phases.list == Some(Micros::ZERO) {
                    self.visit.phases.list = None;
                }
                Err(self.failed(Stage::PickupList, &error))
            }
        }
    }

    async fn list(&mut self, name: &str, segment: &str) -> Result<(), GraphError> {
        let folder = self.folder(name);
        if folder.known.len() > MAX_KNOWN {
            let segment = folder.segment.take();
            *folder = Folder { segment, ..Folder::default() };
        }
        match self.round(name, segment).await {
            Err(error)
                if error.refusal().is_some_and(mailqos_mail::graph::Refusal::is_expired_state) =>
            {
                self.graph.wire.note("the state of the delta query has expired; listing again");
                self.folder(name).link = None;
                self.round(name, segment).await?;
            }
            // Only the other listing is left.
            Err(GraphError::Unreadable(text)) => {
                self.graph.wire.note(&text);
                self.folder(name).is_incomplete = true;
            }
            result => result?,
        }
        self.check(name, segment).await
    }

    fn folder(&mut self, name: &str) -> &mut Folder {
        self.memory.folders.entry(name.to_owned()).or_default()
    }

    /// Performs a round of a delta query with all its pages.
    async fn round(&mut self, name: &str, segment: &str) -> Result<(), GraphError> {
        let folder = self.folder(name);
        let not_shown = folder.not_shown();
        let since = (UtcMicros::now() - WINDOW).timestamp().strftime("%Y-%m-%dT%H:%M:%SZ");
        let first = format!(
            "/mailFolders/{segment}/messages/delta?{SELECT}\
             &$filter=receivedDateTime%20ge%20{since}&$orderby=receivedDateTime%20desc"
        );
        let (mut link, size) = (folder.link.clone(), folder.page.unwrap_or(PAGE));
        let mut before = Vec::new();
        let began = Moment::now();
        for _ in 0..MAX_PAGES {
            let target = match &link {
                Some(link) => Target::Link(link),
                None => Target::Mailbox(&first),
            };
            let page = Request { target, page: Some(size), ..Request::get("", MAX_REPLY) };
            let answer = self.page(&page).await;
            let folder = self.folder(name);
            if answer.as_ref().is_err_and(is_too_slow) {
                folder.page = Some((size / 4).max(MIN_PAGE));
            }
            let (response, page) = answer?;
            let ids: Vec<String> = page.entries.iter().map(|entry| entry.id.clone()).collect();
            if !ids.is_empty() && ids == before {
                folder.link = None;
                return Err(broken("repeats a page"));
            }
            before = ids;
            folder.note(page.entries, Moment::of(response.ended), not_shown);
            match (page.next, page.changes) {
                (Some(next), _) => link = Some(next),
                (None, Some(changes)) => {
                    folder.link = Some(changes);
                    folder.listed = Some(began);
                    return Ok(());
                }
                (None, None) => {
                    // It is unknown which entries are missing.
                    folder.link = None;
                    return Err(broken("ended without a link"));
                }
            }
        }
        self.folder(name).link = None;
        Err(broken("has too many pages"))
    }

    /// Compares the newest messages with those that delta queries have returned. Messages found
    /// here first may have arrived very recently, so only an earlier direct listing shows when they
    /// were absent.
    async fn check(&mut self, name: &str, segment: &str) -> Result<(), GraphError> {
        let folder = self.folder(name);
        let began = Moment::now();
        let is_due = folder.check_began.is_none_or(|last| began - last >= CHECK_INTERVAL);
        if !is_due && !folder.is_incomplete {
            return Ok(());
        }
        let (before, round_began) = (folder.checked, folder.listed);
        let path = format!(
            "/mailFolders/{segment}/messages?{SELECT}&$orderby=receivedDateTime%20desc&$top={CHECKED}"
        );
        let (response, page) = self.page(&Request::get(&path, MAX_REPLY)).await?;
        let at_round = round_began
            .zip(self.graph.clock())
            .map(|(began, (least, _))| UtcMicros::now() - (Moment::now() - began) + least);
        let folder = self.folder(name);
        let is_overdue = |entry: &&Entry| {
            let received = entry.received.zip(at_round);
            !folder.known.contains(&entry.id)
                && received.is_some_and(|(received, round)| received + LATE < round)
        };
        let missed = page.entries.iter().filter(is_overdue).count();
        let total = page.entries.len();
        let new = folder.note(page.entries, Moment::of(response.ended), before);
        folder.check_began = Some(began);
        // If all messages of a full page are new, there may be more of them.
        folder.checked = (new < CHECKED || total < CHECKED).then_some(began);
        if missed > 0 && !folder.is_incomplete {
            folder.is_incomplete = true;
            tracing::warn!(
                folder = name,
                missed,
                "delta queries miss messages; the folder is also listed at every pick-up"
            );
            self.graph.wire.note("the delta query has missed messages; listing the folder as well");
        }
        Ok(())
    }

    async fn page(&mut self, request: &Request<'_>) -> Result<(Response, Page), GraphError> {
        let mark = self.graph.wire.mark();
        let response = self.ask(Stage::PickupList, request).await?;
        let json = response.json()?;
        let page = Page::read(&json).ok_or_else(|| {
            GraphError::Unreadable("Microsoft Graph did not return a list of messages".to_owned())
        })?;
        if page.entries.iter().any(|entry| !entry.is_removed && !entry.is_marked) {
            // Contains subjects of other people's mails.
            self.graph.wire.withhold(mark);
        }
        Ok((response, page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_whatever_is_missing() {
        let json = serde_json::json!({
            "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#Collection(message)",
            "@odata.deltaLink": "https://graph.microsoft.com/v1.0/x?$deltatoken=y",
            "value": [
                { "id": "A=", "receivedDateTime": "2026-12-01T09:00:00Z", "subject": "mailqos test mq1:x",
                  "internetMessageId": "<other@outlook.com>" },
                { "id": "B=", "receivedDateTime": null, "subject": null, "internetMessageId": "<mq1.00@x>" },
                { "id": "C=", "@removed": { "reason": "deleted" } },
                { "id": "D=", "subject": "Offer" },
                { "subject": "without an identifier" },
                7,
            ],
        });
        let page = Page::read(&json).expect("a page");
        let told: Vec<_> = page
            .entries
            .iter()
            .map(|entry| (&*entry.id, entry.is_removed, entry.is_marked, entry.received.is_some()))
            .collect();
        assert_eq!(
            told,
            [
                ("A=", false, true, true),
                ("B=", false, true, false),
                ("C=", true, false, false),
                ("D=", false, false, false),
            ]
        );
        assert_eq!((page.next.is_some(), page.changes.is_some()), (false, true));
        assert!(Page::read(&serde_json::json!({ "error": {} })).is_none());
        let error = serde_json::json!({ "error": { "code": "ErrorInvalidIdMalformed" } });
        assert!(Page::read(&serde_json::json!({ "value": [{ "id": "A=" }, error] })).is_none());
    }

    #[test]
    fn a_message_is_new_once() {
        let entry = |id: &str, is_removed| Entry {
            id: id.to_owned(),
            is_removed,
            received: None,
            is_marked: true,
        };
        let mut folder = Folder::default();
        let now = Moment::of_micros(1);
        assert_eq!(folder.note(vec![entry("a", false), entry("b", false)], now, None), 2);
        assert!(folder.fresh.values().all(|seen| seen.is_old));
        folder.listed = Some(now);
        // Marked as read, which is only an update.
        assert_eq!(folder.note(vec![entry("a", false)], now, Some(now)), 0);
        assert_eq!(folder.note(vec![entry("a", true), entry("c", false)], now, Some(now)), 1);
        assert!(!folder.fresh.contains_key("a") && !folder.fresh["c"].is_old);
        // Moved to another folder and back.
        assert_eq!(folder.note(vec![entry("a", false)], now, Some(now)), 1);
    }
}
