//! E-mail: a text, its HTML form and attached files. A recipient whose server rejects that size
//! gets a smaller form, down to a notice with the location of the files. Each recipient is served
//! exactly once, independently of the others.

mod fates;
mod form;
mod letter;
mod links;
mod pictures;
mod send;
mod servers;

use std::collections::{BTreeSet, VecDeque};

use mailqos_config::{Config, EmailTarget, Person, TooLarge};

use self::{
    fates::{Fate, Fates},
    form::Form,
    letter::Content,
    links::link,
    servers::servers,
};
use super::{DeliveryError, Parcel, Progress, Receipt};

pub(crate) async fn deliver(
    config: &Config,
    target: &EmailTarget,
    parcel: &Parcel,
    progress: &mut Progress<'_>,
) -> Result<Receipt, DeliveryError> {
    let (servers, why) = servers(config, target).await?;
    let mut content = Content::read(config, target, parcel).await?;
    let all = target.recipients();
    let mut linked = None;
    let mut replies = BTreeSet::new();
    let mut trouble = None;
    let mut queue = queue(target, &all, &content, progress);
    while let Some((form, people)) = queue.pop_front() {
        if form.is_without_files()
            && linked.is_none()
            && matches!(target.too_large, TooLarge::Link(_))
        {
            let (lines, receipt) = link(config, target, parcel).await?;
            content.links = Some(lines);
            linked = Some(receipt);
        }
        let sent = content.send(&servers, form, &people, progress).await?;
        replies.extend(sent.replies);
        for error in sent.errors {
            // These recipients miss what the others get, which is recorded for each of them.
            match error {
                DeliveryError::Refused { server, reason } if sent.left.len() < all.len() => {
                    fates::refuse(&sent.left, form, &format!("{server}: {reason}"), progress)?;
                }
                error => trouble = sooner(trouble, error),
            }
        }
        if !sent.too_large.is_empty() {
            match content.smaller(&servers, form, sent.limit)? {
                Some(smaller) => queue.push_back((smaller, sent.too_large)),
                None => {
                    let error = too_large(&sent.too_large, sent.limit, &sent.size_reason);
                    trouble = sooner(trouble, error);
                }
            }
        }
    }
    let fates = Fates::of(&all, progress);
    if fates.is_nobody_served() {
        // No recipient was served, so another attempt starts with all of them.
        let error = fates.all_refused();
        progress.done.clear();
        return Err(error);
    }
    let mut receipt = fates.complete().map_err(|due| trouble.unwrap_or(due))?;
    receipt.reply = reply(&replies, &receipt, why);
    if let (Some(linked), TooLarge::Link(name)) = (linked, &target.too_large) {
        receipt.linked = Some((name.to_string(), Box::new(linked)));
    }
    Ok(receipt)
}

/// Returns the recipients still to be served, by the largest form that the configuration allows.
fn queue<'a>(
    target: &EmailTarget,
    all: &[&'a Person],
    content: &Content<'_>,
    progress: &Progress<'_>,
) -> VecDeque<(Form, Vec<&'a Person>)> {
    let total = content.files_size();
    let mut queue = VecDeque::new();
    for form in [Form::Whole, Form::Page] {
        let due = all.iter().copied().filter(|person| {
            let limit = target.limits.get(&person.address).copied().or(target.attachments);
            let allowed = match limit {
                Some(limit) if total > limit => Form::Page,
                _ => Form::Whole,
            };
            allowed == form && matches!(Fate::of(&person.address, progress), Fate::Due)
        });
        // A mail for an address beyond ASCII can't pass servers without SMTPUTF8 (RFC 6531), so
        // such recipients are served separately.
        let (plain, foreign): (Vec<_>, Vec<_>) = due.partition(|person| person.address.is_ascii());
        queue.extend(
            [plain, foreign]
                .into_iter()
                .filter(|people| !people.is_empty())
                .map(|people| (form, people)),
        );
    }
    queue
}

/// Returns the error that allows the sooner retry: the delivery continues as long as any recipient
/// may be served.
fn sooner(known: Option<DeliveryError>, new: DeliveryError) -> Option<DeliveryError> {
    match known {
        Some(known) if known.again() <= new.again() => Some(known),
        _ => Some(new),
    }
}

/// Returns the error for a mail whose shortest notice is still too large. The recipients stay due
/// until an operator has raised the limit or the attempts are used up.
fn too_large(people: &[&Person], limit: Option<u64>, reason: &str) -> DeliveryError {
    let addresses: Vec<&str> = people.iter().map(|person| person.address.as_str()).collect();
    let at_most = limit.map_or_else(String::new, |limit| format!(" (at most {limit} bytes)"));
    DeliveryError::Server {
        server: "mail".into(),
        step: "size".into(),
        reason: format!(
            "the server rejects mails of this size{at_most}, even a short notice, for {}: {reason}; raise its \
             limit",
            addresses.join(", ")
        ),
        transient: false,
    }
}

/// Returns the servers' replies, and why it was not the first server.
fn reply(replies: &BTreeSet<String>, receipt: &Receipt, why: Option<String>) -> String {
    let mut reply = replies.iter().cloned().collect::<Vec<_>>().join("; ");
    if reply.is_empty() {
        let last = receipt.accepted.last();
        reply = last.map(|served| served.reply.clone()).unwrap_or_default();
    }
    match why {
        Some(why) => format!("{reply} ({why})"),
        None => reply,
    }
}

#[cfg(test)]
mod tests;
