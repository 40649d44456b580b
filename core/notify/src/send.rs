//! Sends a notification through a channel: one attempt, within a deadline.

use mailqos_config::{Action, Config, Problems};
use mailqos_model::Micros;

use crate::{Channel, Notification, command, email, letter, letter::AlarmMail, syslog, webhook};

/// How a channel accepted a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// The other end accepted it, with this reply.
    Confirmed(String),
    /// The server accepted it for some recipients.
    Partly {
        /// The replies.
        words: String,
        /// Recipients that were refused temporarily, and that are notified again.
        left: Vec<String>,
        /// Recipients that were refused permanently.
        gone: Vec<String>,
    },
    /// Submitted over a channel that never confirms anything.
    Unconfirmed(String),
}

impl Accepted {
    /// Returns the reply.
    pub fn words(&self) -> &str {
        let (Self::Confirmed(words) | Self::Partly { words, .. } | Self::Unconfirmed(words)) = self;
        words
    }

    /// Returns whether someone has certainly received it.
    pub fn is_confirmed(&self) -> bool {
        !matches!(self, Self::Unconfirmed(_))
    }
}

/// Why a message was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The reason.
    pub text: String,
    /// Recipients of the mail that still have to be notified; all of them if absent.
    pub left: Option<Vec<String>>,
    /// Whether it may have been accepted nevertheless, because the answer is missing.
    pub maybe: bool,
    /// Whether trying again is useless.
    pub lost: bool,
    /// How long the other end asks senders to wait before the next attempt.
    pub retry_after: Option<Micros>,
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self { text, left: None, maybe: false, lost: false, retry_after: None }
    }
}

/// Result of sending a message.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the message was accepted; otherwise why not.
    pub result: Result<Accepted, Refused>,
    /// The channels that were tried, and the result of each: a mail server and its fallback are
    /// two.
    pub channels: Vec<(String, Result<(), String>)>,
}

/// Sends a message through a channel once. A mail goes only to the recipients in `only`, or to all
/// if `only` is empty.
pub async fn send(channel: &Channel, notification: &Notification, only: &[String]) -> Outcome {
    let deadline = channel.timeout.to_std();
    let work = async {
        match &channel.action {
            Action::Webhook(hook) => webhook::send(hook, &channel.proxy, notification, deadline)
                .await
                .map(Accepted::Confirmed),
            Action::Command { words, environment } => {
                let ran = command::run(words, environment, notification).await;
                ran.map(Accepted::Confirmed).map_err(Refused::from)
            }
            Action::Syslog { to, facility } => {
                syslog::send(to, *facility, notification, deadline).await.map_err(Refused::from)
            }
            Action::Email { .. } => Err("a mail is sent by `mail`".to_owned().into()),
        }
    };
    if matches!(channel.action, Action::Email { .. }) {
        return mail(channel, notification, only).await;
    }
    let result = tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
        Err(Refused {
            // A program may have done its work without ending.
            maybe: matches!(channel.action, Action::Command { .. }),
            ..Refused::from(late(channel))
        })
    });
    let told = result.as_ref().map(|_| ()).map_err(|refused| refused.text.clone());
    Outcome { result, channels: vec![(channel.action.route(), told)] }
}

fn late(channel: &Channel) -> String {
    format!("did not end within {}", channel.timeout)
}

/// Answers of several mail servers to one mail.
#[derive(Default)]
struct Mailing {
    replies: Vec<String>,
    failures: Vec<String>,
    /// Recipients that still have to be notified after a server has refused some.
    left: Option<Vec<String>>,
    gone: Vec<String>,
    maybe: bool,
    channels: Vec<(String, Result<(), String>)>,
}

