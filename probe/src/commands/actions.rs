//! `mailqos-probe actions`: tries out an action list for real, or tells something by it.

use std::{io::Read as _, process::ExitCode, time::Instant};

use mailqos_config::{ActionList, Config, On, Step, nearest};
use mailqos_model::Micros;

use super::{Failure, Global, print_line};
use crate::alarm::{Accepted, Telling, Way, Why, carry_out, preview};

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
    /// Kind of message.
    fn telling(self, config: &Config) -> Telling {
        let why = match self {
            Self::Alarm => Why::Raised,
            Self::Escalation => Why::Escalated,
            Self::Reminder => Why::Reminder,
            Self::Recovery => Why::Cleared,
            Self::Many => return Telling::many(config),
            Self::Test => Why::Test,
            Self::Notice => return Telling::example_notice(config),
        };
        Telling::test(config, why)
    }
}

/// Shows what the actions of a list would send.
fn show(config: &Config, list: &ActionList, kind: Example) -> Result<ExitCode, Failure> {
    let telling = kind.telling(config);
    for step in &list.steps {
        print_line(&format!("── {}", step.action.route()))?;
        print_line(preview(&step.action, &telling).trim_end())?;
        print_line("")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Maximum size of standard input, in bytes.
const MOST_READ: u64 = 1 << 20;

/// What is told.
#[derive(serde::Deserialize)]
struct Notice {
    /// The same for what is told again.
    id: String,
    subject: String,
    text: String,
}

/// Carries out the actions that wait for nothing; it is well when one way has accepted it.
async fn tell(config: &Config, list: &ActionList) -> Result<ExitCode, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(MOST_READ)
        .read_to_string(&mut text)
        .map_err(Failure::work)?;
    let notice: Notice = serde_json::from_str(&text)
        .map_err(|error| Failure::Usage(format!("standard input is not a valid notification: {error}")))?;
    let telling = Telling::notice(config, &notice.id, &notice.subject, &notice.text);
    let told = |step: &&Step| step.on != On::Recovery;
    let mut steps: Vec<&Step> = list
        .steps
        .iter()
        .filter(told)
        .filter(|step| step.after == Micros::ZERO)
        .collect();
    if steps.is_empty() {
        steps = list.steps.iter().filter(told).collect();
    }
    let mut accepted = false;
    for step in steps {
        let route = step.action.route();
        match carry_out(&Way::of(config, step), &telling, &[]).await.result {
            Ok(taken) => {
                accepted = true;
                tracing::info!("{route}: {}", taken.words());
            }
            Err(error) => tracing::error!("{route}: {error}"),
        }
    }
    if accepted {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::Work("no action accepted the notification".to_owned()))
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let (Command::Test { list: name } | Command::Tell { list: name } | Command::Preview { list: name, .. }) =
        &args.command;
    let config = global.config_with_warnings()?;
    let Some(list) = config.action_lists.get(name.as_str()) else {
        let known = config.action_lists.keys().map(AsRef::as_ref);
        let hint = match nearest(name, known.clone()) {
            Some(near) => format!("did you mean {near}?"),
            None if config.action_lists.is_empty() => "there are none; add [action_list.default]".to_owned(),
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
        let route = step.action.route();
        let begun = Instant::now();
        let (way, telling) = (Way::of(&config, step), Telling::test(&config, Why::Test));
        let mut outcome = carry_out(&way, &telling, &[]).await;
        if way.counts_incidents() && outcome.result.is_ok() {
            // What the test has opened is closed again.
            let end = Telling::test(&config, Why::Cleared).of_incident(&telling.incident);
            outcome = carry_out(&way, &end, &[]).await;
        }
        let took = Micros(Micros::from(begun.elapsed()).0 / 1000 * 1000);
        let line = match outcome.result {
            Ok(Accepted::Confirmed(words) | Accepted::Partly { words, .. }) => {
                format!("✓ {route}: accepted in {took} ({words})")
            }
            Ok(Accepted::Unconfirmed(words)) => format!("~ {route}: {words}"),
            Err(error) => {
                failed += 1;
                format!("✗ {route}: {error}")
            }
        };
        print_line(&line)?;
    }
    if failed == 0 {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::Work(format!(
            "{failed} of {} actions failed",
            list.steps.len()
        )))
    }
}
