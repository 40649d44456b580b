//! Values as texts of explanations.

use mailqos_model::{Micros, UtcMicros};

use crate::Calendar;

/// Returns the number of decimals that a number of tests supports.
pub fn usual_decimals(of: u64) -> usize {
    (of.max(1).ilog10() as usize).saturating_sub(2).clamp(1, 4)
}

/// Formats a share as a percentage. The number of tests determines the decimals: 100 tests resolve
/// 1 %, 10,000 resolve 0.01 %. Less than all is never displayed as 100 %, and more than
/// none never as 0 %.
pub fn per_cent(value: f64, of: u64) -> String {
    let mut decimals = usual_decimals(of);
    loop {
        let text = format!("{:.decimals$} %", value * 100.0);
        let round = (value < 1.0 && text.starts_with("100"))
            || (value > 0.0 && text.trim_start_matches(['0', '.']) == " %");
        if !round {
            return text;
        }
        // No number of tests supports more nines than this.
        if decimals >= 5 {
            return if value < 0.5 { "under 0.001 %" } else { "over 99.999 %" }.to_owned();
        }
        decimals += 1;
    }
}

/// Formats a time in RFC 3339, to the second, with the zone's offset at that time.
pub fn moment(calendar: &Calendar, at: UtcMicros) -> String {
    calendar.zoned(at).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// Converts microseconds to seconds.
pub fn seconds(time: Micros) -> f64 {
    time.0 as f64 / 1e6
}

/// Formats a duration in its two largest units: `1 d 2 h 3 min`.
pub fn long(time: Micros) -> String {
    let seconds = time.0 / 1_000_000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut words = Vec::new();
    for (length, unit) in units {
        if rest >= length && words.len() < 2 {
            words.push(format!("{} {unit}", rest / length));
            rest %= length;
        }
    }
    if words.is_empty() { "0".to_owned() } else { words.join(" ") }
}
