//! The outbox: a delivery is stored before its first attempt, is tried again across restarts, and
//! is entered in the ledger once it has arrived. What is in the ledger is never delivered again.
//!
//! [`Outbox`] is the store on disk. [`work_off`] delivers what is due, [`sweep`] removes old files
//! from targets, and [`notify`] reports deliveries that failed. None of the three knows the others.

mod files;
mod ledger;
mod notices;
mod order;
mod store;
mod sweeper;
#[cfg(test)]
mod tests;
mod worker;

pub use self::{
    files::OutboxError,
    ledger::{Entry, Line, Removal},
    notices::notify,
    order::{Order, StoredFile, is_due},
    store::{Named, Outbox, Request, Submitted},
    sweeper::sweep,
    worker::{Work, work_off},
};
pub use crate::file_store::Reason;
