//! Number of decimals needed to show on which side of a limit a number is. A rounded value must not
//! look like the limit unless it equals it: "99.90 %, promised 99.9 %, missed" explains nothing.

/// Maximum number of decimals: an objective has at most seven.
const FINEST: usize = 9;

/// Returns the smallest number of decimals, at least `least`, at which a number is visibly below,
/// above or at a limit.
pub fn decimals_apart(value: f64, limit: f64, least: usize) -> usize {
    let is_shown = |decimals: usize| {
        let scale = 10_f64.powi(i32::try_from(decimals).unwrap_or(0));
        let round = |number: f64| (number * scale).round();
        round(value).partial_cmp(&round(limit)) == value.partial_cmp(&limit)
    };
    // Rounding errors of a division are not a difference.
    if (value - limit).abs() <= limit.abs() * 1e-12 {
        return least;
    }
    (least..=FINEST).find(|decimals| is_shown(*decimals)).unwrap_or(FINEST)
}

/// Formats a duration in units down to seconds, with this many decimals: `45 min 0.4 s`.
pub fn exact_span(
    micros: f64,
    decimals: usize,
    join: char,
    number: &dyn Fn(f64, usize) -> String,
) -> String {
    let scale = 10_f64.powi(i32::try_from(decimals).unwrap_or(0));
    let seconds = (micros.max(0.0) / 1e6 * scale).round() / scale;
    let whole = seconds as u64;
    let mut parts = Vec::new();
    for (count, unit) in
        [(whole / 86_400, "d"), (whole % 86_400 / 3_600, "h"), (whole % 3_600 / 60, "min")]
    {
        if count > 0 {
            parts.push(format!("{count}{join}{unit}"));
        }
    }
    let rest = seconds - (whole / 60 * 60) as f64;
    if rest > 0.0 || parts.is_empty() {
        parts.push(format!("{}{join}s", number(rest, decimals)));
    }
    parts.join(&join.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn so_many_digits_are_shown_that_the_side_is_seen() {
        for (value, limit, least, expected) in [
            (99.8991, 99.9, 2, 3),
            (99.899_99, 99.9, 2, 5),
            (99.9, 99.9, 2, 2),
            (99.95, 99.9, 2, 2),
            (30_004.0, 30_000.0, 0, 0),
            (30.004, 30.0, 1, 3),
            (100.3, 100.0, 0, 1),
        ] {
            assert_eq!(decimals_apart(value, limit, least), expected, "{value} {limit}");
        }
        let number = |value: f64, decimals: usize| format!("{value:.decimals$}");
        assert_eq!(exact_span(2_700_400_000.0, 1, ' ', &number), "45 min 0.4 s");
        assert_eq!(exact_span(2_699_999_000.0, 0, ' ', &number), "45 min");
        assert_eq!(exact_span(90_061_000_000.0, 0, ' ', &number), "1 d 1 h 1 min 1 s");
        assert_eq!(exact_span(0.0, 1, ' ', &number), "0.0 s");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_never_on_the_other_side(value in 0_u32..1_000_000, limit in 0_u32..1_000_000, least in 0_usize..3) {
            let (value, limit) = (f64::from(value) / 10_000.0, f64::from(limit) / 10_000.0);
            let decimals = decimals_apart(value, limit, least);
            let shown = |number: f64| format!("{number:.decimals$}").parse::<f64>().expect("a number");
            prop_assert_eq!(shown(value).partial_cmp(&shown(limit)), value.partial_cmp(&limit));
        }
    }
}
