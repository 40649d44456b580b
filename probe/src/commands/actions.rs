//! `mailqos-probe actions`: tests an action list, or sends a notification through it.

use std::{io::Read as _, process::ExitCode};

use mailqos_config::{ActionList, Config, Step, nearest};
use mailqos_control::response::ActionResult;
use mailqos_model::Micros;
use mailqos_notify::{Notification, Program, preview, send_notice};

use super::{Failure, Global, print_line};
use crate::alarm::{self, NotificationKind, message};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send a test message through every action of a list, ignoring hours, without retries.
    Test {
        /// Name of the action list.
        #[arg(default_value = "default")]
        list: String,
    },
    /// Preview the messages of an action list without sending them.
    Preview {
        /// Name of the action list.
        #[arg(default_value = "default")]
        list: String,
        /// Kind of message.
        #[arg(long, value_enum, default_value_t = Example::Alarm)]
        kind: Example,
    },
    /// Send one notification through a list's immediate actions; reads JSON with id, subject and
    /// text from standard input.
    Tell {
        /// Name of the action list.
        #[arg(default_value = "default")]
        list: String,
    },
}

/// A message to preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Example {
    /// Alarm raised.
    Alarm,
    /// Alarm escalated.
    Escalation,
    /// Reminder of an open alarm.
    Reminder,
    /// Alarm cleared.
    Recovery,
    /// Summary of many simultaneous alarms.
    Many,
    /// Test of the action list.
    Test,
    /// Notice about reports.
    Notice,
}

impl Example {
    /// Returns an example of the notification.
    fn notification(self, config: &Config) -> Notification {
        let why = match self {
            Self::Alarm => NotificationKind::Raised,
            Self::Escalation => NotificationKind::Escalated,
            Self::Reminder => NotificationKind::Reminder,
            Self::Recovery => NotificationKind::Cleared,
            Self::Many => return message::many(config),
            Self::Test => NotificationKind::Test,
            Self::Notice => return Notification::example_notice(config),
        };
        message::test(config, why)
    }
}

/// Prints what the actions of a list would send.
fn show(config: &Config, list: &ActionList, kind: Example) -> Result<ExitCode, Failure> {
    let notification = kind.notification(config);
    for step in &list.steps {
        print_line(&format!("── {}", step.action.route()))?;
        print_line(preview(&step.action, &notification).trim_end())?;
        print_line("")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Maximum size of standard input, in bytes.
const MAX_INPUT: u64 = 1 << 20;

/// The notification from standard input.
#[derive(serde::Deserialize)]
struct Notice {
    /// Id, which stays the same if a notification is sent again.
    id: String,
    subject: String,
    text: String,
}

/// Sends a notification read from standard input. It succeeds if one channel accepts it.
async fn tell(config: &Config, list: &ActionList) -> Result<ExitCode, Failure> {
    let mut text = String::new();
    std::io::stdin().take(MAX_INPUT).read_to_string(&mut text).map_err(Failure::work)?;
    let notice: Notice = serde_json::from_str(&text).map_err(|error| {
        Failure::Usage(format!("standard input is not a valid notification: {error}"))
    })?;
    let Notice { id, subject, text } = notice;
    let notice = Notification::notice(config, Program::Probe, &id, &subject, &text);
    let mut accepted = false;
    for (route, answer) in send_notice(config, list, &notice).await {
        match answer {
            Ok(taken) => {
                accepted = true;
                tracing::info!(channel = %route, reply = %taken.words(), "notification accepted");
            }
            Err(error) => tracing::error!(channel = %route, %error, "notification not accepted"),
        }
    }
    if accepted {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::Work("no action accepted the notification".to_owned()))
    }
}

/// Sends a test message through an action, once; returns a line about the result.
///
/// # Errors
/// The line, if the message was not accepted.
pub(super) async fn try_step(config: &Config, step: &Step) -> Result<String, String> {
    let ActionResult { route, accepted, confirmed, text, took } =
        alarm::try_step(config, step).await;
    match (accepted, confirmed) {
        (true, true) => Ok(format!("✓ {route}: accepted in {} ({text})", Micros(took))),
        (true, false) => Ok(format!("~ {route}: {text}")),
        (false, _) => Err(format!("✗ {route}: {text}")),
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let (Command::Test { list: name }
    | Command::Tell { list: name }
    | Command::Preview { list: name, .. }) = &args.command;
    let config = global.config_with_warnings()?;
    let Some(list) = config.action_lists.get(name.as_str()) else {
        let known = config.action_lists.keys().map(AsRef::as_ref);
        let hint = match nearest(name, known.clone()) {
            Some(near) => format!("did you mean {near}?"),
            None if config.action_lists.is_empty() => {
                "there are none; add [action_list.default]".to_owned()
            }
            None => format!("there are: {}", known.collect::<Vec<_>>().join(", ")),
        };
        return Err(Failure::Usage(format!("no action list is named {name:?}; {hint}")));
    };
    if list.steps.is_empty() {
        return Err(Failure::Usage(format!("the action list {name} has no action")));
    }
    if let Command::Preview { kind, .. } = args.command {
        return show(&config, list, kind);
    }
    if matches!(args.command, Command::Tell { .. }) {
        return tell(&config, list).await;
    }
    let mut failed = 0;
    for step in &list.steps {
        let line = try_step(&config, step).await.unwrap_or_else(|line| {
            failed += 1;
            line
        });
        print_line(&line)?;
    }
    if failed == 0 {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::Work(format!("{failed} of {} actions failed", list.steps.len())))
    }
}
