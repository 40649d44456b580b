//! Locks whose holder may have panicked.

use std::sync::{LockResult, PoisonError};

/// Takes a lock, even if a previous holder panicked.
///
/// Data that mailqos guards by locks is consistent between any two statements of a holder, so the
/// other tasks can continue after one has panicked:
///
/// ```
/// use mailqos_base::lock::IgnorePoison as _;
///
/// let count = std::sync::Mutex::new(1);
/// *count.lock().ignore_poison() += 1;
/// ```
pub trait IgnorePoison {
    /// The guard.
    type Guard;
    /// Returns the guard, whether or not an earlier holder panicked.
    fn ignore_poison(self) -> Self::Guard;
}

impl<G> IgnorePoison for LockResult<G> {
    type Guard = G;
    fn ignore_poison(self) -> G {
        self.unwrap_or_else(PoisonError::into_inner)
    }
}
