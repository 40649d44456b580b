//! Error budget chart: the spent share of each budget, compared with the elapsed share of the
//! period.

use super::{
    Chart, Data, Datum, Measure,
    axis::{Axis, TimeSpan},
    canvas::{At, Canvas, NAMES, SMALL, TEXT, draw, text_width},
    locale::ChartLocale,
    palette::Ink,
    plot::{ChartContent, Plot, period, sentence},
};

/// Width of the drawing for narrow screens, in pixels.
const NARROW: u32 = 360;

/// Highest spent share drawn to scale; beyond it, the bar ends in an arrow.
const MAX: f64 = 2.0;

/// Input of the chart.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Title of the chart; if empty, the finding is the title.
    pub title: String,
    /// Width of the chart in pixels.
    pub width: u32,
    /// Period of the budgets.
    pub period: TimeSpan,
    /// Elapsed share of the period, 0 to 1.
    pub passed: f64,
    /// Budgets, from top to bottom.
    pub rows: Vec<Budget>,
    /// Number of known budgets that are not among the rows, and how many of those are overspent.
    pub beyond: (u64, u64),
}

/// The error budget of an objective.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Display name.
    pub name: String,
    /// Objective in words, such as `99.9 % uptime`; may be empty.
    pub promise: String,
    /// Spent and allowed amounts in words, such as `27 min downtime, 43 min allowed`; may be empty.
    pub amount: String,
    /// Spent share of the budget, 0 or more; `None` if unknown.
    pub spent: Option<f64>,
    /// Forecast of the spent share at the end of the period.
    pub forecast: Option<f64>,
}

impl Budget {
    fn spent(&self) -> Option<f64> {
        self.spent.filter(|spent| !spent.is_nan() && *spent >= 0.0)
    }

    fn forecast(&self) -> Option<f64> {
        self.forecast.filter(|spent| !spent.is_nan() && *spent >= 0.0)
    }
}

/// Draws the chart.
pub fn chart(data: &Budgets, locale: &dyn ChartLocale) -> Chart {
    let width = data.width.clamp(240, 2_000);
    let widest = |texts: &mut dyn Iterator<Item = f64>| texts.fold(0.0, f64::max).ceil();
    let share = f64::from(width);
    let names = widest(
        &mut data
            .rows
            .iter()
            .map(|row| text_width(&row.name, TEXT).max(text_width(&row.promise, SMALL))),
    )
    .min(share * NAMES);
    let words = |row: &Budget| words(row, locale);
    let texts = widest(
        &mut data
            .rows
            .iter()
            .map(|row| text_width(&words(row), TEXT).max(text_width(&row.amount, SMALL))),
    )
    .min(share * 0.3);
    let axis = axis(data, locale);
    let pitch = 38.0;
    let top = 20.0;
    // On narrow screens only the left part of a chart is visible without scrolling, so all texts
    // are left of the bars.
    let words_at = names + 14.0;
    let plot = Plot {
        left: words_at + texts + 14.0,
        right: share - 12.0,
        top,
        bottom: top + pitch * data.rows.len().max(1) as f64,
    };
    let height = (plot.bottom + 22.0).ceil();
    let finding = finding(data, locale);
    let passed = passed(data);
    let bars = Bars { plot, axis: &axis, locale };
    let pen = |canvas: &mut Canvas| {
        plot.value_axis_below(canvas, &axis, share);
        let whole = bars.x(1.0);
        canvas.line((whole, plot.top - 4.0), (whole, plot.bottom), Ink::Ink, 1.0);
        bars.full_budget(canvas);
        for (index, row) in data.rows.iter().enumerate() {
            let middle = plot.top + pitch * (index as f64 + 0.5);
            let two = if row.promise.is_empty() { 4.0 } else { -2.0 };
            canvas.name(&row.name, At::End.point(names, middle + two), names);
            canvas.text(&row.promise, At::End.point(names, middle + 12.0), Ink::Grey, SMALL);
            bars.draw(canvas, row, middle);
            let over = row.spent().is_some_and(|spent| spent > 1.0);
            let ink = if over { Ink::Failed } else { Ink::Ink };
            let two = if row.amount.is_empty() { 4.0 } else { -2.0 };
            canvas.text(&words(row), At::Start.point(words_at, middle + two), ink, TEXT);
            canvas.text(&row.amount, At::Start.point(words_at, middle + 12.0), Ink::Grey, SMALL);
        }
        if passed < 1.0 {
            let x = plot.x(axis.place(passed));
            canvas.line((x, plot.top - 4.0), (x, plot.bottom), Ink::Ink, 1.0);
            canvas.dashed("1 3");
            let text = locale.fill("{0} of the period elapsed", &[&locale.share(passed)]);
            // If there is no room for both texts, the subtitle explains the line.
            if x + 4.0 + text_width(&text, SMALL) < whole - 8.0 - text_width(bars.label(), SMALL) {
                canvas.text(&text, At::Start.point(x + 4.0, plot.top - 7.0), Ink::Grey, SMALL);
            }
        }
    };
    let mut parts = vec![locale.t("share of each error budget spent")];
    if passed < 1.0 {
        parts.push(locale.t("dotted: elapsed share of the period"));
    }
    if data.rows.iter().any(|row| row.forecast().is_some()) {
        parts.push(locale.t("hollow: forecast for the end of the period"));
    }
    let whole = ChartContent {
        title: &data.title,
        subtitle: format!("{}. {}", sentence(&parts), period(data.period, locale)),
        finding,
        data: table(data, locale),
    }
    .chart(width, height, pen);
    Chart { narrow: narrow(data, &whole, locale), ..whole }
}

