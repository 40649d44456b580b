//! Percentiles as users write them.

use mailqos_model::Micros;

/// A requested percentile, as written by the user.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestedPercentile {
    name: String,
    q: f64,
}

/// Parses a percentile, such as `99.9` as 0.999.
///
/// # Errors
/// It is not a number from 0 to 100.
pub fn percentile(text: &str) -> Result<RequestedPercentile, String> {
    let wrong =
        || format!("{text:?} is not a percentile; use a number from 0 to 100, such as 99.9");
    let name = text.strip_prefix('p').unwrap_or(text);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(wrong());
    }
    // Parsed directly as a hundredth: 99.9 / 100 is not the number nearest to 0.999.
    let q: f64 = format!("{name}e-2").parse().map_err(|_| wrong())?;
    if !(0.0..=1.0).contains(&q) {
        return Err(wrong());
    }
    Ok(RequestedPercentile { name: format!("p{name}"), q })
}

impl RequestedPercentile {
    /// Returns a percentile with its name.
    pub fn new(name: &str, q: f64) -> Self {
        Self { name: name.to_owned(), q }
    }

    /// Returns the quantile in [0, 1].
    pub fn q(&self) -> f64 {
        self.q
    }

    /// Returns its name, such as `p99.9`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Returns the name of one of the delivery limits: `10s`, `5min`.
pub fn limit_name(limit: Micros) -> String {
    match limit.0 / 1_000_000 {
        seconds if seconds % 60 == 0 => format!("{}min", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_parsed_exactly() {
        assert_eq!(percentile("99.9").map(|asked| asked.q), Ok(0.999));
        assert_eq!(percentile("p95").map(|asked| asked.name), Ok("p95".to_owned()));
        for wrong in ["", "p", "101", "-1", "fast", "1e1", "NaN", "."] {
            assert!(percentile(wrong).is_err(), "{wrong}");
        }
    }
}
