//! Delivered within x: the share of counted tests whose mail arrived within x. Lost mails stay in
//! the denominator.

use mailqos_model::Micros;

/// The limits that reports show in addition to max round trip.
pub const LIMITS: [Micros; 4] =
    [Micros::from_secs(10), Micros::from_secs(30), Micros::from_secs(60), Micros::from_secs(300)];
