//! Sparkline: a word-sized line chart for findings.

use super::{
    Chart, Data, Datum, Measure,
    canvas::Canvas,
    locale::ChartLocale,
    palette::Ink,
    plot::{ChartContent, Plot, sentence},
    reduce::m4,
};

/// Input of the chart.
#[derive(Debug, Clone)]
pub struct Sparkline {
    /// Name of the figure within a sentence, such as `availability`.
    pub metric: String,
    /// Kind of the values.
    pub measure: Measure,
    /// Width of the chart in pixels.
    pub width: u32,
    /// Height of the chart in pixels.
    pub height: u32,
    /// Values at equal intervals; `None`, for unknown, is a gap.
    pub values: Vec<Option<f64>>,
    /// Index of the value to mark; `None` for the last.
    pub marked: Option<usize>,
}

/// Draws the chart. Its scale ranges from the lowest to the highest value; the text alternative
/// states both.
pub fn chart(data: &Sparkline, locale: &dyn ChartLocale) -> Chart {
    let (width, height) = (data.width.clamp(20, 2_000), data.height.clamp(8, 400));
    let known: Vec<(usize, f64)> = data
        .values
        .iter()
        .enumerate()
        .filter_map(|(index, value)| {
            value.filter(|value| value.is_finite()).map(|value| (index, value))
        })
        .collect();
    let least = known.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let greatest = known.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let finding = match known.last() {
        Some((_, last)) => locale.fill(
            "{0}: between {1} and {2}, {3} at the end.",
            &[
                &sentence(&[&data.metric]),
                &data.measure.text(least, locale),
                &data.measure.text(greatest, locale),
                &data.measure.text(*last, locale),
            ],
        ),
        None => locale.fill("{0} is unknown.", &[&sentence(&[&data.metric])]),
    };
    let plot = Plot {
        left: 2.5,
        right: f64::from(width) - 3.0,
        top: 3.0,
        bottom: f64::from(height) - 3.0,
    };
    let last = data.values.len().saturating_sub(1).max(1) as f64;
    let place = |index: usize| index as f64 / last;
    // A constant line is drawn in the middle.
    let level = |value: f64| {
        if greatest > least { (value - least) / (greatest - least) } else { 0.5 }
    };
    let at = |(x, value): (f64, f64)| (plot.x(x), plot.y(level(value)));
    let pen = |canvas: &mut Canvas| {
        for run in known.chunk_by(|one, other| other.0 == one.0 + 1) {
            let points: Vec<(f64, f64)> =
                run.iter().map(|(index, value)| (place(*index), *value)).collect();
            let drawn: Vec<(f64, f64)> = m4(&points, width as usize).into_iter().map(at).collect();
            match drawn.as_slice() {
                [point] => canvas.disc(*point, 1.0, Ink::Grey),
                line => canvas.path(line, Ink::Grey, 1.2),
            }
        }
        let marked = known.iter().find(|(index, _)| data.marked == Some(*index));
        match (marked, known.last()) {
            (Some((index, value)), _) => canvas.disc(at((place(*index), *value)), 2.6, Ink::Failed),
            (None, Some((index, value))) => {
                canvas.disc(at((place(*index), *value)), 2.2, Ink::Accent)
            }
            (None, None) => {
                let middle = f64::from(height) / 2.0;
                canvas.line((plot.left, middle), (plot.right, middle), Ink::Mist, 0.75);
            }
        }
    };
    let rows = data
        .values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let value = value.filter(|value| value.is_finite());
            vec![
                Datum::count(index as u64 + 1, locale),
                Datum::measured(value, data.measure, locale),
            ]
        })
        .collect();
    ChartContent {
        title: "",
        subtitle: sentence(&[&data.metric]),
        finding,
        data: Data::new(vec!["#".to_owned(), data.metric.clone()], rows),
    }
    .chart(width, f64::from(height), pen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn gaps_stay_gaps() {
        let data = samples::sparkline(&[
            Some(1e6),
            Some(2e6),
            None,
            Some(1.5e6),
            None,
            Some(f64::NAN),
            Some(3e6),
            Some(2e6),
        ]);
        insta::assert_snapshot!(samples::shown(&chart(&data, &samples::paris())));
    }

    #[test]
    fn zero_and_one_value_are_not_errors() {
        let none = chart(&samples::sparkline(&[]), &samples::paris());
        assert_eq!(none.alternative, "Round trip is unknown.");
        let one = chart(&samples::sparkline(&[Some(1e6)]), &samples::paris());
        assert!(!one.svg.contains("NaN") && !one.svg.contains("inf"));
    }
}
