//! `mailqos-probe check`: lists all problems of the configuration, and its unavailable secrets.

use std::{collections::BTreeSet, process::ExitCode};

use mailqos_base::{SecretSource, zones};
use mailqos_config::{Config, DataLocation, Monitor, Severity};

use super::{Failure, Global, print_line, proxies};
use crate::{heartbeat, mailbox_test, record::Recorder};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also try the IMAP folders of each mailbox and the lake's object store (writes and deletes a
    /// test object).
    #[arg(long)]
    connect: bool,
}

/// Returns the secrets that are not available to this user. Commands that provide one are not run,
/// because their side effects are unknown.
async fn missing_secrets(config: &Config) -> Vec<String> {
    let mut told = Vec::new();
    for (what, source) in config.secrets() {
        if matches!(source, SecretSource::Command(_)) {
            continue;
        }
        let line = match source.fetch().await {
            Ok(secret) if secret.expose().trim() != secret.expose() => {
                format!(
                    "{what} starts or ends with white space, which counts as part of the secret; remove it \
                    if unintended"
                )
            }
            Ok(_) => continue,
            Err(error) => {
                format!("{what}: {error}; the user that runs the probe needs access to it")
            }
        };
        if !told.contains(&line) {
            told.push(line);
        }
    }
    told
}

/// Maximum number of monitors that a warning names.
const MAX_NAMED: usize = 5;

/// Returns a warning if no one is notified of the alarms of some monitors, although that is not
/// requested.
fn unnotified(config: &Config) -> Option<String> {
    let is_notified = |monitor: &Monitor| {
        let list = monitor.action_list.as_ref().and_then(|name| config.action_lists.get(name));
        list.is_some_and(|list| !list.steps.is_empty())
    };
    let silent: Vec<&str> = config
        .monitors
        .values()
        .filter(|monitor| monitor.enabled && !monitor.is_silent && !is_notified(monitor))
        .map(|monitor| monitor.id.as_str())
        .collect();
    if silent.is_empty() {
        return None;
    }
    let more = match silent.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = silent.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
    Some(format!(
        "no one is notified of alarms of {named}{more}; add [action_list.default] (docs/alarms.md), or set \
         action_list = \"none\" if that is intended"
    ))
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config_with_warnings()?;
    let missing = missing_secrets(&config).await;
    for line in &missing {
        tracing::warn!(file = %config.file.display(), problem = %line, "problem with a secret");
    }
    let mut doubts: Vec<String> = unnotified(&config).into_iter().collect();
    if config.heartbeat.is_some() && heartbeat::routes(&config).is_empty() {
        doubts.push(
            "no heartbeat will be sent, because no alarm channel is configured; add \
             [action_list.default]"
                .to_owned(),
        );
    }
    for line in &doubts {
        tracing::warn!(file = %config.file.display(), "{line}");
    }
    let warnings = config.warnings.count(Severity::Warning) + missing.len() + doubts.len();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let monitors = config.monitors.len();
    let enabled = config.monitors.values().filter(|monitor| monitor.enabled).count();
    print_line(&format!(
        "{}: {}; site {}, {monitors} monitor{} ({enabled} enabled) on {} object{}",
        config.file.display(),
        if warnings == 0 {
            "valid".to_owned()
        } else {
            format!("valid with {warnings} warning{}", plural(warnings))
        },
        config.site,
        plural(monitors),
        config.objects.len(),
        plural(config.objects.len()),
    ))?;
    let zone = config.timezone.iana_name().unwrap_or("UTC");
    print_line(&format!("times in {zone}; rules of time zones: {}", zones::version()))?;
    for line in proxies::describe(&config).await {
        print_line(&line)?;
    }
    if args.connect {
        let all_there = mailboxes(&config).await?;
        connect(&config).await?;
        if !all_there {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tests the mailbox of each enabled monitor, each mailbox once; returns whether all folders exist.
async fn mailboxes(config: &Config) -> Result<bool, Failure> {
    let mut tried = BTreeSet::new();
    let mut all_there = true;
    for monitor in config.monitors.values().filter(|monitor| monitor.enabled) {
        let Some(pickup) = monitor.kind.pickup() else {
            continue;
        };
        let endpoint = &pickup.endpoint;
        let account = endpoint.account.as_ref().map(ToString::to_string);
        if !tried.insert((endpoint.server.clone(), endpoint.port, account, pickup.folders.clone()))
        {
            continue;
        }
        let lines = match mailbox_test::missing_folders(config, &pickup).await {
            Ok(lines) => lines,
            Err(reason) => vec![format!("can't open the mailbox: {reason}")],
        };
        for line in lines {
            all_there = false;
            print_line(&format!("monitor {}: {line}", monitor.id))?;
        }
    }
    if all_there {
        print_line("all configured mailbox folders exist")?;
    }
    Ok(all_there)
}

/// Tests the features of the lake's object store.
async fn connect(config: &Config) -> Result<(), Failure> {
    match Recorder::try_store(config).await {
        Ok(None) => print_line("the lake is in a local folder; no object store to test"),
        Ok(Some(habits)) => {
            let DataLocation::ObjectStore(address) = &config.data else {
                return Ok(());
            };
            print_line(&format!("{address}: readable and writable"))?;
            habits.told().into_iter().try_for_each(|line| print_line(&format!("  {line}")))
        }
        Err(error) => {
            Err(Failure::work(format!("can't use the object store of the lake: {error}")))
        }
    }
}
