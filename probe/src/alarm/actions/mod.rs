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
    /// It was handed over, and nothing ever confirms it.
    Unconfirmed(String),
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether the message was accepted; otherwise why not.
    pub(crate) result: Result<Accepted, String>,
    /// The channels that were tried, and how each did: the mail server and its fallback are two.
    pub(crate) channels: Vec<(String, Result<(), String>)>,
}

/// Carries out an action, once.
pub(crate) async fn carry_out(config: &Config, step: &Step, telling: &Telling) -> Outcome {
    let deadline = step.timeout.to_std();
    let late = || format!("did not end within {}", step.timeout);
    if let Action::Email {
        to,
        mail_server,
        fallback,
    } = &step.action
    {
        let mut channels = Vec::new();
        let mut failures = Vec::new();
        for name in std::iter::once(mail_server).chain(fallback) {
            let channel = format!("e-mail through {name}");
            let sent = tokio::time::timeout(deadline, email::send(config, name, to, telling))
                .await
                .unwrap_or_else(|_| Err(late()));
            match sent {
                Ok(reply) => {
                    channels.push((channel.clone(), Ok(())));
                    return Outcome {
                        result: Ok(Accepted::Confirmed(format!("{channel}: {reply}"))),
                        channels,
                    };
                }
                Err(error) => {
                    failures.push(format!("{name}: {error}"));
                    channels.push((channel, Err(error)));
                }
            }
        }
        return Outcome {
            result: Err(failures.join("; ")),
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
