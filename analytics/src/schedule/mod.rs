//! Schedules determine which reports are due for which period. A run counts as done only once its
//! deliveries are in the outbox.

mod heartbeat;
mod run;

pub use heartbeat::{Passes, beat};
pub use run::{Due, ScheduleError, definitions, due, run_due};
pub(crate) use run::{InvalidDefinition, report_invalid_definitions, say};
