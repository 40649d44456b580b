//! Measures deliveries by mail: reports are sent to many recipients through servers with habits of
//! real ones, and the ledger is compared with the mailboxes.

use std::collections::BTreeMap;

use crate::{
    servers::{Fault, MailServer, Options, PASSWORD, Protocol, When},
    setting::Setting,
};

/// Recipients of each delivery.
const PEOPLE: usize = 7;
/// How often a delivery is retried before it counts as lost.
const TRIES: usize = 12;
/// Size of each file in bytes: more than the servers with a limit accept.
const SIZE: usize = 300_000;

/// A habit of a mail server.
pub struct Habit {
    /// Its name in the table.
    pub name: &'static str,
    options: fn() -> Options,
    /// Faults of each delivery: the phase, the reply, and how often.
    faults: &'static [(&'static str, &'static str, u32)],
}

fn plain() -> Options {
    Options::default()
}

fn limited(most: usize, refusal: &str) -> Options {
    Options { max_recipients: Some((most, refusal.to_owned())), ..Options::default() }
}

/// All habits: sizes (RFC 1870; Postfix, Courier, Exchange), recipients (RFC 5321, section
/// 4.5.3.1.10; Exchange; RFC 9422), temporary refusals (greylisting).
pub const HABITS: &[Habit] = &[
    Habit {
        name: "size-in-ehlo",
        options: || Options { max_size: 100_000, ..Options::default() },
        faults: &[],
    },
    Habit {
        name: "size-after-content",
        options: || Options { max_size: 100_000, states_size: false, ..Options::default() },
        faults: &[],
    },
    Habit {
        name: "size-tiny",
        options: || Options { max_size: 2_500, states_size: false, ..Options::default() },
        faults: &[],
    },
    Habit {
        name: "size-552-mail",
        options: plain,
        faults: &[("MAIL", "552 5.3.4 Message size exceeds fixed limit", 1)],
    },
    Habit {
        name: "size-523",
        options: plain,
        faults: &[("CONTENT", "523 Message length exceeds administrative limit", 2)],
    },
    Habit {
        name: "size-rcpt",
        options: plain,
        faults: &[("RCPT", "550 5.2.3 message too large for this recipient", 2)],
    },
    Habit {
        name: "rcpt-452",
        options: || limited(3, "452 4.5.3 Too many recipients"),
        faults: &[],
    },
    Habit { name: "rcpt-552", options: || limited(3, "552 Too many recipients"), faults: &[] },
    Habit {
        name: "rcpt-550",
        options: || limited(2, "550 5.5.3 Too many recipients"),
        faults: &[],
    },
    Habit {
        name: "rcpt-421",
        options: || limited(3, "421 4.5.3 Too many recipients"),
        faults: &[],
    },
    Habit {
        name: "rcpt-limits",
        options: || Options { states_max_recipients: true, ..limited(3, "550 5.7.1 never said") },
        faults: &[],
    },
    Habit {
        name: "rcpt-after-content",
        options: plain,
        faults: &[("CONTENT", "550 5.5.3 RESOLVER.ADR.RecipLimit; too many recipients", 2)],
    },
    Habit {
        name: "greylisting",
        options: plain,
        faults: &[("RCPT", "450 4.2.0 Greylisted, try again", 4)],
    },
    Habit {
        name: "greylisting-of-batches",
        options: || limited(2, "452 4.5.3 Too many recipients"),
        faults: &[("MAIL", "451 4.7.1 try again", 2), ("RCPT", "450 4.2.0 Greylisted", 1)],
    },
];

/// Results of the mails with a habit, by recipient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Recipients with one copy.
    pub once: usize,
    /// Recipients with several copies.
    pub twice: usize,
    /// Recipients without a copy who should have one.
    pub lost: usize,
    /// Recipients without a copy although the ledger lists the mail as accepted for them.
    pub claimed: usize,
}

/// Delivers some reports through a server with a habit.
///
/// # Panics
/// The setting can't be created.
pub async fn run(habit: &Habit, deliveries: usize) -> Count {
    let users: Vec<String> = (0..PEOPLE).map(|number| format!("p{number}@example.com")).collect();
    let with_password = |user: &String| (user.clone(), PASSWORD.to_owned());
    let sender = ("reports@example.com".to_owned(), PASSWORD.to_owned());
    let server = MailServer::start(Options {
        users: users.iter().map(with_password).chain([sender]).collect(),
        ..(habit.options)()
    })
    .await
    .expect("a server");
    let mut setting = Setting::new("couriers");
    setting.add_mail_server("post", "reports@example.com", &server);
    let to: Vec<String> = users.iter().map(|user| format!("\"{user}\"")).collect();
    setting.add(&format!(
        "[delivery]\nfirst_pause = \"1s\"\nlongest_pause = \"1s\"\n[target.far]\nkind = \"email\"\nto = [{}]",
        to.join(", ")
    ));
    setting.write();
    let mut count = Count::default();
    for number in 0..deliveries {
        let before = server.accepted().len();
        let name = format!("report-{number}.pdf");
        std::fs::write(setting.path(&name), vec![b'x'; SIZE]).expect("a file");
        for (phase, reply, times) in habit.faults {
            server.inject(
                Protocol::Smtp,
                phase,
                Fault::Reply((*reply).to_owned()),
                When::Times(*times),
            );
        }
        let known = setting.ledger().len();
        setting.run("mailqos-analytics", &["deliver", &name, "--to", "far"]);
        for _ in 0..TRIES {
            if setting.ledger().len() > known {
                break;
            }
            setting.run("mailqos-analytics", &["outbox", "retry"]);
        }
        let mut got: BTreeMap<&str, usize> = users.iter().map(|user| (user.as_str(), 0)).collect();
        let accepted = server.accepted();
        for user in accepted[before..].iter().flat_map(|mail| &mail.to) {
            if let Some(mails) = got.get_mut(user.as_str()) {
                *mails += 1;
            }
        }
        let entries = setting.ledger().split_off(known);
        let claims = |user: &str| {
            let recipients = entries.iter().filter_map(|entry| entry["accepted"].as_array());
            recipients.flatten().any(|served| served["recipient"] == user)
        };
        for (user, mails) in got {
            match mails {
                0 => count.lost += 1,
                1 => count.once += 1,
                _ => count.twice += 1,
            }
            count.claimed += usize::from(mails == 0 && claims(user));
        }
        server.heal();
    }
    count
}
