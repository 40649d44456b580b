//! SMTP servers for mailqos's own mails: `[mail_server.NAME]`, and the keys that name one.

use mailqos_model::{Micros, Name};

use super::{
    Config, Dkim, MailServer, Problem, Problems, Severity, Table,
    server::{SMTP, endpoint},
    value::{SECOND, duration, reference, secret},
};
use crate::Person;

pub(super) fn mail_server(
    mut table: Table,
    plaintext: bool,
    config: &Config,
    problems: &mut Problems,
) -> Option<MailServer> {
    let endpoint = endpoint(&mut table, SMTP, None, config, problems);
    let from: Option<Person> = table.require("from", "the sender of the mails", problems);
    let timeout = duration(
        &mut table,
        "timeout",
        Micros::from_secs(30),
        SECOND,
        Micros::from_secs(600),
        problems,
    );
    let return_path = table
        .get::<Person>("return_path", problems)
        .map(|person| person.address);
    let dkim = table.table("dkim", problems).and_then(|table| {
        dkim(
            table,
            plaintext,
            from.as_ref().map(|from| from.address.as_str()),
            problems,
        )
    });
    table.finish(problems);
    Some(MailServer {
        endpoint: endpoint?,
        from: from?,
        return_path,
        dkim,
        timeout,
    })
}

/// How mails are signed (RFC 6376).
fn dkim(mut table: Table, plaintext: bool, from: Option<&str>, problems: &mut Problems) -> Option<Dkim> {
    let own = from.and_then(|from| from.rsplit_once('@')).map(|(_, domain)| domain);
    let domain = table.get("domain", problems).or_else(|| own.map(str::to_owned));
    if let (Some(domain), Some(own)) = (&domain, own)
        && !own.eq_ignore_ascii_case(domain)
        && !own
            .to_ascii_lowercase()
            .ends_with(&format!(".{}", domain.to_ascii_lowercase()))
    {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table
                .problem(
                    "domain",
                    format!("{domain} does not sign for senders at {own} (DMARC)"),
                    "another domain",
                )
                .help(format!("write {own}, or leave it out"))
        });
    }
    let selector: Option<String> = table.require(
        "selector",
        "the name of the key: its other half stands in the DNS at SELECTOR._domainkey.DOMAIN",
        problems,
    );
    for (key, text) in [("selector", &selector), ("domain", &domain)] {
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
            problems.push(table.problem(key, format!("{text:?} is no name in the DNS"), "here"));
        }
    }
    let key = match table.node("key") {
        Some(node) => secret(&node, plaintext, problems),
        None => {
            problems.push(table.missing("key", "the private key in PEM, such as { file = \"dkim.pem\" }"));
            None
        }
    };
    table.finish(problems);
    Some(Dkim {
        domain: domain?,
        selector: selector?,
        key: key?,
    })
}

/// The mail server that is named; the only one there is where none is named.
pub(super) fn mail_server_of(table: &mut Table, config: &Config, problems: &mut Problems) -> Option<Name> {
    if table.node("mail_server").is_some() {
        return reference(table, "mail_server", "mail_server", &config.mail_servers, problems);
    }
    let mut names = config.mail_servers.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => Some(only.clone()),
        (None, _) if problems.broken("mail_server").next().is_some() => None,
        (None, _) => {
            problems.push(table.missing(
                "mail_server",
                "the SMTP server for mailqos's own mails; add [mail_server.NAME]",
            ));
            None
        }
        _ => {
            problems.push(table.missing("mail_server", "there are several; which one?"));
            None
        }
    }
}
