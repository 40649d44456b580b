//! The ways to tell somebody: each takes a message and says whether it was accepted, within a deadline.

mod command;
mod email;
mod escapes;
mod letter;
mod syslog;
pub(crate) mod template;
pub(crate) mod webhook;

use letter::Letter;
use mailqos_config::{Action, Config, Problems};
use mailqos_model::Micros;

use super::{channel::Way, message::Telling};

/// What a way has done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// The other end has taken it; its words.
    Confirmed(String),
    /// It has taken it for some.
    Partly {
        /// Its words.
        words: String,
        /// Those whom it refused for now, and who are to be told again.
        left: Vec<String>,
        /// Those whom it refused for good.
        gone: Vec<String>,
    },
    /// It was handed over, and nothing ever confirms it.
    Unconfirmed(String),
}

impl Accepted {
    /// What was said of it.
    pub(crate) fn words(&self) -> &str {
        let (Self::Confirmed(words) | Self::Partly { words, .. } | Self::Unconfirmed(words)) = self;
        words
    }

    /// Whether somebody has it for sure.
    pub(crate) fn is_confirmed(&self) -> bool {
        !matches!(self, Self::Unconfirmed(_))
    }
}

/// Why nobody has taken a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refused {
    /// What was said.
    pub(crate) text: String,
    /// Those for whom the mail was who are to be told again; all of them if absent.
    pub(crate) left: Option<Vec<String>>,
    /// It may have been taken all the same: the answer did not come.
    pub(crate) maybe: bool,
    /// It is of no use to try again.
    pub(crate) lost: bool,
    /// For how long the other end asks to be left alone.
    pub(crate) retry_after: Option<Micros>,
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self {
            text,
            left: None,
            maybe: false,
            lost: false,
            retry_after: None,
        }
    }
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether the message was accepted; otherwise why not.
    pub(crate) result: Result<Accepted, Refused>,
    /// The channels that were tried, and how each did: the mail server and its fallback are two.
    pub(crate) channels: Vec<(String, Result<(), String>)>,
}

/// Carries out an action, once; a mail goes to those in `only`, unless nobody is.
pub(crate) async fn carry_out(way: &Way, telling: &Telling, only: &[String]) -> Outcome {
    let deadline = way.timeout.to_std();
    let work = async {
        match &way.action {
            Action::Webhook(hook) => webhook::send(hook, &way.proxy, telling, deadline)
                .await
                .map(Accepted::Confirmed),
            Action::Command { words, environment } => {
                let ran = command::run(words, environment, telling).await;
                ran.map(Accepted::Confirmed).map_err(Refused::from)
            }
            Action::Syslog { to, facility } => syslog::send(to, *facility, telling, deadline)
                .await
                .map_err(Refused::from),
            Action::Email { .. } => Err("is sent otherwise".to_owned().into()),
        }
    };
    if matches!(way.action, Action::Email { .. }) {
        return mail(way, telling, only).await;
    }
    let result = tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
        Err(Refused {
            // A program may have done its work, and only not have come to its end.
            maybe: matches!(way.action, Action::Command { .. }),
            ..Refused::from(late(way))
        })
    });
    let told = result.as_ref().map(|_| ()).map_err(|refused| refused.text.clone());
    Outcome {
        result,
        channels: vec![(way.action.route(), told)],
    }
}

fn late(way: &Way) -> String {
    format!("did not end within {}", way.timeout)
}

/// What several mail servers have done with a mail.
#[derive(Default)]
struct Mailing {
    replies: Vec<String>,
    failures: Vec<String>,
    /// Those who are to be told still, once a server has said whom it refuses.
    left: Option<Vec<String>>,
    gone: Vec<String>,
    maybe: bool,
    channels: Vec<(String, Result<(), String>)>,
}

