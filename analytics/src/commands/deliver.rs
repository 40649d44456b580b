//! `mailqos-analytics deliver`: delivers existing files.

use std::{path::PathBuf, process::ExitCode};

use mailqos_config::{Config, did_you_mean};
use mailqos_delivery::{
    Item, MailContent,
    outbox::{self, Outbox, Request, Submitted, Work},
};
use mailqos_model::{Name, UtcMicros};
use mailqos_report::naming::Names;

use super::{Failure, Global};

/// Options of `deliver`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files to deliver.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Configured target (repeatable).
    #[arg(long, required = true, value_name = "TARGET")]
    to: Vec<String>,

    /// Subfolder of the target's folder.
    #[arg(long, value_name = "FOLDER", default_value = "")]
    folder: String,

    /// Subject of the mail [default: names of the files].
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, an unreadable file, or a failed delivery, which `schedule` and `outbox retry` try
/// again.
pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.load()?;
    let now = UtcMicros::now();
    let mut items = Vec::new();
    for path in &args.files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name.filter(|_| path.is_file()) else {
            return Err(Failure::usage(
                format!("{}: no such file", path.display()),
                "check the names of the files",
            ));
        };
        items.push(Item { name, path: path.clone() });
    }
    let names = items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>().join(", ");
    let letter = MailContent {
        subject: args.subject.clone().unwrap_or_else(|| names.clone()),
        text: names,
        ..MailContent::default()
    };
    let stem = args.files.first().and_then(|path| path.file_stem());
    let stem = stem.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let names = Names::of_day(&config, &stem, now);
    let mut requests = Vec::new();
    for target in &args.to {
        let target = target_of(&config, target)?;
        let folders = names.folders(&config, &target, &args.folder);
        let (folder, linked_folder) = folders.map_err(|error| {
            Failure::usage(
                format!("[target.{target}]: {error}"),
                "see docs/delivery.md for the variables",
            )
        })?;
        requests.push(Request {
            target,
            folder,
            linked_folder,
            letter: letter.clone(),
            items: items.clone(),
            // Each call counts as a new delivery, not as a repetition of an earlier one.
            occasion: now.to_string(),
            report: String::new(),
            run: String::new(),
        });
    }
    send(&config, &requests, now).await
}

/// Returns the target with the given name.
pub(super) fn target_of(config: &Config, name: &str) -> Result<Name, Failure> {
    config.targets.keys().find(|known| known.as_str() == name).cloned().ok_or_else(|| {
        let known = config.targets.keys().map(Name::as_str);
        Failure::usage(
            format!("unknown target {name:?}"),
            did_you_mean(name, known.clone(), || {
                if config.targets.is_empty() {
                    "add a [target.NAME] table to the configuration".to_owned()
                } else {
                    format!("known targets: {}", known.collect::<Vec<_>>().join(", "))
                }
            }),
        )
    })
}

/// Queues deliveries and makes the first attempt immediately.
pub(super) async fn send(
    config: &Config,
    requests: &[Request],
    now: UtcMicros,
) -> Result<ExitCode, Failure> {
    let outbox = Outbox::open(config).map_err(Failure::work)?;
    for request in requests {
        match outbox.submit(request, now).map_err(Failure::work)? {
            Submitted::Waits(_) => {}
            Submitted::Delivered(_) => eprintln!("{}: delivered before", request.target),
        }
    }
    let work = outbox::work_off(&outbox, config, UtcMicros::now()).await.map_err(Failure::work)?;
    tell(&work);
    outbox::notify(&outbox, config, UtcMicros::now()).await.map_err(Failure::work)?;
    let mine = |target: &str| requests.iter().any(|request| request.target.as_str() == target);
    let failed = work.failed.iter().chain(&work.dead).any(|order| mine(&order.target));
    let refused =
        work.delivered.iter().any(|entry| mine(&entry.target) && !entry.refused.is_empty());
    Ok(if failed || refused || !work.trouble.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Prints the results of the delivery attempts to standard error.
pub(super) fn tell(work: &Work) {
    for target in &work.busy {
        eprintln!(
            "{target}: a running schedule is delivering to this target; see `mailqos-analytics outbox list`"
        );
    }
    for entry in &work.delivered {
        eprintln!("{}: {} ({})", entry.target, entry.places.join(", "), entry.reply);
        for (recipient, reply) in &entry.refused {
            eprintln!("{}: {recipient} was rejected: {reply}", entry.target);
        }
    }
    for order in &work.failed {
        let reason = order.last_error.as_deref().unwrap_or("no reason given");
        let next = UtcMicros(order.next_attempt_at);
        let id = &order.id;
        if order.stuck {
            eprintln!(
                "{}: {reason}; kept in the outbox; fix the cause, then run `mailqos-analytics outbox retry \
                 {id}`; next retry {next}",
                order.target
            );
        } else {
            eprintln!("{}: {reason}; kept in the outbox; next retry {next}", order.target);
        }
    }
    for order in &work.dead {
        let reason = order.last_error.as_deref().unwrap_or("no reason given");
        eprintln!(
            "{}: {reason}; given up; fix the cause, then run `mailqos-analytics outbox retry {}`",
            order.target, order.id
        );
    }
    for error in &work.trouble {
        eprintln!("{error}; deliveries that can't be recorded are not sent");
    }
}
