//! Targets that send reports by mail.

use std::collections::{BTreeMap, BTreeSet};

use mailqos_model::{Micros, Name};

use crate::{
    Config, Person, Problem, Problems, Severity, Table,
    key::{Defaulted, Optional, OptionalWord, Required, key},
    mail_server::mail_server_of,
    message::Bytes,
    operator::{recipients, some_recipients},
    value::{no_such, reference_at},
};

/// A target that sends mails.
#[derive(Debug, Clone)]
pub struct EmailTarget {
    /// Mail servers in order of preference; the others are fallbacks.
    pub mail_servers: Vec<Name>,
    /// Recipients, with operators resolved to addresses.
    pub to: Vec<Person>,
    /// Additional visible recipients.
    pub cc: Vec<Person>,
    /// Additional hidden recipients.
    pub bcc: Vec<Person>,
    /// Addresses for replies; the sender if empty.
    pub reply_to: Vec<Person>,
    /// Maximum total size in bytes of the files of a mail, for recipients without an individual
    /// limit.
    pub attachments: Option<u64>,
    /// Individual limits of recipients, by address.
    pub limits: BTreeMap<String, u64>,
    /// Handling of files that are too large.
    pub too_large: TooLarge,
    /// How long a delivery is retried, if it differs from `[delivery]`.
    pub patience: Option<Micros>,
}

/// Handling of files that are too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TooLarge {
    /// The files are stored at another target, and the mail links to them.
    Link(Name),
    /// The mail is sent without the files and lists their names.
    Leave,
}

impl EmailTarget {
    /// Returns all recipients, without duplicates.
    pub fn recipients(&self) -> Vec<&Person> {
        self.to.iter().chain(&self.cc).chain(&self.bcc).collect()
    }
}

const TOO_LARGE: [(&str, bool); 2] = [("leave", false), ("split", true)];

keys! {
    RECIPIENTS: RecipientKeys {
        /// Operators, groups or mail addresses, with or without names:
        /// `Anna Berg <anna@example.com>`.
        to: Required<Vec<String>> = key();
        /// Additional recipients that everyone sees.
        cc: Defaulted<Vec<String>> = key().default("[]");
        /// Additional hidden recipients.
        bcc: Defaulted<Vec<String>> = key().default("[]");
        /// Where replies go: operators, groups or mail addresses.
        reply_to: Optional<Vec<String>> = key().otherwise("the sender");
    }
}

keys! {
    MAIL: MailKeys {
        /// Mail servers to try after `mail_server`, in this order.
        fallback: Defaulted<Vec<Name>> = key().default("[]");
        /// The maximum total size of files in one mail, for recipients without an individual limit.
        attachments: Optional<Bytes> = key().otherwise("the server's limit");
        /// A target that receives the files if they are too large for a recipient; the mail then
        /// links to them.
        link_to: Optional<Name> = key();
        /// Without `link_to`: send the mail without the files. (`"split"`, over several mails, is
        /// no longer supported.)
        too_large: OptionalWord<bool> = word!(TOO_LARGE).default("\"leave\"");
    }
}

pub(super) fn email(
    table: &mut Table,
    all: &BTreeMap<Name, Option<String>>,
    patience: Option<Micros>,
    config: &Config,
    problems: &mut Problems,
) -> Option<EmailTarget> {
    if table.node(&RECIPIENTS.to).is_none() {
        problems.push(table.missing(&RECIPIENTS.to, "operators or e-mail addresses"));
    }
    let to = some_recipients(table, &RECIPIENTS.to, config, problems);
    let mut cc = recipients(table, &RECIPIENTS.cc, config, problems);
    let mut bcc = recipients(table, &RECIPIENTS.bcc, config, problems);
    // Each recipient gets the mail only once.
    let mut seen: BTreeSet<String> = to.iter().map(|person| person.address.clone()).collect();
    cc.retain(|person| seen.insert(person.address.clone()));
    bcc.retain(|person| seen.insert(person.address.clone()));
    let reply_to = recipients(table, &RECIPIENTS.reply_to, config, problems);
    let mut limits = BTreeMap::new();
    for operator in config.operators.values() {
        let Some(limit) = operator.attachments else {
            continue;
        };
        for person in operator.email.iter().filter(|person| seen.contains(&person.address)) {
            let least: &mut u64 = limits.entry(person.address.clone()).or_insert(limit);
            *least = limit.min(*least);
        }
    }
    let link_to = link_to(table, all, problems);
    let too_large = too_large(link_to, table, problems);
    let mail_server = mail_server_of(table, config, problems);
    let mut mail_servers = Vec::from_iter(mail_server.clone());
    for node in table.list(&MAIL.fallback).map(|node| node.as_list()).unwrap_or_default() {
        if let Some(name) = reference_at(&node, "mail_server", &config.mail_servers, problems)
            && !mail_servers.contains(&name)
        {
            mail_servers.push(name);
        }
    }
    let attachments = table.read(&MAIL.attachments, problems).map(|size| size.0);
    mail_server?;
    Some(EmailTarget {
        mail_servers,
        to,
        cc,
        bcc,
        reply_to,
        attachments,
        limits,
        too_large,
        patience,
    })
}

/// Reads how files that are too large are handled. Earlier versions split them over several mails
/// (`"split"`).
fn too_large(link_to: Option<Name>, table: &mut Table, problems: &mut Problems) -> TooLarge {
    let word = table.read(&MAIL.too_large, problems);
    if word == Some(true) {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table
                .problem(
                    &MAIL.too_large,
                    "files are no longer split over several mails, because mail clients don't reassemble them",
                    "treated as \"leave\"",
                )
                .help("name a target for them with link_to, or set too_large = \"leave\"")
        });
    }
    match link_to {
        Some(target) => {
            if word == Some(false) {
                problems.push(table.problem(
                    &MAIL.too_large,
                    "link_to already sets how files that are too large are handled",
                    "remove one of them",
                ));
            }
            TooLarge::Link(target)
        }
        None => TooLarge::Leave,
    }
}

fn link_to(
    table: &mut Table,
    all: &BTreeMap<Name, Option<String>>,
    problems: &mut Problems,
) -> Option<Name> {
    let node = table.node(&MAIL.link_to)?;
    let name: Name = node.read(problems)?;
    let problem = match all.get(&name) {
        Some(Some(kind)) if kind == "email" => node
            .problem(format!("{name} is an e-mail target"), "can't store files")
            .help("name a target that stores files, such as a share or an object store"),
        Some(_) => return Some(name),
        None => no_such(&node, "target", name.as_str(), all.keys().map(Name::as_str)),
    };
    problems.push(problem);
    None
}
