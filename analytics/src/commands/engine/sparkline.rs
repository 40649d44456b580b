//! The round trip of a series as a line of characters.

use mailqos_figures::{percentiles::percentiles, stats::FiguresQuery};
use mailqos_lake_tables::{Metric, Series};
use mailqos_model::Micros;

/// Number of parts of the period.
const SPARK: i64 = 24;

/// Returns the median round trip of each part of the period as a sparkline.
pub(in crate::commands) fn sparkline(series: &Series, question: &FiguresQuery) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let Some(past) = &question.past else {
        return String::new();
    };
    let at = |part: i64| {
        past.from
            + Micros((i128::from(past.duration().0) * i128::from(part) / i128::from(SPARK)) as i64)
    };
    let medians: Vec<Option<f64>> = (0..SPARK)
        .map(|part| {
            let mut values = series.values(Metric::RoundTrip, series.rows(at(part), at(part + 1)));
            percentiles(&mut values, &[0.5]).first().copied()
        })
        .collect();
    let known = || medians.iter().flatten().copied();
    let (least, greatest) = (known().fold(f64::MAX, f64::min), known().fold(0.0, f64::max));
    medians
        .iter()
        .map(|median| match median {
            None => '·',
            // If all values are equal, the line is flat.
            Some(_) if greatest <= least => STEPS[0],
            Some(median) => {
                STEPS[(((median - least) / (greatest - least) * 7.0).round() as usize).min(7)]
            }
        })
        .collect()
}
