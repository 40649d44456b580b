//! Folders and messages: listings, delta queries, contents, deletions.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::atomic::Ordering,
};

use mailqos_model::UtcMicros;
use serde_json::{Map, Value, json};

use super::{
    super::{INBOX, JUNK, StoredMail, delivery},
    Answer, Asked, DeltaState, DeltaTrouble, Shared,
};
use crate::lock;

/// Folders of a mailbox: the well-known name, the display name, the name in the mailboxes
/// (<https://learn.microsoft.com/graph/api/resources/mailfolder>).
const FOLDERS: [(&str, &str, &str); 6] = [
    ("inbox", "Inbox", INBOX),
    ("junkemail", "Junk Email", JUNK),
    ("drafts", "Drafts", "Drafts"),
    ("sentitems", "Sent Items", "Sent Items"),
    ("deleteditems", "Deleted Items", "Deleted Items"),
    ("", "Offers", "Offers"),
];
/// The properties of a message that are known here; others are refused.
const PROPERTIES: [&str; 12] = [
    "id",
    "subject",
    "receivedDateTime",
    "sentDateTime",
    "internetMessageId",
    "isDraft",
    "isRead",
    "parentFolderId",
    "from",
    "hasAttachments",
    "createdDateTime",
    "lastModifiedDateTime",
];
/// The most messages that a delta query with a filter returns
/// (<https://learn.microsoft.com/graph/delta-query-messages>).
const MAX_FILTERED: usize = 5000;

fn folder_id(display: &str) -> String {
    let hex: String = display.bytes().map(|byte| format!("{byte:02X}")).collect();
    format!("AQMkAD{hex}AAA=")
}

/// The folder that a segment of a path means, as the mailboxes call it.
fn resolve(segment: &str) -> Option<&'static str> {
    let is = |(known, display, _): &&(&str, &str, &'static str)| {
        (!known.is_empty() && known.eq_ignore_ascii_case(segment)) || folder_id(display) == segment
    };
    FOLDERS.iter().find(is).map(|(_, _, name)| *name)
}

fn no_folder() -> Answer {
    Answer::error(404, "ErrorItemNotFound", "The specified object was not found in the store.")
}

fn no_message() -> Answer {
    no_folder()
}

pub(super) fn folders(shared: &Shared, asked: &Asked<'_>, user: &str) -> Answer {
    let wanted = match asked.option("$filter") {
        None => None,
        Some(filter) => {
            let quoted = filter
                .strip_prefix("displayName eq '")
                .and_then(|rest| Some(rest.strip_suffix('\'')?.replace("''", "'")));
            match quoted {
                Some(name) => Some(name),
                None => return Answer::error(400, "ErrorInvalidUrlQueryFilter", "Invalid filter."),
            }
        }
    };
    let is_wanted =
        |display: &str| wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(display));
    let found: Vec<Value> = FOLDERS
        .iter()
        .filter(|(_, display, name)| {
            is_wanted(display) && shared.mail.mailboxes.look(user, name, |_| ()).is_some()
        })
        .map(|(_, display, _)| json!({ "id": folder_id(display), "displayName": display }))
        .collect();
    Answer::json(200, &json!({ "value": found }))
}

pub(super) fn folder(shared: &Shared, user: &str, segment: &str) -> Answer {
    let Some(name) = resolve(segment) else { return no_folder() };
    let Some(count) = shared.mail.mailboxes.look(user, name, |folder| folder.mails.len()) else {
        return no_folder();
    };
    let display = FOLDERS.iter().find(|(_, _, known)| *known == name).map_or("", |found| found.1);
    let body = json!({ "id": folder_id(display), "displayName": display, "totalItemCount": count });
    Answer::json(200, &body)
}

/// The properties that a request selects.
fn selected(asked: &Asked<'_>) -> Result<Vec<String>, Answer> {
    let Some(text) = asked.option("$select") else {
        return Ok(PROPERTIES.iter().map(|name| (*name).to_owned()).collect());
    };
    let names: Vec<String> = text.split(',').map(str::to_owned).collect();
    match names.iter().find(|name| !PROPERTIES.contains(&name.as_str())) {
        None => Ok(names),
        Some(wrong) => Err(Answer::error(
            400,
            "RequestBroker--ParseUri",
            &format!(
                "Could not find a property named '{wrong}' on type 'Microsoft.OutlookServices.Message'."
            ),
        )),
    }
}

