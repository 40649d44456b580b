//! Converts local times without an offset to timestamps. Around a clock change the order of the
//! rows decides; if it can't, nothing is guessed.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

/// A local time and the row that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    /// The local time.
    pub at: DateTime,
    /// The line in the file.
    pub line: u64,
}

/// Why a local time could not be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    /// Skipped when clocks were set forward.
    #[error(
        "row {line}: {at} does not exist in {zone}, where clocks were set forward; if the file uses the same \
         offset all year, set it, such as --timezone +01:00 or --timezone UTC"
    )]
    Skipped {
        /// The line.
        line: u64,
        /// The time.
        at: DateTime,
        /// The zone.
        zone: String,
    },
    /// Repeated when clocks were set back, and the rows don't show which of the two times is meant.
    #[error(
        "row {line}: {at} is ambiguous in {zone}, where clocks were set back, and the order of the rows does \
         not resolve it; export the times in UTC or with an offset, or set the file's offset, such as \
         --timezone +01:00"
    )]
    Twice {
        /// The line.
        line: u64,
        /// The time.
        at: DateTime,
        /// The zone.
        zone: String,
    },
}

/// Returns the timestamps of local times, which are those of one monitor in the order of the file.
///
/// Repeated times are resolved if the file is in order, ascending or descending, and goes back
/// exactly once during the repeated hour: rows before that step are meant the first time, rows
/// after it the second time.
///
/// # Errors
/// A time doesn't exist, or the order doesn't determine which of two times is meant.
pub(crate) fn resolve(times: &[Local], zone: &TimeZone) -> Result<Vec<Timestamp>, Unresolved> {
    let name = zone.iana_name().unwrap_or("this zone").to_owned();
    let mut moments = vec![Timestamp::UNIX_EPOCH; times.len()];
    // Runs of consecutive rows whose times occur twice.
    let mut run: Vec<usize> = Vec::new();
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for (index, local) in times.iter().enumerate() {
        let ambiguous = zone.to_ambiguous_timestamp(local.at);
        let lookup = match ambiguous.offset() {
            AmbiguousOffset::Gap { .. } => {
                return Err(Unresolved::Skipped { line: local.line, at: local.at, zone: name });
            }
            AmbiguousOffset::Fold { .. } => {
                // Another clock change starts another run.
                if run.last().is_some_and(|last| times[*last].at.date() != local.at.date()) {
                    runs.push(std::mem::take(&mut run));
                }
                run.push(index);
                ambiguous.earlier()
            }
            AmbiguousOffset::Unambiguous { .. } => {
                if !run.is_empty() {
                    runs.push(std::mem::take(&mut run));
                }
                ambiguous.compatible()
            }
        };
        moments[index] = lookup.unwrap_or(Timestamp::MIN);
    }
    if !run.is_empty() {
        runs.push(run);
    }
    for (number, run) in runs.iter().enumerate() {
        let seen_before =
            runs[..number].iter().any(|other| times[other[0]].at.date() == times[run[0]].at.date());
        let second = if seen_before { None } else { second_pass(times, run) };
        let Some(second) = second else {
            let local = times[run[0]];
            return Err(Unresolved::Twice { line: local.line, at: local.at, zone: name });
        };
        for index in second {
            if let Ok(later) = zone.to_ambiguous_timestamp(times[index].at).later() {
                moments[index] = later;
            }
        }
    }
    Ok(moments)
}

