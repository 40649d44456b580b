//! The ways to tell somebody: each takes a message and says whether it was accepted, within a deadline.

mod command;
mod email;
mod syslog;
pub(crate) mod webhook;

use mailqos_core::config::{Action, Config, Step};

use super::message::Telling;

/// What a way has done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// The other end has taken it; its words.
    Confirmed(String),
    /// It has taken it for some; those whom it refused for now, and who are to be told again.
    Partly(String, Vec<String>),
    /// It was handed over, and nothing ever confirms it.
    Unconfirmed(String),
}

impl Accepted {
    /// What was said of it.
    pub(crate) fn words(&self) -> &str {
        let (Self::Confirmed(words) | Self::Partly(words, _) | Self::Unconfirmed(words)) = self;
        words
    }

    /// Whether somebody has it for sure.
    pub(crate) fn is_confirmed(&self) -> bool {
        !matches!(self, Self::Unconfirmed(_))
    }
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether the message was accepted; otherwise why not.
    pub(crate) result: Result<Accepted, String>,
    /// The channels that were tried, and how each did: the mail server and its fallback are two.
    pub(crate) channels: Vec<(String, Result<(), String>)>,
}

/// Carries out an action, once; a mail goes to those in `only`, unless nobody is.
pub(crate) async fn carry_out(config: &Config, step: &Step, telling: &Telling, only: &[String]) -> Outcome {
    let deadline = step.timeout.to_std();
    let late = || format!("did not end within {}", step.timeout);
    if let Action::Email {
        to,
        mail_server,
        fallback,
    } = &step.action
    {
        let mut channels = Vec::new();
        let (mut replies, mut failures) = (Vec::new(), Vec::new());
        let mut left: Vec<String> = Vec::new();
        for name in std::iter::once(mail_server).chain(fallback) {
            let channel = format!("e-mail through {name}");
            // The fallback is for those whom the first did not take it for.
            let rest = if left.is_empty() { only } else { left.as_slice() };
            let sent = tokio::time::timeout(deadline, email::send(config, name, to, rest, telling))
                .await
                .unwrap_or_else(|_| Err(late()));
            match sent {
                Ok((reply, refused)) => {
                    replies.push(format!("{channel}: {reply}"));
                    channels.push((channel, Ok(())));
                    left = refused;
                    if left.is_empty() {
                        break;
                    }
                }
                Err(error) => {
                    failures.push(format!("{name}: {error}"));
                    channels.push((channel, Err(error)));
                }
            }
        }
        return Outcome {
            result: mailed(replies, failures, left),
            channels,
        };
    }
    let work = async {
        match &step.action {
            Action::Webhook(hook) => webhook::send(hook, telling, deadline).await.map(Accepted::Confirmed),
            Action::Command { words, environment } => {
                command::run(words, environment, telling).await.map(Accepted::Confirmed)
            }
            Action::Syslog { to, facility } => syslog::send(to, *facility, telling, deadline).await,
            Action::Email { .. } => Err("is sent otherwise".to_owned()),
        }
    };
    let result = tokio::time::timeout(deadline, work)
        .await
        .unwrap_or_else(|_| Err(late()));
    let channel = (step.action.route(), result.as_ref().map(|_| ()).map_err(Clone::clone));
    Outcome {
        result,
        channels: vec![channel],
    }
}

/// What the answers of mail servers come to; `left` are those who are to be told again.
fn mailed(replies: Vec<String>, failures: Vec<String>, left: Vec<String>) -> Result<Accepted, String> {
    if replies.is_empty() {
        return Err(failures.join("; "));
    }
    let words = [replies, failures].concat().join("; ");
    Ok(if left.is_empty() {
        Accepted::Confirmed(words)
    } else {
        Accepted::Partly(words, left)
    })
}