fn time(at: UtcMicros) -> String {
    let second = jiff::Timestamp::from_second(at.0.div_euclid(1_000_000));
    second.expect("a moment of our time").strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn message((id, folder): (&str, &str), mail: &StoredMail, select: &[String]) -> Value {
    let field = |name: &str| delivery::field(&mail.bytes, name);
    let display = FOLDERS.iter().find(|(_, _, known)| *known == folder).map_or("", |found| found.1);
    let mut value = Map::new();
    value.insert("@odata.etag".to_owned(), json!("W/\"CQAAABYAAAARn2vdzPFjSbaPPxzjlzOTAAASsKZz\""));
    value.insert("id".to_owned(), json!(id));
    for name in select {
        let property = match name.as_str() {
            "subject" => json!(field("Subject")),
            "receivedDateTime" | "createdDateTime" | "sentDateTime" | "lastModifiedDateTime" => {
                json!(time(mail.internal_date))
            }
            "internetMessageId" => json!(field("Message-ID")),
            "isDraft" => json!(folder == "Drafts"),
            "parentFolderId" => json!(folder_id(display)),
            "from" => json!({ "emailAddress": { "address": field("From") } }),
            "id" => continue,
            _ => json!(false),
        };
        value.insert(name.clone(), property);
    }
    Value::Object(value)
}

/// Lists a folder (<https://learn.microsoft.com/graph/api/user-list-messages>).
pub(super) fn list(shared: &Shared, asked: &Asked<'_>, user: &str, segment: &str) -> Answer {
    let Some(name) = resolve(segment) else { return no_folder() };
    let select = match selected(asked) {
        Ok(select) => select,
        Err(refusal) => return refusal,
    };
    let top = asked.option("$top").and_then(|top| top.parse().ok()).unwrap_or(10_usize);
    let Some(folder) = shared.mail.mailboxes.snapshot(user, name) else { return no_folder() };
    let mut mails = folder.mails;
    mails.sort_by_key(|mail| std::cmp::Reverse((mail.internal_date, mail.uid)));
    mails.truncate(top);
    let mut state = lock(&shared.state);
    let mut values = Vec::new();
    for mail in &mails {
        let id = shared.id(&mut state, user, name, mail.uid);
        values.push(message((&id, name), mail, &select));
    }
    Answer::json(200, &json!({ "value": values }))
}

/// Answers a delta query (<https://learn.microsoft.com/graph/api/message-delta>).
pub(super) fn delta(shared: &Shared, asked: &Asked<'_>, user: &str, segment: &str) -> Answer {
    let Some(name) = resolve(segment) else { return no_folder() };
    let Some(folder) = shared.mail.mailboxes.snapshot(user, name) else { return no_folder() };
    let token = asked.option("$deltatoken").or_else(|| asked.option("$skiptoken"));
    let state = match token {
        Some(token) => {
            if asked.query.len() > 1 {
                let text = format!("options in addition to a state token: {}", asked.request.line);
                lock(&shared.state).violations.push(text);
            }
            let known = lock(&shared.state).deltas.get(token).cloned();
            match known {
                Some(state) if state.folder != name => {
                    let text = "The state token is of another folder.";
                    Err(Answer::error(400, "ErrorInvalidSyncStateData", text))
                }
                Some(state) if state.is_page => Ok(state),
                Some(state) => Ok(next_round(shared, state, &folder.mails)),
                // https://github.com/microsoftgraph/microsoft-graph-docs/issues/2350
                None => Err(Answer::error(
                    410,
                    "SyncStateNotFound",
                    "The sync state generation is not found; generation=149;[highest=157][157][155][156].",
                )),
            }
        }
        None => first_round(asked, name, folder.mails.clone()),
    };
    match state {
        Ok(state) => page(shared, asked, user, (segment, name), state),
        Err(refusal) => refusal,
    }
}

/// Checks the options of a first request: a few are supported.
fn first_round(
    asked: &Asked<'_>,
    name: &str,
    mut mails: Vec<StoredMail>,
) -> Result<DeltaState, Answer> {
    let select = selected(asked)?;
    let unsupported = |text: &str| Answer::error(400, "ErrorInvalidUrlQuery", text);
    let mut is_filtered = false;
    for (option, value) in &asked.query {
        match option.as_str() {
            "$select" | "$top" | "$expand" | "changeType" => {}
            "$orderby" if value == "receivedDateTime desc" => {}
            "$filter" => {
                let since = value
                    .strip_prefix("receivedDateTime ge ")
                    .or_else(|| value.strip_prefix("receivedDateTime gt "))
                    .and_then(|time| time.parse::<jiff::Timestamp>().ok());
                let Some(since) = since else {
                    return Err(unsupported("The filter is not supported with change tracking."));
                };
                is_filtered = true;
                mails.retain(|mail| mail.internal_date.0 >= since.as_microsecond());
            }
            other => {
                let text = format!(
                    "The following parameters are not supported with change tracking over the \
                     'Messages' resource: '{other}'."
                );
                return Err(unsupported(&text));
            }
        }
    }
    mails.sort_by_key(|mail| std::cmp::Reverse((mail.internal_date, mail.uid)));
    if is_filtered {
        mails.truncate(MAX_FILTERED);
    }
    let pending: VecDeque<u32> = mails.iter().map(|mail| mail.uid).collect();
    Ok(DeltaState {
        folder: name.to_owned(),
        known: pending.iter().copied().collect(),
        pending,
        removed: Vec::new(),
        select,
        touched: u64::MAX,
        is_page: true,
    })
}

/// What has changed since the last round.
fn next_round(shared: &Shared, mut delta: DeltaState, mails: &[StoredMail]) -> DeltaState {
    let mut state = lock(&shared.state);
    let now: BTreeSet<u32> = mails.iter().map(|mail| mail.uid).collect();
    let mut new: Vec<u32> = now.difference(&delta.known).copied().collect();
    if delta.touched != state.touched {
        new.extend(now.intersection(&delta.known));
    }
    delta.removed = delta.known.difference(&now).copied().collect();
    let missed = state.to_miss.min(new.len());
    state.to_miss -= missed;
    new.drain(..missed);
    delta.pending = new.into();
    delta.known = now;
    delta.touched = state.touched;
    delta.is_page = true;
    delta
}

fn page(
    shared: &Shared,
    asked: &Asked<'_>,
    user: &str,
    (segment, name): (&str, &str),
    mut delta: DeltaState,
) -> Answer {
    let wanted = asked.request.field("prefer").and_then(|prefer| {
        let (_, rest) = prefer.split_once("odata.maxpagesize=")?;
        rest.split([',', ' ']).next()?.parse().ok()
    });
    let size = wanted.unwrap_or(10_usize).min(shared.options.page);
    let mut state = lock(&shared.state);
    let trouble = state.trouble;
    if trouble == DeltaTrouble::Slow && size > 50 {
        return Answer::error(504, "UnknownError", "");
    }
    if delta.touched == u64::MAX {
        delta.touched = state.touched;
    }
    let mut values = Vec::new();
    let again = delta.pending.clone();
    while values.len() < size
        && let Some(uid) = delta.pending.pop_front()
    {
        let mail = shared
            .mail
            .mailboxes
            .look(user, name, |folder| folder.mails.iter().find(|mail| mail.uid == uid).cloned());
        if let Some(Some(mail)) = mail {
            let id = shared.id(&mut state, user, name, uid);
            values.push(message((&id, name), &mail, &delta.select));
        }
    }
    for uid in std::mem::take(&mut delta.removed) {
        let id = shared.id(&mut state, user, name, uid);
        values.push(json!({ "id": id, "@removed": { "reason": "deleted" } }));
    }
    if trouble == DeltaTrouble::Twice {
        values.extend(values.clone());
    }
    if trouble == DeltaTrouble::Loop {
        delta.pending = again;
    }
    delta.is_page = !delta.pending.is_empty();
    let token = format!("GwcBoTmPuoGNlgXgF1ny{}", shared.count.fetch_add(1, Ordering::Relaxed));
    let (link, kind) = match delta.is_page {
        true => ("@odata.nextLink", "$skiptoken"),
        false => ("@odata.deltaLink", "$deltatoken"),
    };
    let url = format!(
        "https://{}:{}/v1.0/users/{user}/mailFolders/{segment}/messages/delta?{kind}={token}",
        shared.options.host, shared.port
    );
    state.deltas.insert(token, delta);
    let context = format!(
        "https://{}:{}/v1.0/$metadata#Collection(message)",
        shared.options.host, shared.port
    );
    match trouble {
        DeltaTrouble::Cut => {
            let error = json!({ "error": { "code": "ErrorInvalidIdMalformed", "message": "Id is malformed." } });
            let mut answer =
                Answer::json(200, &json!({ "@odata.context": context, "value": [error] }));
            // The closing brackets are missing.
            answer.body.truncate(answer.body.len() - 2);
            answer
        }
        DeltaTrouble::NoLink => Answer::json(200, &json!({ "value": values })),
        _ => Answer::json(200, &json!({ "@odata.context": context, link: url, "value": values })),
    }
}

fn stored(shared: &Shared, user: &str, id: &str) -> Option<(String, StoredMail)> {
    let (folder, uid) = shared.find(user, id)?;
    let mail = shared
        .mail
        .mailboxes
        .look(user, &folder, |known| known.mails.iter().find(|mail| mail.uid == uid).cloned())??;
    Some((folder, mail))
}

pub(super) fn content(shared: &Shared, user: &str, id: &str) -> Answer {
    match stored(shared, user, id) {
        Some((_, mail)) => {
            Answer { status: 200, kind: "text/plain", body: mail.bytes.to_vec(), retry_after: None }
        }
        None => no_message(),
    }
}

pub(super) fn properties(shared: &Shared, asked: &Asked<'_>, user: &str, id: &str) -> Answer {
    let select = match selected(asked) {
        Ok(select) => select,
        Err(refusal) => return refusal,
    };
    match stored(shared, user, id) {
        Some((folder, mail)) => Answer::json(200, &message((id, &folder), &mail, &select)),
        None => no_message(),
    }
}

/// Deletes permanently (<https://learn.microsoft.com/graph/api/message-permanentdelete>).
pub(super) fn purge(shared: &Shared, user: &str, id: &str) -> Answer {
    let Some((folder, mail)) = stored(shared, user, id) else { return no_message() };
    shared.mail.mailboxes.change(user, &folder, |known| {
        known.mails.retain(|other| other.uid != mail.uid);
    });
    let subject = delivery::field(&mail.bytes, "Subject").unwrap_or_default();
    let mut state = lock(&shared.state);
    state.purged.push(subject);
    state.ids.remove(id);
    Answer::empty(204)
}

/// Moves to Deleted Items (<https://learn.microsoft.com/graph/api/message-delete>).
pub(super) fn delete(shared: &Shared, user: &str, id: &str) -> Answer {
    match stored(shared, user, id) {
        Some((folder, mail)) => {
            relocate(shared, user, (id, &folder, mail.uid), "Deleted Items");
            Answer::empty(204)
        }
        None => no_message(),
    }
}

/// Moves a message; its identifier stays the same.
pub(super) fn relocate(shared: &Shared, user: &str, (id, from, uid): (&str, &str, u32), to: &str) {
    shared.mail.mailboxes.move_mails(user, from, to, |mail| mail.uid == uid);
    let uid =
        shared.mail.mailboxes.look(user, to, |folder| folder.mails.last().map(|mail| mail.uid));
    if let Some(Some(uid)) = uid {
        let place = (user.to_owned(), to.to_owned(), uid);
        lock(&shared.state).ids.insert(id.to_owned(), place);
    }
}
