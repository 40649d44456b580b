//! Finds the new mails of a folder. UIDNEXT, EXISTS and SEARCH are each wrong on some servers
//! (UIDNEXT stands still, runs ahead or goes back; SEARCH uses an index that lags behind), so they
//! are checked against each other.

use std::collections::HashSet;

use mailqos_model::Stage;

use super::{
    super::PickupError,
    Folder, Habits, MAX_LISTING, is_for_now,
    reply::{self, Value},
    session::{MAX_REPLY, ServerLine, Session},
};

/// Number of newest mails that are inspected individually; the search finds ours among the rest.
pub(super) const LOOKED_INTO: usize = 64;
/// Maximum number of mails that count as ours because the search returned them.
const TAKEN_FOR_OURS: usize = 1024;
/// Number of visits without news after which the folder is listed anyway.
const LISTS_AGAIN_AFTER: u8 = 8;
/// Maximum length of a set of UIDs in a command. Lines should not exceed 1,000 bytes (RFC 2683,
/// section 3.2.1.5).
const MAX_SET: usize = 800;

/// A server's response to opening a folder.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Selected {
    pub(super) validity: Option<u64>,
    pub(super) next: Option<u64>,
    pub(super) exists: Option<u64>,
}

impl Session {
    /// Opens a folder, or returns the reason for the refusal.
    pub(super) async fn open_folder(
        &mut self,
        name: &str,
        verb: &str,
    ) -> Result<Result<Selected, PickupError>, PickupError> {
        let stage = Stage::PickupList;
        let mut selected = Selected::default();
        let command = format!("{verb} {}", reply::quote(&reply::utf7(name)));
        let status = self
            .command(stage, &command, MAX_REPLY, |said| match said {
                ServerLine::Status(status) => {
                    // Some servers send 0, which is not a valid UIDVALIDITY (RFC 9051, section
                    // 2.3.1.1), so nothing can be remembered.
                    let validity = status.number("UIDVALIDITY").filter(|validity| *validity > 0);
                    selected.validity = validity.or(selected.validity);
                    let next = status.number("UIDNEXT").filter(|next| *next <= reply::LAST_UID + 1);
                    selected.next = next.or(selected.next);
                }
                ServerLine::Data(response) => {
                    let text = String::from_utf8_lossy(&response.text).to_ascii_uppercase();
                    if let Some(count) = text.strip_suffix(" EXISTS") {
                        selected.exists = count.trim().parse::<u64>().ok();
                    }
                }
                _ => {}
            })
            .await?;
        Ok(if status.is_ok() { Ok(selected) } else { Err(self.refusal(stage, &command, &status)) })
    }
}

/// The new mails of a folder.
#[derive(Debug, Default)]
pub(super) struct New {
    pub(super) uids: Vec<u64>,
    /// Mails that the search had missed, so that their arrival is less certain.
    pub(super) overlooked: HashSet<u64>,
}

impl Folder {
    /// Returns whether UIDs restarted at lower numbers although the validity is the same (GMX,
    /// 2020), so that stored UIDs refer to other mails.
    pub(super) fn went_back(&self, selected: &Selected) -> bool {
        matches!((selected.next, self.uid_next), (Some(now), Some(before)) if now < before)
    }

    /// Returns whether the listing can be skipped.
    pub(super) fn is_unchanged(&self, selected: &Selected) -> bool {
        let stands_still = selected.next.is_some()
            && selected.next == self.uid_next
            && selected.exists == self.exists;
        selected.exists == Some(0)
            || (self.proved && stands_still && self.unlisted < LISTS_AGAIN_AFTER)
    }

    /// Lists the new mails, by the search and, if that returns fewer than have arrived, by the last
    /// sequence numbers.
    pub(super) async fn list_new(
        &self,
        session: &mut Session,
        selected: &Selected,
        habits: &mut Habits,
    ) -> Result<New, PickupError> {
        let Listing { uids, total } = list(session, self.next.max(1), habits).await?;
        let mut new = New { uids, overlooked: HashSet::new() };
        let Some(exists) = selected.exists else {
            return Ok(new);
        };
        let grown = exists.saturating_sub(self.exists.unwrap_or(0));
        let moved = match (selected.next, self.uid_next) {
            (Some(now), Some(before)) if self.proved => now.saturating_sub(before),
            _ => 0,
        };
        let expected = grown.max(if total == 0 { moved } else { 0 });
        if expected > total {
            let last = expected.min(LOOKED_INTO as u64).min(exists);
            for uid in last_mails(session, exists - last + 1).await? {
                if !self.looked.contains(&uid) && !new.uids.contains(&uid) {
                    new.uids.push(uid);
                    new.overlooked.insert(uid);
                }
            }
        }
        Ok(new)
    }

