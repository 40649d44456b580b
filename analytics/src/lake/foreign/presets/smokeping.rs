//! SmokePing: the output of `rrdtool fetch TARGET.rrd AVERAGE --start … --end …`.
//!
//! A head of data sources (`uptime loss median ping1 …`), then `SECONDS: value value …`; times are
//! UTC seconds at the end of each step, medians seconds, `nan` is unknown. `loss` counts lost pings:
//! without a median all were lost.

use super::{Measurement, micros};

pub(super) fn read(text: &str) -> Result<(Vec<Measurement>, Vec<String>), String> {
    let mut lines = text.lines().zip(1_u64..).filter(|(line, _)| !line.trim().is_empty());
    let head: Vec<&str> = lines
        .next()
        .map(|(head, _)| head.split_whitespace().collect())
        .unwrap_or_default();
    let place = |name: &str| head.iter().position(|column| *column == name);
    let (Some(median), Some(loss)) = (place("median"), place("loss")) else {
        return Err(
            "not an RRD of SmokePing: no columns median and loss; export with: rrdtool fetch TARGET.rrd AVERAGE"
                .to_owned(),
        );
    };
    let mut found = Vec::new();
    for (line, number) in lines {
        let wrong = || format!("row {number}: {line:?} is not a line of rrdtool fetch");
        let (at, values) = line.split_once(':').ok_or_else(wrong)?;
        let at: i64 = at.trim().parse().map_err(|_| wrong())?;
        let values: Vec<f64> = values
            .split_whitespace()
            // Some locales of rrdtool write a comma.
            .map(|value| value.replace(',', ".").parse())
            .collect::<Result<_, _>>()
            .map_err(|_| wrong())?;
        let value = |index: usize| values.get(index).copied().filter(|value| value.is_finite());
        let round_trip_us = value(median).and_then(micros);
        let lost = value(loss).is_some_and(|loss| loss > 0.0);
        let outcome = match round_trip_us {
            Some(_) => Some("ok"),
            None if lost => Some("lost"),
            None => None,
        };
        found.push(Measurement {
            line: number,
            at: at.checked_mul(1_000_000).ok_or_else(wrong)?,
            outcome,
            error: (outcome == Some("lost")).then(|| "all pings lost in SmokePing".to_owned()),
            round_trip_us,
            monitor: None,
        });
    }
    let notes = vec!["rows are medians over a step of the RRD: percentiles will be those of medians".to_owned()];
    Ok((found, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_losses_and_unknown_steps_are_told_apart() {
        let text = "                         uptime                loss              median               ping1\n\n\
            1772366400: -nan 0.0000000000e+00 1.2500000000e-01 1.2400000000e-01\n\
            1772366700: -nan 2.0000000000e+01 -nan -nan\n\
            1772367000: nan nan nan nan\n\
            1772367300: nan 3,0000000000e+00 2,5000000000e-02 nan\n";
        let (found, _) = read(text).expect("measurements");
        let brief: Vec<_> = found.iter().map(|one| (one.outcome, one.round_trip_us)).collect();
        assert_eq!(
            brief,
            [
                (Some("ok"), Some(125_000)),
                (Some("lost"), None),
                (None, None),
                (Some("ok"), Some(25_000))
            ]
        );
        assert_eq!(found[0].at, 1_772_366_400_000_000);
        assert!(read("a b\n1: 2 3\n").is_err());
        assert!(read("loss median\nx: 2 3\n").is_err());
    }
}
