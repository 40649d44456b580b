//! `mailqos-probe check`: all that is wrong with the configuration.

use std::process::ExitCode;

use mailqos_core::config::Severity;

use super::{Failure, Global, print_line};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config_with_warnings()?;
    let warnings = config.warnings.count(Severity::Warning);
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
    Ok(ExitCode::SUCCESS)
}