/// Sends a mail through its server, and through the fallback to the recipients for which the first
/// did not accept it.
async fn mail(channel: &Channel, notification: &Notification, only: &[String]) -> Outcome {
    let Action::Email { to, mail_server, fallback, wording } = &channel.action else {
        return Outcome { result: Err("it is not a mail".to_owned().into()), channels: Vec::new() };
    };
    let letter = AlarmMail::write(wording, notification);
    let mut all = Mailing::default();
    for name in std::iter::once(mail_server).chain(fallback) {
        let route = format!("e-mail through {name}");
        // The fallback serves recipients that the first server refused.
        let rest = all.left.as_deref().unwrap_or(only);
        let sent = tokio::time::timeout(
            channel.timeout.to_std(),
            email::send(channel, name, to, rest, &letter),
        )
        .await
        .unwrap_or_else(|_| Err(email::Failed::Otherwise(late(channel), true)));
        match sent {
            Ok((reply, refused)) => {
                all.replies.push(format!("{route}: {reply}"));
                all.channels.push((route, Ok(())));
                all.left = Some(refused.for_now);
                all.gone.extend(refused.for_good);
            }
            // If the remaining recipients' mailboxes are full, the channel has not failed: it
            // accepts mail for others.
            Err(email::Failed::Recipients(error, refused)) if !rest.is_empty() => {
                all.failures.push(format!("{name}: {error}"));
                // A refusal by the fallback is not final for recipients that the first server
                // refused temporarily.
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
                all.channels.push((route, Err(error)));
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
        result: mailed(all.replies, all.failures, all.left, all.gone)
            .map_err(|refused| Refused { maybe, ..refused }),
        channels: all.channels,
    }
}

/// Returns what an action would send, in readable form and without secrets.
pub fn preview(action: &Action, notification: &Notification) -> String {
    match action {
        Action::Email { wording, .. } => AlarmMail::write(wording, notification).to_string(),
        Action::Webhook(hook) => webhook::preview(hook, notification),
        Action::Command { .. } => notification
            .environment()
            .into_iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect(),
        Action::Syslog { .. } => {
            notification.lines.iter().map(|line| format!("{}\n", line.text)).collect()
        }
    }
}

/// Finds problems with the templates of action lists by filling them in with examples of messages
/// about alarms, each with a description such as `a recovery`. The action list of `[delivery]` is
/// also checked with a notice.
pub fn check(config: &Config, alarms: &[(&'static str, Notification)]) -> Problems {
    let mut problems = Problems::default();
    let mut all = alarms.to_vec();
    all.push(("a notice about reports, without alarms", Notification::example_notice(config)));
    for (name, list) in &config.action_lists {
        let of_reports = config.delivery.action_list.as_ref() == Some(name);
        let examples = if of_reports { all.as_slice() } else { alarms };
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

/// Combines the answers of mail servers; `left` are the recipients to be notified again, `gone`
/// those that were refused permanently.
fn mailed(
    replies: Vec<String>,
    failures: Vec<String>,
    left: Option<Vec<String>>,
    gone: Vec<String>,
) -> Result<Accepted, Refused> {
    if replies.is_empty() {
        let text = failures.join("; ");
        return Err(Refused { left, ..Refused::from(text) });
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
    use mailqos_tests::servers::{Fault, MailServer, Options, Protocol, SmtpHabits, When};

    use super::*;
    use crate::testing;

    #[tokio::test(flavor = "multi_thread")]
    async fn one_full_mailbox_is_not_a_failure_of_the_channel() {
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
        let step = &Channel::of(&config, &config.action_lists["default"].steps[0]);
        let notification = testing::test();
        // The servers have none of these mailboxes and refuse them permanently; only the first
        // mailbox is merely full.
        let fill = || {
            let reply = Fault::Reply("452 4.2.2 mailbox full".to_owned());
            first.inject(Protocol::Smtp, "RCPT", reply, When::Times(1));
        };
        let [full, gone] = ["full@example.net", "gone@example.net"].map(str::to_owned);

        // To all recipients: the fallback is for the full mailbox.
        fill();
        let outcome = send(step, &notification, &[]).await;
        let Ok(Accepted::Partly { words, left, gone: lost }) = outcome.result else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            (left.as_slice(), lost.as_slice()),
            (&[full.clone()][..], &[gone.clone()][..]),
            "{words}"
        );
        assert!(
            words.contains("gone@example.net was rejected: 550") && words.contains("second: full@"),
            "{words}"
        );
        assert_eq!(outcome.channels, [("e-mail through first".to_owned(), Ok(()))]);

        // To one: permanently refused recipients are not retried, and the fallback does not change
        // that.
        let rest = [full.clone(), gone];
        for (is_full, expected) in [(true, vec![full]), (false, Vec::new())] {
            if is_full {
                fill();
            }
            let outcome = send(step, &notification, &rest).await;
            let refused = outcome.result.expect_err("refused");
            assert_eq!(refused.left, Some(expected), "{refused}");
            assert!(refused.text.contains("gone@example.net was rejected: 550"), "{refused}");
            assert!(outcome.channels.is_empty(), "{:?}", outcome.channels);
        }

        // A server that accepts mail for none of the recipients may well be broken.
        first.inject(
            Protocol::Smtp,
            "RCPT",
            Fault::Reply("550 5.7.1 no relaying".to_owned()),
            When::Always,
        );
        let outcome = send(step, &notification, &[]).await;
        let failed: Vec<_> = outcome.channels.iter().map(|(_, result)| result.is_err()).collect();
        assert_eq!(failed, [true, false], "{outcome:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_alarm_goes_out_by_a_server_that_knows_only_helo() {
        let server = MailServer::start(Options {
            users: vec![("anna@example.net".to_owned(), "x".to_owned())],
            smtp_auth_required: false,
            smtp_habits: SmtpHabits {
                no_ehlo: Some("502 5.5.2 Error: command not recognized"),
                ..SmtpHabits::default()
            },
            ..Options::default()
        })
        .await
        .expect("a server");
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let text = format!(
            "site = \"here\"\n[mail_server.a]\nserver = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"q@example.net\"\n\
             [action_list.default]\nactions = [{{ email = [\"anna@example.net\"], mail_server = \"a\" }}]\n",
            server.smtp_port()
        );
        std::fs::write(&path, text).expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let step = &config.action_lists["default"].steps[0];
        let outcome = send(&Channel::of(&config, step), &testing::test(), &[]).await;
        assert!(matches!(outcome.result, Ok(Accepted::Confirmed(_))), "{outcome:?}");
        assert_eq!(server.accepted().len(), 1);
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
        let people: Vec<String> =
            (0..120).map(|number| format!("\"Jörg Nummer {number} <{}>\"", user(number))).collect();
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
        let mut notification = testing::test();
        notification.subject =
            format!("Störung\r\nBcc: x@example.net {}", "Überlastung ".repeat(40));
        let outcome = send(&Channel::of(&config, step), &notification, &[]).await;
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
