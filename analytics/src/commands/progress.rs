//! Shows the progress of long work on a terminal, and nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// Duration of work below which nothing is shown.
const TICK: Duration = Duration::from_millis(200);

/// Shows a spinner for work of unknown duration.
pub(super) fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what).with_finish(ProgressFinish::AndClear);
    bar.enable_steady_tick(TICK);
    bar
}

/// Shows a bar for work in this many steps; its message names the current one.
pub(super) fn steps(count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar =
        ProgressBar::new(count as u64).with_style(style).with_finish(ProgressFinish::AndClear);
    bar.enable_steady_tick(TICK);
    bar
}
