//! Delivered within x: the share of counted tests whose mail landed within x. Lost mails stay in
//! the denominator.

use mailqos_model::Micros;

/// The limits that reports show, besides max round trip.
pub const LIMITS: [Micros; 4] =
    [Micros::from_secs(10), Micros::from_secs(30), Micros::from_secs(60), Micros::from_secs(300)];