/// Sends a mail through its server, and through the other one to those for whom the first did not take it.
async fn mail(way: &Way, telling: &Telling, only: &[String]) -> Outcome {
    let Action::Email {
        to,
        mail_server,
        fallback,
        wording,
    } = &way.action
    else {
        return Outcome {
            result: Err("it is not a mail".to_owned().into()),
            channels: Vec::new(),
        };
    };
    let letter = Letter::write(wording, telling);
    let mut all = Mailing::default();
    for name in std::iter::once(mail_server).chain(fallback) {
        let channel = format!("e-mail through {name}");
        // The fallback is for those whom the first did not take it for.
        let rest = all.left.as_deref().unwrap_or(only);
        let sent = tokio::time::timeout(way.timeout.to_std(), email::send(way, name, to, rest, &letter))
            .await
            .unwrap_or_else(|_| Err(email::Failed::Otherwise(late(way), true)));
        match sent {
            Ok((reply, refused)) => {
                all.replies.push(format!("{channel}: {reply}"));
                all.channels.push((channel, Ok(())));
                all.left = Some(refused.for_now);
                all.gone.extend(refused.for_good);
            }
            // A full mailbox of those who are left says nothing of the channel, which takes mail for others.
            Err(email::Failed::Recipients(error, refused)) if !rest.is_empty() => {
                all.failures.push(format!("{name}: {error}"));
                // The fallback is not the last word about those whom the first refused for now.
                if name == mail_server {
                    all.left = Some(refused.for_now);
                    all.gone.extend(refused.for_good);
                }
            }
            Err(failed) => {
                let error = match failed {
                    email::Failed::Recipients(error, _) => error,
                    email::Failed::Otherwise(error, taken) => {
                        all.maybe |= taken;
                        error
                    }
                };
                all.failures.push(format!("{name}: {error}"));
                all.channels.push((channel, Err(error)));
            }
        }
        if all.left.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
    }
    if !all.replies.is_empty() {
        all.replies.extend(letter.problem);
    }
    let maybe = all.maybe;
    Outcome {
        result: mailed(all.replies, all.failures, all.left, all.gone).map_err(|refused| Refused { maybe, ..refused }),
        channels: all.channels,
    }
}

/// What an action would send, as people can read it; secrets are not part of it.
pub(crate) fn preview(action: &Action, telling: &Telling) -> String {
    match action {
        Action::Email { wording, .. } => Letter::write(wording, telling).to_string(),
        Action::Webhook(hook) => webhook::preview(hook, telling),
        Action::Command { .. } => telling
            .environment()
            .into_iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect(),
        Action::Syslog { .. } => telling.lines.iter().map(|line| format!("{}\n", line.text)).collect(),
    }
}

/// What is wrong with the templates of action lists, found with messages such as will be sent.
pub(super) fn check(config: &Config) -> Problems {
    let mut problems = Problems::default();
    let all = Telling::examples(config);
    // The notice is the last of them: only those who look after reports get such.
    let alarms = &all[..all.len().saturating_sub(1)];
    for (name, list) in &config.action_lists {
        let of_reports = config.delivery.action_list.as_ref() == Some(name);
        let examples = if of_reports { &all } else { alarms };
        for step in &list.steps {
            match &step.action {
                Action::Webhook(hook) => webhook::check(hook, examples, &mut problems),
                Action::Email { wording, .. } => letter::check(wording, examples, &mut problems),
                Action::Command { .. } | Action::Syslog { .. } => {}
            }
        }
    }
    problems
}

/// What the answers of mail servers come to; `left` are those who are to be told again, `gone` those who were refused for good.
fn mailed(
    replies: Vec<String>,
    failures: Vec<String>,
    left: Option<Vec<String>>,
    gone: Vec<String>,
) -> Result<Accepted, Refused> {
    if replies.is_empty() {
        let text = failures.join("; ");
        return Err(Refused {
            left,
            ..Refused::from(text)
        });
    }
    let words = [replies, failures].concat().join("; ");
    let left = left.unwrap_or_default();
    Ok(if left.is_empty() && gone.is_empty() {
        Accepted::Confirmed(words)
    } else {
        Accepted::Partly { words, left, gone }
    })
}

#[cfg(test)]
mod tests {
    use mailqos_tests::servers::{Fault, MailServer, Options, Protocol, When};