/// Draws the budgets for a phone: texts are above and below their bars instead of next to them.
fn narrow(data: &Budgets, whole: &Chart, locale: &dyn ChartLocale) -> String {
    let axis = axis(data, locale);
    let (pitch, top, share) = (64.0, 16.0, f64::from(NARROW));
    let plot = Plot {
        left: 0.0,
        // The arrow of an overspent budget fits next to the bars.
        right: share - 10.0,
        top,
        bottom: top + pitch * data.rows.len().max(1) as f64,
    };
    let bars = Bars { plot, axis: &axis, locale };
    let pen = |canvas: &mut Canvas| {
        plot.value_axis_below(canvas, &axis, share);
        let (whole, passed) = (bars.x(1.0), passed(data));
        bars.full_budget(canvas);
        for (index, row) in data.rows.iter().enumerate() {
            let middle = plot.top + pitch * index as f64 + 31.0;
            let (words, over) = (words(row, locale), row.spent().is_some_and(|spent| spent > 1.0));
            let room = |text: &str, size| share - text_width(text, size) - 8.0;
            canvas.name(&row.name, At::Start.point(0.0, middle - 16.0), room(&words, TEXT));
            canvas.text(
                &words,
                At::End.point(share, middle - 16.0),
                if over { Ink::Failed } else { Ink::Ink },
                TEXT,
            );
            bars.draw(canvas, row, middle);
            // The lines don't cross the texts.
            canvas.line((whole, middle - 12.0), (whole, middle + 12.0), Ink::Ink, 1.0);
            if passed < 1.0 {
                let x = plot.x(axis.place(passed));
                canvas.line((x, middle - 12.0), (x, middle + 12.0), Ink::Ink, 1.0);
                canvas.dashed("1 3");
            }
            canvas.text(&row.promise, At::Start.point(0.0, middle + 23.0), Ink::Grey, SMALL);
            canvas.text(&row.amount, At::End.point(share, middle + 23.0), Ink::Grey, SMALL);
        }
    };
    let height = (plot.bottom + 22.0).ceil() as u32;
    draw(NARROW, height, &whole.title, &whole.alternative, pen)
}

fn axis(data: &Budgets, locale: &dyn ChartLocale) -> Axis {
    let most = data
        .rows
        .iter()
        .flat_map(|row| [row.spent(), row.forecast()])
        .flatten()
        .fold(1.0, f64::max)
        .min(MAX);
    Axis { high: most, ..Axis::share(0.0, 1.0, 5, locale) }
}

/// Returns the elapsed share of the period, 0 to 1.
fn passed(data: &Budgets) -> f64 {
    if data.passed.is_finite() { data.passed.clamp(0.0, 1.0) } else { 0.0 }
}

/// Describes the spent share of a budget in words.
fn words(row: &Budget, locale: &dyn ChartLocale) -> String {
    row.spent().map_or_else(|| locale.t("unknown").to_owned(), |spent| state(spent, locale))
}

/// The bars of a chart and their scale.
struct Bars<'a> {
    plot: Plot,
    axis: &'a Axis,
    locale: &'a dyn ChartLocale,
}

impl Bars<'_> {
    fn label(&self) -> &str {
        self.locale.t("full budget")
    }

    /// Returns the x coordinate of a share of a budget.
    fn x(&self, share: f64) -> f64 {
        self.plot.x(self.axis.place(share))
    }

    /// Draws the label of the full budget above the bars.
    fn full_budget(&self, canvas: &mut Canvas) {
        let anchor = At::End.point(self.x(1.0) - 4.0, self.plot.top - 7.0);
        canvas.text(self.label(), anchor, Ink::Ink, SMALL);
    }

    /// Draws the spent share of a budget and the forecast around the middle of a row.
    fn draw(&self, canvas: &mut Canvas, row: &Budget, middle: f64) {
        let Self { plot, axis, locale } = *self;
        let (top, tall) = (middle - 8.0, 16.0);
        let x = |share: f64| self.x(share);
        canvas.rect((plot.left, top), (x(1.0) - plot.left, tall), Ink::Shade);
        let Some(spent) = row.spent() else {
            canvas.line((plot.left, middle), (x(1.0), middle), Ink::Mist, 0.75);
            return;
        };
        canvas.rect((plot.left, top), (x(spent.min(1.0)) - plot.left, tall), Ink::Accent);
        canvas.title(format!("{}: {}", row.name, state(spent, locale)));
        if spent > 1.0 {
            // The area extends beyond the line and is taller, so an overspent budget is
            // recognisable by its outline.
            canvas.rect((x(1.0), top - 3.0), (x(spent) - x(1.0), tall + 6.0), Ink::Failed);
            canvas.title(format!("{}: {}", row.name, state(spent, locale)));
            if spent > axis.high {
                let end = plot.right;
                canvas.polygon(
                    &[(end, top - 3.0), (end + 8.0, middle), (end, top + tall + 3.0)],
                    Ink::Failed,
                );
            }
        }
        if let Some(forecast) = row.forecast().filter(|forecast| *forecast > spent) {
            let ink = if forecast > 1.0 { Ink::Failed } else { Ink::Accent };
            let (from, to) = (x(spent), x(forecast));
            canvas.line((from, middle), (to - 4.5, middle), ink, 1.0);
            canvas.dashed("3 2");
            canvas.disc((to, middle), 4.5, ink);
            canvas.disc((to, middle), 3.0, Ink::Ground);
            canvas.title(locale.fill("forecast {0}", &[&locale.whole_percent(forecast)]));
        }
    }
}

