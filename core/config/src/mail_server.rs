//! SMTP servers for mailqos's own mails: `[mail_server.NAME]`, and the keys that refer to one.

use mailqos_model::{Micros, Name};

use super::{
    Config, Dkim, MailServer, Problem, Problems, Severity, Table,
    key::{Defaulted, Optional, Required, key},
    reference::Key,
    server::{SMTP, SMTP_SERVER, SUBMISSION, SubmissionProtocol, endpoint, graph_endpoint},
    value::{reference, secret},
};
use crate::Person;

keys! {
    MAIL_SERVER: MailServerKeys {
        /// The sender of the mails.
        from: Required<Person> = key();
        /// The address for bounces.
        return_path: Optional<Person> = key().otherwise("`from`");
        /// The deadline of each step of the conversation.
        timeout: Defaulted<Micros> = key().default("\"30s\"").within("1s", "10m");
        /// The key that signs the mails.
        dkim: Key = Key::table(&["mail_server.dkim"]).otherwise("unsigned");
    }
}

keys! {
    DKIM: DkimKeys {
        /// The name of the key; its public half is in the DNS at SELECTOR._domainkey.DOMAIN.
        selector: Required<String> = key();
        /// The private key in PEM, RSA or Ed25519.
        key: Key = Key::secret().required();
        /// The signing domain.
        domain: Optional<String> = key().otherwise("the domain of `from`");
    }
}

keys! {
    SENDER: SenderKeys {
        /// The mail server to send through.
        mail_server: Optional<Name> = key().otherwise("the only configured one");
    }
}

pub(super) fn mail_server(
    mut table: Table,
    plaintext: bool,
    config: &Config,
    problems: &mut Problems,
) -> Option<MailServer> {
    let protocol = table.read(&SUBMISSION.protocol, problems);
    let endpoint = match protocol {
        SubmissionProtocol::Smtp => endpoint(&mut table, SMTP, None, config, problems),
        SubmissionProtocol::Graph => {
            check_graph(&mut table, problems);
            graph_endpoint(&mut table, &SMTP_SERVER.account, config, problems)
        }
    };
    let from = table.read(&MAIL_SERVER.from, problems);
    let timeout = table.read(&MAIL_SERVER.timeout, problems);
    let return_path = table.read(&MAIL_SERVER.return_path, problems).map(|person| person.address);
    let dkim = table.table(&MAIL_SERVER.dkim, problems).and_then(|table| {
        dkim(table, plaintext, from.as_ref().map(|from| from.address.as_str()), problems)
    });
    table.finish(problems);
    Some(MailServer { endpoint: endpoint?, protocol, from: from?, return_path, dkim, timeout })
}

/// Checks for keys that Microsoft Graph has no use for: it has no envelope, and Exchange changes
/// header fields, so a signature would not hold.
fn check_graph(table: &mut Table, problems: &mut Problems) {
    let unused: [(&Key, &str); 2] = [
        (&MAIL_SERVER.return_path, "Microsoft Graph sends bounces to the sender's mailbox"),
        (&MAIL_SERVER.dkim, "Exchange changes signed header fields; let the tenant sign"),
    ];
    for (key, message) in unused {
        if table.node(key).is_some() {
            problems.push(table.problem(key, message, "here").help("remove it"));
        }
    }
    if table.node(&SMTP_SERVER.account).is_none() {
        let why = "the account whose mailbox sends: account = \"NAME\"";
        problems.push(table.missing(&SMTP_SERVER.account, why));
    }
}

/// Reads the DKIM key that signs mails (RFC 6376).
fn dkim(
    mut table: Table,
    plaintext: bool,
    from: Option<&str>,
    problems: &mut Problems,
) -> Option<Dkim> {
    let own = from.and_then(|from| from.rsplit_once('@')).map(|(_, domain)| domain);
    let domain = table.read(&DKIM.domain, problems).or_else(|| own.map(str::to_owned));
    if let (Some(domain), Some(own)) = (&domain, own)
        && !own.eq_ignore_ascii_case(domain)
        && !own.to_ascii_lowercase().ends_with(&format!(".{}", domain.to_ascii_lowercase()))
    {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table
                .problem(
                    &DKIM.domain,
                    format!("a signature of {domain} does not cover senders at {own} (DMARC)"),
                    "another domain",
                )
                .help(format!("write {own}, or remove domain"))
        });
    }
    let selector = table.read(&DKIM.selector, problems);
    let names: [(&Key, &Option<String>); 2] =
        [(&DKIM.selector, &selector), (&DKIM.domain, &domain)];
    for (key, text) in names {
        let fits = |text: &str| {
            text.split('.').all(|label| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            })
        };
        if let Some(text) = text
            && !fits(text)
        {
            problems.push(table.problem(key, format!("{text:?} is not a valid DNS name"), "here"));
        }
    }
    let key = match table.node(&DKIM.key) {
        Some(node) => secret(&node, plaintext, problems),
        None => {
            problems.push(
                table.missing(&DKIM.key, "the private key in PEM, such as { file = \"dkim.pem\" }"),
            );
            None
        }
    };
    table.finish(problems);
    Some(Dkim { domain: domain?, selector: selector?, key: key? })
}

/// Returns the mail server with the given name, or the only one if no name is given.
pub(super) fn mail_server_of(
    table: &mut Table,
    config: &Config,
    problems: &mut Problems,
) -> Option<Name> {
    if table.node(&SENDER.mail_server).is_some() {
        return reference(
            table,
            &SENDER.mail_server,
            "mail_server",
            &config.mail_servers,
            problems,
        );
    }
    let mut names = config.mail_servers.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => Some(only.clone()),
        (None, _) if problems.broken("mail_server").next().is_some() => None,
        (None, _) => {
            problems.push(table.missing(
                &SENDER.mail_server,
                "the SMTP server for mailqos's own mails; add [mail_server.NAME]",
            ));
            None
        }
        _ => {
            problems.push(table.missing(&SENDER.mail_server, "several are configured; choose one"));
            None
        }
    }
}