    /// Records the listed mails, or that no listing was necessary.
    pub(super) fn note_listing(&mut self, selected: &Selected, new: Option<&New>) {
        let Some(new) = new else {
            self.unlisted = self.unlisted.saturating_add(1);
            self.exists = selected.exists.or(self.exists);
            self.uid_next = selected.next.or(self.uid_next);
            return;
        };
        self.unlisted = 0;
        let highest = new.uids.iter().max().copied();
        self.next = self.next.max(highest.map_or(0, |uid| uid + 1));
        match (selected.next, self.uid_next, highest) {
            (Some(now), _, Some(highest)) if now == highest + 1 => self.proved = true,
            (Some(now), Some(before), Some(highest)) if now > before && highest < now => {
                self.proved = true
            }
            // There are new mails, but UIDNEXT has not changed.
            (Some(now), Some(before), Some(_))
                if now <= before && new.uids.iter().any(|uid| *uid < now) =>
            {
                self.proved = false;
            }
            _ => {}
        }
        self.looked.extend(&new.uids);
        while self.looked.len() > 64 * LOOKED_INTO {
            self.looked.pop_first();
        }
        self.exists = selected.exists.or(self.exists);
        self.uid_next = selected.next.or(self.uid_next);
    }
}

/// Result of listing a folder.
struct Listing {
    /// UIDs to inspect.
    uids: Vec<u64>,
    /// Total number of mails.
    total: u64,
}

/// Returns the UIDs from `first` on to inspect: the newest ones, and those that the server's search
/// reports as ours.
async fn list(
    session: &mut Session,
    first: u64,
    habits: &mut Habits,
) -> Result<Listing, PickupError> {
    let range = if first > 1 { format!("UID {first}:*") } else { "ALL".to_owned() };
    let mut found = None;
    if !habits.lacks.contains("SEARCH") {
        found = match search(session, &format!("UID SEARCH {range}")).await? {
            Search::Found(found) => Some(found),
            Search::NotNow => None,
            Search::Unknown => {
                habits.lacks.insert("SEARCH");
                None
            }
        };
    }
    let searches = found.is_some();
    let mut uids = match found {
        Some(found) => found,
        None => {
            let command = format!("UID FETCH {first}:* (UID)");
            let fetched = fetch(session, Stage::PickupList, &command, MAX_LISTING).await?;
            fetched.into_iter().map(|fetched| fetched.uid).collect()
        }
    };
    // `n:*` includes the last mail even if all numbers are below n, and some servers ignore the
    // range.
    uids.retain(|uid| *uid >= first);
    uids.sort_unstable();
    uids.dedup();
    let total = uids.len() as u64;
    if uids.len() > LOOKED_INTO {
        let newest = uids.split_off(uids.len() - LOOKED_INTO);
        let command =
            format!("UID SEARCH {range} OR HEADER X-MailQoS-Token \"mq1\" SUBJECT \"mq1\"");
        let ours = match searches {
            true => search(session, &command).await?.found(),
            false => None,
        };
        let ours: HashSet<u64> = ours.unwrap_or_default().into_iter().collect();
        uids.retain(|uid| ours.contains(uid));
        uids.drain(..uids.len().saturating_sub(TAKEN_FOR_OURS));
        uids.extend(newest);
    }
    Ok(Listing { uids, total })
}

/// Returns the UIDs of the mails from this sequence number on, or none if the server refuses.
async fn last_mails(session: &mut Session, from: u64) -> Result<Vec<u64>, PickupError> {
    let mut uids = Vec::new();
    session
        .command(Stage::PickupList, &format!("FETCH {from}:* (UID)"), MAX_LISTING, |said| {
            if let Some(fetched) = read_fetch(said)
                && uids.len() < reply::MAX_UIDS
            {
                uids.push(fetched.uid);
            }
        })
        .await?;
    Ok(uids)
}