/// Returns the rows of a run that are meant the second time; `None` if the order doesn't decide.
fn second_pass(times: &[Local], run: &[usize]) -> Option<Vec<usize>> {
    let at = |index: usize| times[run[index]].at;
    // The rows around the run show the order of the file.
    let (first, last) = (*run.first()?, *run.last()?);
    let before = first.checked_sub(1).map(|index| times[index].at);
    let after = times.get(last + 1).map(|local| local.at);
    let ascending = match (before, after) {
        (Some(before), _) if before != at(0) => before < at(0),
        (_, Some(after)) => after > at(run.len() - 1),
        _ => return None,
    };
    let in_order = |a: Option<DateTime>, b: Option<DateTime>| match (a, b) {
        (Some(a), Some(b)) => a == b || (a < b) == ascending,
        _ => true,
    };
    if !in_order(before, Some(at(0))) || !in_order(Some(at(run.len() - 1)), after) {
        return None;
    }
    let mut steps = (1..run.len()).filter(|index| match ascending {
        true => at(*index) <= at(*index - 1),
        false => at(*index) >= at(*index - 1),
    });
    let step = steps.next()?;
    if steps.next().is_some() {
        return None;
    }
    Some(if ascending { run[step..].to_vec() } else { run[..step].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").expect("a zone")
    }

    fn locals(times: &[&str]) -> Vec<Local> {
        times
            .iter()
            .enumerate()
            .map(|(line, at)| Local {
                at: at.parse().expect("a local time"),
                line: line as u64 + 2,
            })
            .collect()
    }

    fn resolved(times: &[&str]) -> Result<Vec<String>, Unresolved> {
        let moments = resolve(&locals(times), &berlin())?;
        Ok(moments.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn row_order_distinguishes_the_repeated_hours() {
        let hours =
            ["2026-10-25T01:30", "2026-10-25T02:30", "2026-10-25T02:30", "2026-10-25T03:30"];
        let expected = [
            "2026-10-24T23:30:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:30:00Z",
        ];
        assert_eq!(resolved(&hours).expect("in order"), expected);
        let mut newest_first = hours;
        newest_first.reverse();
        let mut found = resolved(&newest_first).expect("in order, newest first");
        found.reverse();
        assert_eq!(found, expected);
    }

    #[test]
    fn ambiguous_row_order_is_refused() {
        for times in [
            // Only one of the two hours has measurements.
            &["2026-10-25T01:30", "2026-10-25T02:30", "2026-10-25T03:30"][..],
            &["2026-10-25T02:30"],
            &["2026-10-25T02:30", "2026-10-25T02:30"],
            // Not in order.
            &["2026-10-25T03:30", "2026-10-25T02:30", "2026-10-25T02:10", "2026-10-25T04:30"],
            &[
                "2026-10-25T01:30",
                "2026-10-25T02:30",
                "2026-10-25T02:10",
                "2026-10-25T02:05",
                "2026-10-25T04:30",
            ],
        ] {
            let error = resolved(times).expect_err("unclear").to_string();
            assert!(
                error.contains("is ambiguous in Europe/Berlin")
                    && error.contains("--timezone +01:00"),
                "{error}"
            );
        }
        let error =
            resolved(&["2026-03-29T01:30", "2026-03-29T02:30"]).expect_err("skipped").to_string();
        assert!(
            error.contains("row 3: 2026-03-29T02:30:00 does not exist in Europe/Berlin"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn a_file_in_order_is_read_back_exactly(
            year in 2000i16..2030, minutes in 1i64..40, zone in proptest::sample::select(vec![
                "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata",
            ]), reverse: bool,
        ) {
            let zone = TimeZone::get(zone).expect("a zone");
            // A whole year at this interval; each time in a repeated half hour has several rows.
            let begin = DateTime::new(year, 1, 1, 0, 0, 0, 0).expect("a time").to_zoned_datetime(zone.clone()).expect("a moment").timestamp();
            let minutes = minutes.min(14);
            let mut moments: Vec<Timestamp> = (0..366 * 24 * 60 / minutes)
                .map(|n| Timestamp::from_second(begin.as_second() + n * minutes * 60).expect("a moment"))
                .collect();
            if reverse {
                moments.reverse();
            }
            let times: Vec<Local> = moments
                .iter()
                .enumerate()
                .map(|(line, at)| Local { at: zone.to_datetime(*at), line: line as u64 })
                .collect();
            prop_assert_eq!(resolve(&times, &zone), Ok(moments));
        }
    }
}
