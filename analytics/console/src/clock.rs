//! Times of the console as they are stored: seconds of the wall clock.

use mailqos_model::UtcMicros;

/// Returns the current time in seconds since 1970.
pub(crate) fn seconds() -> i64 {
    UtcMicros::now().0 / 1_000_000
}