/// Returns the highest UID of the folder, which is that of the last mail, or `None` if the folder
/// is empty or the server does not report it.
pub(super) async fn highest(
    session: &mut Session,
    exists: u64,
) -> Result<Option<u64>, PickupError> {
    if exists == 0 {
        return Ok(None);
    }
    Ok(last_mails(session, exists).await?.into_iter().max())
}

/// Returns the current UID of the last mail.
pub(super) async fn last_uid(session: &mut Session) -> Result<Option<u64>, PickupError> {
    let mut last = None;
    session
        .command(Stage::PickupList, "FETCH * (UID)", MAX_REPLY, |said| {
            last = read_fetch(said).map(|fetched| fetched.uid).max(last);
        })
        .await?;
    Ok(last)
}

/// Result of a search.
pub(super) enum Search {
    Found(Vec<u64>),
    /// The server temporarily refuses.
    NotNow,
    /// The server does not support this search.
    Unknown,
}

impl Search {
    pub(super) fn found(self) -> Option<Vec<u64>> {
        match self {
            Self::Found(uids) => Some(uids),
            Self::NotNow | Self::Unknown => None,
        }
    }
}

pub(super) async fn search(session: &mut Session, command: &str) -> Result<Search, PickupError> {
    let mut uids: Vec<u64> = Vec::new();
    let status = session
        .command(Stage::PickupList, command, MAX_LISTING, |said| {
            if let ServerLine::Data(response) = said
                && uids.len() < reply::MAX_UIDS
                && let Some(found) = reply::values(response).and_then(|values| reply::uids(&values))
            {
                uids.extend(found);
            }
        })
        .await?;
    Ok(match status {
        status if status.is_ok() => Search::Found(uids),
        status if is_for_now(&status) => Search::NotNow,
        _ => Search::Unknown,
    })
}

pub(super) fn read_fetch(said: &ServerLine) -> Option<reply::Fetched> {
    match said {
        ServerLine::Data(response) => {
            reply::values(response).and_then(|values: Vec<Value>| reply::fetched(&values))
        }
        _ => None,
    }
}

/// Sends FETCH; any result but OK is an error.
pub(super) async fn fetch(
    session: &mut Session,
    stage: Stage,
    command: &str,
    most: usize,
) -> Result<Vec<reply::Fetched>, PickupError> {
    let (all, refusal) = fetch_some(session, stage, command, most).await?;
    refusal.map_or(Ok(all), Err)
}

/// Sends FETCH and returns the mails, with the reason if some are missing. A server that can't
/// return one mail replies NO after the others (RFC 2180, section 4.1.2).
pub(super) async fn fetch_some(
    session: &mut Session,
    stage: Stage,
    command: &str,
    most: usize,
) -> Result<(Vec<reply::Fetched>, Option<PickupError>), PickupError> {
    let mut all = Vec::new();
    let status = session.command(stage, command, most, |said| all.extend(read_fetch(said))).await?;
    let refusal = (!status.is_ok()).then(|| session.refusal(stage, command, &status));
    Ok((all, refusal))
}

/// Returns sets of UIDs, each short enough for a command, with consecutive UIDs as ranges.
pub(super) fn sets(uids: impl IntoIterator<Item = u64>) -> Vec<String> {
    let mut sorted: Vec<u64> = uids.into_iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut sets: Vec<String> = Vec::new();
    for run in sorted.chunk_by(|before, uid| before + 1 == *uid) {
        let range = match run {
            [first, .., last] => format!("{first}:{last}"),
            _ => run[0].to_string(),
        };
        match sets.last_mut() {
            Some(set) if set.len() + range.len() < MAX_SET => {
                set.push(',');
                set.push_str(&range);
            }
            _ => sets.push(range),
        }
    }
    sets
}

/// Returns a single set of a few UIDs.
pub(super) fn set(uids: impl IntoIterator<Item = u64>) -> String {
    sets(uids).join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sets_contain_each_uid_once_in_short_lines(uids in proptest::collection::vec(1..5000_u64, 0..600)) {
            let sets = sets(uids.clone());
            let mut read: Vec<u64> = Vec::new();
            for set in &sets {
                prop_assert!(set.len() <= MAX_SET, "{}", set.len());
                for range in set.split(',') {
                    let (from, to) = range.split_once(':').unwrap_or((range, range));
                    read.extend(from.parse::<u64>().expect("a number")..=to.parse().expect("a number"));
                }
            }
            let mut expected = uids;
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(read, expected);
        }
    }
}
