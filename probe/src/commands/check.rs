//! `mailqos-probe check`: all that is wrong with the configuration, and which of its secrets can't be had.

use std::process::ExitCode;

use mailqos_core::{
    config::{Config, DataLocation, Severity},
    mail::SecretSource,
    zones,
};

use super::{Failure, Global, print_line};
use crate::record::Recorder;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also tries the object store in which the lake is: writes an object, tries what the store makes of conditions and
    /// checksums, and deletes the object.
    #[arg(long)]
    connect: bool,
}

/// The secrets that can't be had from here. Programs that give one are not run: what they do beside that is not known.
async fn missing_secrets(config: &Config) -> Vec<String> {
    let mut told = Vec::new();
    for (what, source) in config.secrets() {
        if matches!(source, SecretSource::Command(_)) {
            continue;
        }
        if let Err(error) = source.fetch().await {
            let line = format!("{what}: {error}");
            if !told.contains(&line) {
                told.push(line);
            }
        }
    }
    told
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config_with_warnings()?;
    let missing = missing_secrets(&config).await;
    for line in &missing {
        tracing::warn!(
            "{}: {line}; mailqos needs it where it runs, as the user that it runs as",
            config.file.display()
        );
    }
    let warnings = config.warnings.count(Severity::Warning) + missing.len();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let monitors = config.monitors.len();
    let enabled = config.monitors.values().filter(|monitor| monitor.enabled).count();
    print_line(&format!(
        "{}: {}; site {}, {monitors} monitor{} ({enabled} enabled) on {} object{}",
        config.file.display(),
        if warnings == 0 {
            "all is well".to_owned()
        } else {
            format!("usable, with {warnings} warning{}", plural(warnings))
        },
        config.site,
        plural(monitors),
        config.objects.len(),
        plural(config.objects.len()),
    ))?;
    let zone = config.timezone.iana_name().unwrap_or("UTC");
    print_line(&format!("times in {zone}; rules of time zones: {}", zones::version()))?;
    if args.connect {
        connect(&config).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the store of the lake can do.
async fn connect(config: &Config) -> Result<(), Failure> {
    match Recorder::try_store(config).await {
        Ok(None) => print_line("the lake is in a folder: there is no object store to try"),
        Ok(Some(habits)) => {
            let DataLocation::ObjectStore(address) = &config.data else {
                return Ok(());
            };
            print_line(&format!("{address}: it can be written and read"))?;
            habits
                .told()
                .into_iter()
                .try_for_each(|line| print_line(&format!("  {line}")))
        }
        Err(error) => Err(Failure::work(format!(
            "the object store of the lake can't be used: {error}"
        ))),
    }
}
