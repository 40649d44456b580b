//! Availability calendars: one per monitor, with a column per week and a cell per day.

use jiff::{ZonedDateTime, civil::Date};
use mailqos_model::UtcMicros;

use super::{
    Chart,
    canvas::{At, BOLD, Canvas, SMALL, TEXT, shorten, text_width, widest},
    locale::ChartLocale,
    palette::Ink,
    plot::{ChartContent, period, sentence},
    strip::{self, Cell, Key, Strip},
};

/// Minimum and maximum pitch of weeks and days, in pixels; the width decides within these limits.
const SIZES: (f64, f64) = (4.0, 22.0);
/// Maximum extra width to fit a name in pixels; longer names take a second line.
const NAME: f64 = 214.0;
/// Distance between the base lines of a name and the text below it.
const LINE: f64 = 14.0;
/// Gap between adjacent calendars.
const GAP: f64 = 22.0;

/// Sizes in pixels, common to all calendars of a chart.
struct Layout {
    /// Space for the names of weekdays.
    left: f64,
    /// Pitch of weeks and days.
    size: f64,
    /// Width of a calendar.
    wide: f64,
    /// Width of a name with its figure next to it.
    beside: f64,
    /// Whether figures are below the names instead.
    stacked: bool,
    /// Number of calendars in a line.
    across: usize,
    /// Distance between the left ends of adjacent calendars.
    pitch: f64,
}

impl Layout {
    /// Fits the calendars of some weeks into a width. Names stay readable: a calendar is as wide as
    /// its name, with the figure next to or below it.
    fn of(rows: &[strip::Row], weeks: i64, weekdays: &[String], width: f64) -> Self {
        let left = widest(weekdays.iter().map(String::as_str), SMALL).ceil() + 6.0;
        let size = ((width - left) / weeks as f64).clamp(SIZES.0, SIZES.1).floor();
        let wide = left + size * weeks as f64;
        let width_of =
            |text: &dyn Fn(&strip::Row) -> f64| rows.iter().map(text).fold(100.0, f64::max);
        let name = |row: &strip::Row| text_width(&row.name, TEXT) * BOLD;
        let beside = width_of(&|row| name(row) + text_width(&row.figure, TEXT) + 10.0);
        let stacked = beside > wide.max(NAME);
        let texts = if stacked { width_of(&name) } else { beside };
        let needed = wide.max(texts.min(NAME)) + GAP;
        let across = (((width + GAP) / needed).floor() as usize).clamp(1, rows.len().max(1));
        Self { left, size, wide, beside, stacked, across, pitch: (width + GAP) / across as f64 }
    }

    /// Returns the lines of a name above its calendar.
    fn lines(&self, name: &str) -> Vec<String> {
        if self.stacked {
            two_lines(name, (self.pitch - GAP) / BOLD)
        } else {
            vec![name.to_owned()]
        }
    }

    /// Draws the name and the figure of a row; `top` is the top of its calendar.
    fn heading(
        &self,
        canvas: &mut Canvas,
        row: &strip::Row,
        lines: &[String],
        (x, top): (f64, f64),
    ) {
        let base = |line: usize| top + 16.0 + LINE * line as f64;
        for (line, part) in lines.iter().enumerate() {
            canvas.strong(part, At::Start.point(x, base(line)), Ink::Ink, TEXT);
            if part.ends_with('…') {
                canvas.title(&row.name);
            }
        }
        let anchor = if self.stacked {
            At::Start.point(x, base(lines.len()))
        } else if self.across == 1 {
            At::End.point(x + self.wide.max(self.beside), base(0))
        } else {
            At::End.point(x + self.pitch - GAP, base(0))
        };
        canvas.text(&row.figure, anchor, Ink::Grey, TEXT);
    }
}

/// Draws the calendars of a strip whose cells are days in the zone of the chart.
pub fn chart(data: &Strip, first_day: i8, locale: &dyn ChartLocale) -> Chart {
    let width = data.width.clamp(240, 2_000);
    let date = |at: UtcMicros| ZonedDateTime::new(at.timestamp(), locale.zone().clone()).date();
    let (first, last) = (
        date(data.period.from),
        date(UtcMicros(data.period.to.0.saturating_sub(1)).max(data.period.from)),
    );
    let weeks = week(last, first, first_day) + 1;
    let days: Vec<String> =
        (0..7).map(|row| locale.weekday((first_day - 1 + row).rem_euclid(7) + 1)).collect();
    let layout = Layout::of(&data.rows, weeks, &days, f64::from(width));
    let mut states: Vec<strip::State> =
        data.rows.iter().flat_map(|row| &row.cells).map(Cell::state).collect();
    states.sort_unstable();
    states.dedup();
    let key = Key::of(&states, f64::from(width), locale);
    let names: Vec<Vec<String>> = data.rows.iter().map(|row| layout.lines(&row.name)).collect();
    let head = if layout.stacked {
        LINE * names.iter().map(Vec::len).max().unwrap_or(1) as f64
    } else {
        0.0
    };
    let tall = 7.0 * layout.size + 50.0 + head;
    let lines = data.rows.len().max(1).div_ceil(layout.across);
    let height = (key.height + tall * lines as f64).ceil();
    let finding = strip::finding(data, locale);
    let pen = |canvas: &mut Canvas| {
        key.draw(canvas);
        if data.rows.is_empty() {
            let anchor = At::Start.point(0.0, key.height + 20.0);
            canvas.text(locale.t("no monitors"), anchor, Ink::Grey, TEXT);
        }
        for (index, row) in data.rows.iter().enumerate() {
            let x = (index % layout.across) as f64 * layout.pitch;
            let top = key.height + (index / layout.across) as f64 * tall;
            layout.heading(canvas, row, &names[index], (x, top));
            let grid = Grid {
                left: x + layout.left,
                top: top + 38.0 + head,
                size: layout.size,
                first,
                first_day,
            };
            grid.weekdays(canvas, &days);
            grid.months(canvas, last, locale);
            for layer in strip::LAYERS {
                for cell in row.cells.iter().filter(|cell| cell.span.to > cell.span.from) {
                    grid.day(canvas, (date(cell.span.from), cell), layer, locale);
                }
            }
        }
    };
    let each = locale.t("one cell per day, one column per week");
    ChartContent {
        title: &data.title,
        subtitle: format!("{}. {}", sentence(&[each]), period(data.period, locale)),
        finding,
        data: strip::table(data, locale),
    }
    .chart(width, height, pen)
}

