//! The direction of bytes on a connection.

use serde::{Deserialize, Serialize};

/// Direction of data on a connection, as seen from this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Sent by this end.
    Sent,
    /// Sent by the server.
    Received,
    /// Neither: an event such as a connection attempt.
    Note,
}