fn finding(data: &Budgets, locale: &dyn ChartLocale) -> String {
    let known: Vec<(&Budget, f64)> =
        data.rows.iter().filter_map(|row| Some((row, row.spent()?))).collect();
    let Some((worst, spent)) = known.iter().max_by(|one, other| one.1.total_cmp(&other.1)) else {
        return locale.t("Error budgets are unknown.").to_owned();
    };
    let over = known.iter().filter(|(_, spent)| *spent > 1.0).count() as u64 + data.beyond.1;
    let all = known.len() as u64 + data.beyond.0;
    let (worst, share) = (worst.name.as_str(), locale.whole_percent(*spent));
    let by = excess(*spent, locale);
    match (over, all) {
        (0, 1) => locale.fill("{0}: {1} of the error budget is spent.", &[worst, &share]),
        (0, _) => {
            locale.fill("No error budget is overspent; highest use: {0} ({1}).", &[worst, &share])
        }
        (_, 1) => locale.fill("{0}: the error budget is overspent by {1}.", &[worst, &by]),
        (1, _) => locale.fill(
            "One of {0} error budgets is overspent: {1}, by {2}.",
            &[&locale.count(all), worst, &by],
        ),
        _ => locale.fill(
            "{0} of {1} error budgets are overspent, the most by {3} ({2}).",
            &[&locale.count(over), &locale.count(all), worst, &by],
        ),
    }
}

/// Returns the spent share in words: `60 % spent`, `overspent by 57 %`.
fn state(spent: f64, locale: &dyn ChartLocale) -> String {
    if spent > 1.0 {
        locale.fill("overspent by {0}", &[&excess(spent, locale)])
    } else {
        locale.fill("{0} spent", &[&locale.whole_percent(spent)])
    }
}

/// Returns by how much a budget is overspent: `57 %`, `12 times`.
fn excess(spent: f64, locale: &dyn ChartLocale) -> String {
    let over = spent - 1.0;
    if over >= 9.995 {
        // A percentage such as 4,321 % is hard to grasp; an empty budget is overspent infinitely.
        let times = if over < 1e6 { locale.number(over, 0) } else { "∞".to_owned() };
        locale.fill("{0} times", &[&times])
    } else if over < 0.01 {
        locale.percent((over * 100.0).max(0.01), 2)
    } else {
        locale.whole_percent(over)
    }
}

fn table(data: &Budgets, locale: &dyn ChartLocale) -> Data {
    let share = |value| Datum::measured(value, Measure::Share, locale);
    let rows = data
        .rows
        .iter()
        .map(|row| {
            vec![
                Datum::text(&row.name),
                Datum::text(&row.promise),
                share(row.spent()),
                Datum::text(&row.amount),
                share(row.forecast()),
            ]
        })
        .collect();
    Data::new(
        ["monitor", "objective", "budget spent", "error budget", "forecast"]
            .map(|head| locale.t(head).to_owned())
            .into(),
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn met_overspent_and_unknown_budgets_look_different() {
        let (data, locale) = samples::budgets();
        insta::assert_snapshot!(samples::shown(&chart(&data, &locale)));
    }

    #[test]
    fn an_infinite_overdraft_stays_within_the_drawing() {
        let (mut data, locale) = samples::budgets();
        data.rows[0].spent = Some(f64::INFINITY);
        data.rows[1].forecast = Some(1e300);
        let chart = chart(&data, &locale);
        assert!(!chart.svg.contains("NaN") && !chart.svg.contains("inf"));
        assert!(!chart.narrow.contains("NaN") && !chart.narrow.contains("inf"));
    }

    /// On a screen of 390 px, the wide drawing would need scrolling, and its texts at the right
    /// would be out of sight.
    #[test]
    fn the_narrow_drawing_has_the_same_content() {
        let (data, locale) = samples::budgets();
        let chart = chart(&data, &locale);
        assert!(chart.narrow.contains("viewBox=\"0 0 360 "), "{}", chart.narrow);
        for text in ["Marseille", "52 of 43 min", "overspent by", "unknown", "full budget"] {
            assert!(chart.narrow.contains(text), "{text}: {}", chart.narrow);
        }
    }
}
