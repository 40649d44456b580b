//! The outbox stores each delivery before its first attempt, retries it across restarts, and enters
//! it in the ledger once it has arrived. A delivery in the ledger is never repeated.
//!
//! [`Outbox`] is the store on disk. [`work_off`] attempts the due deliveries, [`sweep`] removes old
//! files from targets, and [`notify`] reports deliveries that failed. The three are independent of
//! each other.

mod again;
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
    again::Again,
    files::OutboxError,
    ledger::{Entry, Line, Removal},
    notices::notify,
    order::{Order, StoredFile, is_due},
    store::{Named, Outbox, Request, Submitted},
    sweeper::sweep,
    worker::{Work, work_off},
};
pub use crate::file_store::Reason;
