//! Sends messages in MIME (<https://learn.microsoft.com/graph/outlook-send-mime-message>): directly, or
//! as a draft that is sent later. What Exchange does to them is that of public reports:
//!
//! - a header field of the sender's own survives only if the mailbox knows it as a named property
//!   already (<https://github.com/microsoftgraph/microsoft-graph-docs-contrib/issues/424>);
//! - `Auto-Submitted` and `Return-Path` never survive
//!   (<https://github.com/microsoftgraph/msgraph-sdk-dotnet/issues/2209>);
//! - `Message-ID` and `Date` are the service's own, as in the example of
//!   <https://learn.microsoft.com/graph/api/user-post-messages>;
//! - a copy always goes to Sent Items
//!   (<https://github.com/microsoftgraph/microsoft-graph-docs/issues/18698>).

use std::sync::{Arc, atomic::Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailqos_model::UtcMicros;
use serde_json::{Value, json};

use super::{
    super::{delivery, lock},
    Answer, Asked, MAX_MIME, Shared, mail,
};

/// Fields that Exchange keeps of a message in MIME, in lower case.
const KEPT: [&str; 14] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "subject",
    "in-reply-to",
    "references",
    "importance",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "x-auto-response-suppress",
];

/// Reads the content of a request in MIME.
fn mime(asked: &Asked<'_>) -> Result<Vec<u8>, Answer> {
    if asked.request.field("content-type").is_none_or(|kind| !kind.starts_with("text/plain")) {
        let text = "Cannot process the request because it is malformed or incorrect.";
        return Err(Answer::error(400, "RequestBodyRead", text));
    }
    if asked.request.body.len() > MAX_MIME {
        let text = "The request size exceeds the maximum limit.";
        return Err(Answer::error(413, "RequestEntityTooLarge", text));
    }
    STANDARD.decode(&asked.request.body).map_err(|_| {
        let text = "Invalid base64 string for MIME content.";
        Answer::error(400, "ErrorMimeContentInvalidBase64String", text)
    })
}

/// What Exchange makes of a message.
fn rewritten(shared: &Shared, user: &str, content: &[u8]) -> Vec<u8> {
    let number = shared.count.fetch_add(1, Ordering::Relaxed);
    let date = shared.mail.server_date(UtcMicros::now());
    let mut head = format!(
        "Message-ID: <AS8PR{number:08}MB@AS8PR{number:08}MB.eurprd03.prod.outlook.com>\r\nDate: {date}\r\n"
    )
    .into_bytes();
    let named = lock(&shared.state).named.clone();
    for (name, range) in delivery::fields(content) {
        let lower = name.to_ascii_lowercase();
        if KEPT.contains(&lower.as_str()) || named.contains(&(user.to_owned(), lower)) {
            head.extend_from_slice(&content[range]);
        }
    }
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(&content[delivery::header_end(content)..]);
    head
}

/// The addresses in a field.
fn addresses(content: &[u8], name: &str) -> Vec<String> {
    let value = delivery::field(content, name).unwrap_or_default();
    value
        .split(',')
        .map(|part| part.rsplit_once('<').map_or(part, |(_, rest)| rest))
        .map(|part| part.trim().trim_end_matches('>').to_ascii_lowercase())
        .filter(|address| address.contains('@'))
        .collect()
}

/// Creates a draft.
pub(super) fn draft(shared: &Shared, asked: &Asked<'_>, user: &str) -> Answer {
    let content = match mime(asked) {
        Ok(content) => rewritten(shared, user, &content),
        Err(refusal) => return refusal,
    };
    let Some((id, _)) = store(shared, user, content) else {
        return Answer::error(404, "ErrorItemNotFound", "The folder was not found.");
    };
    Answer::json(201, &json!({ "id": id, "isDraft": true }))
}

fn store(shared: &Shared, user: &str, content: Vec<u8>) -> Option<(String, u32)> {
    let clock = |moment| shared.mail.server_time(moment);
    shared.mail.mailboxes.put((user, "Drafts"), [content], false, clock)?;
    let uid = shared
        .mail
        .mailboxes
        .look(user, "Drafts", |folder| folder.mails.last().map(|mail| mail.uid))??;
    let id = shared.id(&mut lock(&shared.state), user, "Drafts", uid);
    Some((id, uid))
}