/// Breaks a name between words into at most two lines and shortens it if two are not enough.
fn two_lines(name: &str, room: f64) -> Vec<String> {
    if text_width(name, TEXT) <= room {
        return vec![name.to_owned()];
    }
    let breaks = name.match_indices(' ').map(|(at, _)| at);
    let first = breaks.take_while(|at| text_width(&name[..*at], TEXT) <= room).last();
    match first {
        Some(at) => vec![name[..at].to_owned(), shorten(name[at..].trim_start(), room, TEXT)],
        None => vec![shorten(name, room, TEXT)],
    }
}

/// Returns the index of the week of a day, counted from the week of the first day.
fn week(day: Date, first: Date, first_day: i8) -> i64 {
    let offset =
        |date: Date| i64::from((date.weekday().to_monday_one_offset() - first_day).rem_euclid(7));
    let between = day.since(first).map_or(0, |span| i64::from(span.get_days()));
    (between + offset(first)).div_euclid(7)
}

struct Grid {
    left: f64,
    top: f64,
    size: f64,
    first: Date,
    first_day: i8,
}

impl Grid {
    fn place(&self, day: Date) -> (f64, f64) {
        let row = (day.weekday().to_monday_one_offset() - self.first_day).rem_euclid(7);
        let column = week(day, self.first, self.first_day);
        (self.left + column as f64 * self.size, self.top + f64::from(row) * self.size)
    }

    /// Draws the name of every other weekday to the left of its row.
    fn weekdays(&self, canvas: &mut Canvas, names: &[String]) {
        for (number, day) in names.iter().enumerate().step_by(2) {
            let base = self.top + self.size * (number as f64 + 0.5) + 4.0;
            let anchor = At::End.point(self.left - 5.0, base);
            canvas.text(day, anchor, Ink::Grey, SMALL.min(self.size + 1.0));
        }
    }

    /// Draws the name of each month above the week of its first day, if there is room.
    fn months(&self, canvas: &mut Canvas, last: Date, locale: &dyn ChartLocale) {
        let mut free = f64::MIN;
        let mut day = self.first;
        while day <= last {
            let name = locale.month(day.month());
            let (x, _) = self.place(day);
            if x >= free {
                canvas.text(&name, At::Start.point(x, self.top - 5.0), Ink::Grey, SMALL);
                free = x + text_width(&name, SMALL) + 4.0;
            }
            let Ok(next) = day.first_of_month().checked_add(jiff::Span::new().months(1)) else {
                return;
            };
            day = next;
        }
    }

    /// Draws a day; only days with failures have a tooltip.
    fn day(
        &self,
        canvas: &mut Canvas,
        (day, cell): (Date, &Cell),
        layer: strip::Layer,
        locale: &dyn ChartLocale,
    ) {
        let (x, y) = self.place(day);
        let side = self.size - 1.0;
        if cell.state() == strip::State::Unknown {
            if layer == strip::Layer::Calm {
                let middle = y + side / 2.0;
                canvas.line((x + side * 0.3, middle), (x + side * 0.7, middle), Ink::Mist, 0.75);
            }
            return;
        }
        let words = if layer == strip::Layer::Calm { String::new() } else { cell.words(locale) };
        strip::mark(canvas, ((x, y), (side, side)), cell, (0.0, &words), layer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_month_begins_on_its_weekday() {
        let (data, locale) = samples::strip_month(1);
        insta::assert_snapshot!(samples::shown(&chart(&data, 1, &locale)));
    }

    #[test]
    fn a_long_name_takes_two_lines_before_it_is_cut() {
        assert_eq!(two_lines("Lyon plant", 100.0), ["Lyon plant"]);
        let lines = two_lines("Rotterdam harbour office · stockholm", 130.0);
        assert_eq!(lines, ["Rotterdam harbour", "office · stockholm"]);
        let lines = two_lines(&"endless ".repeat(20), 150.0);
        assert!(lines.len() == 2 && lines[1].ends_with('…'), "{lines:?}");
        let lines = two_lines(&"x".repeat(90), 150.0);
        assert!(lines.len() == 1 && lines[0].ends_with('…'), "{lines:?}");
    }

    #[test]
    fn weeks_may_begin_on_sunday() {
        let (first, day) = (jiff::civil::date(2026, 10, 1), jiff::civil::date(2026, 10, 4));
        assert_eq!((week(day, first, 1), week(day, first, 7)), (0, 1));
        assert_eq!(week(first, first, 1), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_period_can_be_drawn(from in -1_i64..60_000_000_000_000_000, days in 0_i64..900) {
            let (mut data, locale) = samples::strip_month(2);
            data.period.from = UtcMicros(from);
            data.period.to = UtcMicros(from + days * 86_400_000_000);
            let chart = chart(&data, 1, &locale);
            proptest::prop_assert!(!chart.svg.contains("NaN") && !chart.svg.contains("inf"));
        }
    }
}
