//! Deadlines and pauses.

use std::time::Duration;

/// Deadlines and pauses.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Deadline of a connection, with its TLS handshake.
    pub connect: Duration,
    /// Longest time without a byte. Servers end streams after two minutes, so a longer silence means
    /// that the connection is dead.
    pub silence: Duration,
    /// Deadline of cancelling and releasing.
    pub ending: Duration,
    /// Pause after the first failure; it doubles with each.
    pub pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
    /// A stream that ends earlier without a message counts as a failure.
    pub shortest_stream: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            silence: Duration::from_secs(300),
            ending: Duration::from_secs(10),
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(15),
            shortest_stream: Duration::from_secs(1),
        }
    }
}