/// Changes a draft: extended properties that are header fields, which makes them known to the
/// mailbox (<https://learn.microsoft.com/graph/api/singlevaluelegacyextendedproperty-post-singlevalueextendedproperties>).
pub(super) fn change(shared: &Shared, asked: &Asked<'_>, user: &str, id: &str) -> Answer {
    let Some((folder, uid)) = shared.find(user, id) else {
        return Answer::error(404, "ErrorItemNotFound", "The message was not found.");
    };
    let Ok(json) = serde_json::from_slice::<Value>(&asked.request.body) else {
        return Answer::error(400, "RequestBodyRead", "The body is not JSON.");
    };
    let properties = json["singleValueExtendedProperties"].as_array().cloned().unwrap_or_default();
    for property in &properties {
        let id = property["id"].as_str().unwrap_or_default();
        let set = "String {00020386-0000-0000-C000-000000000046} Name ";
        let (Some(name), Some(value)) = (id.strip_prefix(set), property["value"].as_str()) else {
            return Answer::error(400, "ErrorPropertyValidationFailure", "Invalid property.");
        };
        let lower = name.to_ascii_lowercase();
        lock(&shared.state).named.insert((user.to_owned(), lower));
        shared.mail.mailboxes.change(user, &folder, |known| {
            for mail in known.mails.iter_mut().filter(|mail| mail.uid == uid) {
                let mut bytes = mail.bytes.to_vec();
                delivery::replace_field(&mut bytes, name, Some(value));
                mail.bytes = bytes.into();
            }
        });
    }
    Answer::json(200, &json!({ "id": id, "isDraft": true }))
}

/// Sends a draft (<https://learn.microsoft.com/graph/api/message-send>).
pub(super) fn send(shared: &Arc<Shared>, user: &str, id: &str) -> Answer {
    let Some((folder, uid)) = shared.find(user, id).filter(|(folder, _)| folder == "Drafts") else {
        return Answer::error(404, "ErrorItemNotFound", "The message was not found.");
    };
    let content = shared.mail.mailboxes.look(user, &folder, |known| {
        known.mails.iter().find(|mail| mail.uid == uid).map(|mail| mail.bytes.to_vec())
    });
    match content.flatten() {
        Some(content) => hand_over(shared, user, (id.to_owned(), uid), &content),
        None => Answer::error(404, "ErrorItemNotFound", "The message was not found."),
    }
}

/// Sends directly (<https://learn.microsoft.com/graph/api/user-sendmail>).
pub(super) fn send_mail(shared: &Arc<Shared>, asked: &Asked<'_>, user: &str) -> Answer {
    let content = match mime(asked) {
        Ok(content) => rewritten(shared, user, &content),
        Err(refusal) => return refusal,
    };
    match store(shared, user, content.clone()) {
        Some(draft) => hand_over(shared, user, draft, &content),
        None => Answer::error(404, "ErrorItemNotFound", "The folder was not found."),
    }
}

fn hand_over(shared: &Arc<Shared>, user: &str, (id, uid): (String, u32), content: &[u8]) -> Answer {
    let from = addresses(content, "From");
    if from.iter().any(|from| from != user) {
        let text = "The user account which was used to submit this request does not have the \
                    right to send mail on behalf of the specified sending account.";
        return Answer::error(403, "ErrorSendAsDenied", text);
    }
    let to: Vec<String> =
        ["To", "Cc", "Bcc"].iter().flat_map(|name| addresses(content, name)).collect();
    if to.is_empty() {
        let text = "At least one recipient isn't valid.";
        return Answer::error(400, "ErrorInvalidRecipients", text);
    }
    let mut sent = content.to_vec();
    delivery::replace_field(&mut sent, "Bcc", None);
    let date = shared.mail.server_date(UtcMicros::now());
    let host = "AS8PR03MB1234.eurprd03.prod.outlook.com";
    let received = format!(
        "Received: from {host} ([fe80::5bf:5059:4ca0:5017]) by {host}\r\n ([fe80::5bf:5059:4ca0:5017%12]) \
         with mapi id 15.20.9412.015; {date}\r\n"
    );
    delivery::accept_from(&shared.mail, received, user, &to, &sent);
    let (shared, user) = (shared.clone(), user.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(shared.options.sending).await;
        mail::relocate(&shared, &user, (&id, "Drafts", uid), "Sent Items");
    });
    Answer::empty(202)
}
