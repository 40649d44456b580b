//! Analytics: turns samples and events into reports and delivers them.

pub mod commands;
pub mod dispatch;
#[cfg(feature = "test-hooks")]
pub mod fuzzing;
pub mod schedule;
