//! Delivered within x: the share of counted tests whose mail landed within x. Lost mails stay in the denominator.

use mailqos_model::Micros;

use super::series::Values;

/// The limits that reports show, besides max round trip.
pub const LIMITS: [Micros; 4] = [
    Micros::from_secs(10),
    Micros::from_secs(30),
    Micros::from_secs(60),
    Micros::from_secs(300),
];

impl Values {
    /// How many are not greater than a limit.
    pub(super) fn up_to(&self, limit: Micros) -> u64 {
        match self {
            Self::Narrow(values) => match u32::try_from(limit.0) {
                Ok(limit) => values.iter().map(|value| u64::from(*value <= limit)).sum(),
                Err(_) => values.len() as u64,
            },
            Self::Wide(values) => values.iter().map(|value| u64::from(*value <= limit.0)).sum(),
        }
    }
}
