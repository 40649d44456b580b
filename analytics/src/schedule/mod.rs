//! Schedules: which reports are due, and for which period; each run is stored in the outbox before
//! it counts as done.

mod run;

pub use run::{Due, ScheduleError, definitions, due, run_due};
pub(crate) use run::{InvalidDefinition, report_invalid_definitions, say};