    use super::*;
    use crate::alarm::Why;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_full_mailbox_of_one_is_no_failure_of_the_channel() {
        let open = || Options {
            users: vec![("anna@example.net".to_owned(), "x".to_owned())],
            smtp_auth_required: false,
            ..Options::default()
        };
        let first = MailServer::start(open()).await.expect("a server");
        let second = MailServer::start(open()).await.expect("a server");
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let server = |name: &str, server: &MailServer| {
            let port = server.smtp_port();
            format!(
                "[mail_server.{name}]\nserver = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nfrom = \"q@example.net\"\n"
            )
        };
        let text = format!(
            "site = \"here\"\n{}{}[action_list.default]\nactions = [{{ email = [\"full@example.net\", \"anna@example.net\", \
             \"gone@example.net\"], mail_server = \"first\", fallback = \"second\" }}]\n",
            server("first", &first),
            server("second", &second)
        );
        std::fs::write(&path, text).expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let step = &Way::of(&config, &config.action_lists["default"].steps[0]);
        let telling = Telling::test(&config, Why::Test);
        // Mailboxes that the servers do not have are refused for good, but the first one that is named is only full.
        let fill = || {
            let reply = Fault::Reply("452 4.2.2 mailbox full".to_owned());
            first.inject(Protocol::Smtp, "RCPT", reply, When::Times(1));
        };
        let [full, gone] = ["full@example.net", "gone@example.net"].map(str::to_owned);

        // To all: the fallback is for the one that is full.
        fill();
        let outcome = carry_out(step, &telling, &[]).await;
        let Ok(Accepted::Partly {
            words,
            left,
            gone: lost,
        }) = outcome.result
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            (left.as_slice(), lost.as_slice()),
            (&[full.clone()][..], &[gone.clone()][..]),
            "{words}"
        );
        assert!(
            words.contains("gone@example.net was refused: 550") && words.contains("second: full@"),
            "{words}"
        );
        assert_eq!(outcome.channels, [("e-mail through first".to_owned(), Ok(()))]);

        // Alone: those who are refused for good are tried no more, and the fallback has no say in that.
        let rest = [full.clone(), gone];
        for (is_full, expected) in [(true, vec![full]), (false, Vec::new())] {
            if is_full {
                fill();
            }
            let outcome = carry_out(step, &telling, &rest).await;
            let refused = outcome.result.expect_err("refused");
            assert_eq!(refused.left, Some(expected), "{refused}");
            assert!(refused.text.contains("gone@example.net was refused: 550"), "{refused}");
            assert!(outcome.channels.is_empty(), "{:?}", outcome.channels);
        }

        // A server that takes mail for none of them all may well be dead.
        first.inject(
            Protocol::Smtp,
            "RCPT",
            Fault::Reply("550 5.7.1 no relaying".to_owned()),
            When::Always,
        );
        let outcome = carry_out(step, &telling, &[]).await;
        let failed: Vec<_> = outcome.channels.iter().map(|(_, result)| result.is_err()).collect();
        assert_eq!(failed, [true, false], "{outcome:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_alarm_reaches_as_many_people_as_there_are_in_lines_that_servers_take() {
        let user = |number: usize| format!("person.number.{number}@example.net");
        let server = MailServer::start(Options {
            users: (0..120).map(|number| (user(number), "x".to_owned())).collect(),
            smtp_auth_required: false,
            // Exchange; RFC 5321, section 4.5.3.1.10.
            max_recipients: Some((50, "452 4.5.3 Too many recipients".to_owned())),
            ..Options::default()
        })
        .await
        .expect("a server");
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let people: Vec<String> = (0..120)
            .map(|number| format!("\"Jörg Nummer {number} <{}>\"", user(number)))
            .collect();
        let text = format!(
            "site = \"here\"\n[mail_server.a]\nserver = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
             from = \"\\\"Wache, Mail\\\" <q@example.net>\"\n\
             [action_list.default]\nactions = [{{ email = [{}], mail_server = \"a\" }}]\n",
            server.smtp_port(),
            people.join(", ")
        );
        std::fs::write(&path, text).expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let step = &config.action_lists["default"].steps[0];
        let mut telling = Telling::test(&config, Why::Test);
        telling.subject = format!("Störung\r\nBcc: x@example.net {}", "Überlastung ".repeat(40));
        let outcome = carry_out(&Way::of(&config, step), &telling, &[]).await;
        assert!(matches!(outcome.result, Ok(Accepted::Confirmed(_))), "{outcome:?}");
        let mails = server.accepted();
        let mut all: Vec<&String> = mails.iter().flat_map(|mail| &mail.to).collect();
        all.sort();
        all.dedup();
        assert_eq!((all.len(), mails.len()), (120, 3));
        let text = String::from_utf8_lossy(&mails[0].content);
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        assert!(head.lines().all(|line| line.len() <= 78 && line.is_ascii()), "{head}");
        assert!(
            head.contains("From: \"Wache, Mail\" <q@example.net>") && !head.contains("\r\nBcc"),
            "{head}"
        );
    }
}
