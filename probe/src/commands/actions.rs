//! `mailqos-probe actions`: tries out an action list for real.

use std::{io::Write as _, process::ExitCode, time::Instant};

use mailqos_core::{
    config::{Action, nearest},
    model::Micros,
};

use super::{Failure, Global};
use crate::alarm::{Accepted, Telling, Why, carry_out};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send a test message by every action of a list, whatever its hours; nothing is put off, nothing is tried twice.
    Test {
        /// The action list.
        #[arg(default_value = "default")]
        list: String,
    },
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let Command::Test { list: name } = args.command;
    let config = global.config()?;
    let Some(list) = config.action_lists.get(name.as_str()) else {
        let known = config.action_lists.keys().map(AsRef::as_ref);
        let hint = match nearest(&name, known.clone()) {
            Some(near) => format!("did you mean {near}?"),
            None if config.action_lists.is_empty() => "there are none; add [action_list.default]".to_owned(),
            None => format!("there are: {}", known.collect::<Vec<_>>().join(", ")),
        };
        return Err(Failure::Usage(format!("no action list is named {name:?}; {hint}")));
    };
    if list.steps.is_empty() {
        return Err(Failure::Usage(format!("the action list {name} has no action")));
    }
    let mut failed = 0;
    for step in &list.steps {
        let route = step.action.route();
        let begun = Instant::now();
        let telling = Telling::test(&config, Why::Test);
        let mut outcome = carry_out(&config, step, &telling).await;
        let counts = matches!(&step.action, Action::Webhook(hook) if hook.service.counts_incidents());
        if counts && outcome.result.is_ok() {
            // What the test has opened is closed again.
            let end = Telling::test(&config, Why::Cleared).of_incident(&telling.incident);
            outcome = carry_out(&config, step, &end).await;
        }
        let took = Micros(Micros::from(begun.elapsed()).0 / 1000 * 1000);
        let line = match outcome.result {
            Ok(Accepted::Confirmed(words)) => format!("✓ {route}: accepted in {took} ({words})"),
            Ok(Accepted::Unconfirmed(words)) => format!("~ {route}: {words}"),
            Err(error) => {
                failed += 1;
                format!("✗ {route}: {error}")
            }
        };
        let _ = writeln!(std::io::stdout(), "{line}");
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
