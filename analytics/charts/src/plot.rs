//! Common parts of all charts: the texts around a drawing, the plot area, its grid and labels, and
//! the format of times.

use jiff::{
    ZonedDateTime,
    civil::{Date, Time},
};
use mailqos_model::UtcMicros;

use super::{
    Chart, Data,
    axis::{Axis, TimeSpan, place, time_ticks},
    canvas::{Anchor, At, Canvas, SMALL, TEXT, draw, text_width},
    locale::{ChartLocale, capitalised},
    palette::Ink,
};

/// Texts and data of a chart, in addition to its drawing.
pub(super) struct ChartContent<'a> {
    /// Title of the chart; if empty, the finding is the title.
    pub(super) title: &'a str,
    /// Subtitle: what is drawn, the unit, the period and the time zone.
    pub(super) subtitle: String,
    /// Text alternative: the finding in a sentence.
    pub(super) finding: String,
    /// Drawn values as a table.
    pub(super) data: Data,
}

impl ChartContent<'_> {
    /// Draws the chart on a canvas of the given size.
    pub(super) fn chart(self, width: u32, height: f64, pen: impl FnOnce(&mut Canvas)) -> Chart {
        let height = height as u32;
        let title = headline(self.title, &self.finding);
        Chart {
            svg: draw(width, height, &title, &self.finding, pen),
            narrow: String::new(),
            width,
            height,
            title,
            subtitle: self.subtitle,
            alternative: self.finding,
            data: self.data,
            hover: String::new(),
            time: None,
        }
    }
}

/// Plot area, in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plot {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Plot {
    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    /// Returns the x coordinate of a position from 0 (left) to 1 (right).
    pub(super) fn x(&self, share: f64) -> f64 {
        self.left + share * self.width()
    }

    /// Returns the y coordinate of a position from 0 (bottom) to 1 (top).
    pub(super) fn y(&self, share: f64) -> f64 {
        self.bottom - share * (self.bottom - self.top)
    }

    /// Draws horizontal grid lines with labels; the base line is stronger if it is zero.
    pub(super) fn value_axis(&self, canvas: &mut Canvas, axis: &Axis) {
        for tick in &axis.ticks {
            let y = self.y(axis.place(tick.value));
            let ink = if tick.value == 0.0 { Ink::Mist } else { Ink::Hair };
            canvas.line(
                (self.left, y),
                (self.right, y),
                ink,
                if tick.value == 0.0 { 1.0 } else { 0.75 },
            );
            canvas.text(&tick.label, At::End.point(self.left - 6.0, y + 4.0), Ink::Grey, TEXT);
        }
    }

    /// Draws vertical grid lines with labels below, skipping labels that would overlap.
    pub(super) fn value_axis_below(&self, canvas: &mut Canvas, axis: &Axis, edge: f64) {
        let mut free = f64::MIN;
        for tick in &axis.ticks {
            let x = self.x(axis.place(tick.value));
            canvas.line((x, self.top), (x, self.bottom), Ink::Hair, 0.75);
            let width = text_width(&tick.label, TEXT);
            let middle = x.max(width / 2.0 + 1.0).min(edge - width / 2.0);
            if middle - width / 2.0 >= free {
                canvas.text(
                    &tick.label,
                    At::Middle.point(middle, self.bottom + 15.0),
                    Ink::Grey,
                    TEXT,
                );
                free = middle + width / 2.0 + 8.0;
            }
        }
    }

    /// Draws ticks and labels of a time axis below `base`; the canvas ends at `edge`.
    pub(super) fn time_axis(
        &self,
        canvas: &mut Canvas,
        period: TimeSpan,
        (base, edge): (f64, f64),
        locale: &dyn ChartLocale,
    ) {
        let ticks = time_ticks(period, self.width(), TEXT, locale);
        for tick in ticks {
            let x = self.x(place(period, tick.at));
            canvas.line((x, base), (x, base + 4.0), Ink::Mist, 1.0);
            let half = text_width(&tick.label, TEXT) / 2.0;
            // At the ends, labels are shifted inwards so that they stay on the canvas.
            let middle = x.max(half + 1.0).min(edge - half);
            canvas.text(&tick.label, At::Middle.point(middle, base + 17.0), Ink::Grey, TEXT);
        }
    }

    /// Draws a shade over the full height, with a tooltip.
    pub(super) fn shade(&self, canvas: &mut Canvas, from: f64, width: f64, title: &str) {
        hatched(canvas, (from, self.top), (width, self.bottom - self.top), title);
    }

    /// Draws a note in the middle that there are no values.
    pub(super) fn no_values(&self, canvas: &mut Canvas, size: f64, locale: &dyn ChartLocale) {
        let (x, y) = ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0);
        canvas.text(locale.t("no values"), At::Middle.point(x, y), Ink::Grey, size);
    }

    /// Draws a label that stays readable across lines and bands.
    pub(super) fn framed(&self, canvas: &mut Canvas, text: &str, anchor: Anchor) {
        let width = text_width(text, SMALL) + 4.0;
        let Anchor { at, x, base } = anchor;
        let left = match at {
            At::Start => x - 2.0,
            At::Middle => x - width / 2.0,
            At::End => x - width + 2.0,
        };
        canvas.rect((left, base - 10.0), (width, 12.0), Ink::Ground);
        canvas.text(text, anchor, Ink::Ink, SMALL);
    }
}

/// Returns the positions of the entries of a legend of the given widths, in lines as wide as the
/// canvas (left end and top), and the total height.
pub(super) fn in_lines(widths: impl Iterator<Item = f64>, paper: f64) -> (Vec<(f64, f64)>, f64) {
    let (mut x, mut line) = (0.0, 0.0);
    let places = widths
        .map(|width| {
            if x > 0.0 && x + width > paper {
                (x, line) = (0.0, line + 16.0);
            }
            let place = (x, line);
            x += width + 14.0;
            place
        })
        .collect();
    (places, line + 16.0)
}

/// Draws a hatched area, distinguishable without colour: light strokes from bottom left to top
/// right, on a shade.
pub(super) fn hatched(canvas: &mut Canvas, corner: (f64, f64), size: (f64, f64), title: &str) {
    let ((left, top), (width, height)) = (corner, size);
    let bottom = top + height;
    canvas.rect((left, top), (width, height), Ink::Shade);
    canvas.title(title);
    let distance = if height > 40.0 { 7.0 } else { 4.0 };
    let mut x = left - height + distance / 2.0;
    while x < left + width {
        let (start, end) = (x.max(left), (x + height).min(left + width));
        if end > start {
            canvas.line((start, bottom - (start - x)), (end, bottom - (end - x)), Ink::Mist, 0.6);
        }
        x += distance;
    }
}

/// Formats a time in the chart's zone: the date, and the time of day unless it is midnight.
pub(super) fn moment(at: UtcMicros, locale: &dyn ChartLocale) -> String {
    let zoned = ZonedDateTime::new(at.timestamp(), locale.zone().clone());
    let day = day(zoned.date(), locale);
    if zoned.time() == Time::midnight() {
        day
    } else {
        format!("{day}, {}", locale.clock(zoned.time(), false))
    }
}

fn day(date: Date, locale: &dyn ChartLocale) -> String {
    let language =
        || format!("{} {} {}", locale.nth(date.day()), locale.month(date.month()), date.year());
    locale.own_date(date).unwrap_or_else(language)
}

/// Formats a period in the chart's zone, followed by the name of the zone.
pub(super) fn period(span: TimeSpan, locale: &dyn ChartLocale) -> String {
    let zone = locale.zone().iana_name().unwrap_or("UTC");
    let zoned = |at: UtcMicros| ZonedDateTime::new(at.timestamp(), locale.zone().clone());
    let (from, to) = (zoned(span.from), zoned(span.to));
    let whole =
        from.time() == Time::midnight() && to.time() == Time::midnight() && span.from < span.to;
    if !whole {
        return format!("{} – {}, {zone}", moment(span.from, locale), moment(span.to, locale));
    }
    // The last day is part of the period, which ends at the following midnight.
    let last = to.date().yesterday().unwrap_or(to.date());
    let month = |date: Date| locale.month(date.month());
    let end = day(last, locale);
    let first = from.date();
    if first == last {
        format!("{end}, {zone}")
    } else if locale.own_date(first).is_some() {
        format!("{} – {end}, {zone}", day(first, locale))
    } else if (first.year(), first.month()) == (last.year(), last.month()) {
        format!("{}–{end}, {zone}", locale.nth(first.day()))
    } else if first.year() == last.year() {
        format!("{} {} – {end}, {zone}", locale.nth(first.day()), month(first))
    } else {
        format!("{} – {end}, {zone}", moment(span.from, locale))
    }
}

/// Joins parts with semicolons and capitalises the first letter.
pub(super) fn sentence(parts: &[&str]) -> String {
    capitalised(&parts.join("; "))
}

/// Returns the given title or, if it is empty, the finding without its full stop.
pub(super) fn headline(given: &str, finding: &str) -> String {
    if given.is_empty() {
        finding.strip_suffix('.').unwrap_or(finding).to_owned()
    } else {
        given.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use mailqos_model::Micros;

    use super::*;
    use crate::locale::English;

    /// 1 October 2026, midnight UTC.
    const FROM: UtcMicros = UtcMicros(1_790_812_800_000_000);

    fn hours(hours: f64) -> TimeSpan {
        TimeSpan { from: FROM, to: FROM + Micros((hours * 3_600e6) as i64) }
    }

    /// A locale with custom formats of dates and times.
    struct House;

    impl ChartLocale for House {
        fn zone(&self) -> &TimeZone {
            static UTC: TimeZone = TimeZone::UTC;
            &UTC
        }

        fn clock(&self, time: Time, _seconds: bool) -> String {
            format!("{} o'clock", time.hour())
        }

        fn own_date(&self, date: Date) -> Option<String> {
            Some(date.to_string())
        }
    }

    #[test]
    fn dates_and_times_use_custom_formats() {
        assert_eq!(period(hours(24.0), &House), "2026-10-01, UTC");
        assert_eq!(period(hours(48.0), &House), "2026-10-01 – 2026-10-02, UTC");
        assert_eq!(period(hours(6.0), &House), "2026-10-01 – 2026-10-01, 6 o'clock, UTC");
    }

    #[test]
    fn no_time_label_exceeds_the_page() {
        let plot = Plot { left: 40.0, right: 298.0, top: 0.0, bottom: 50.0 };
        let english = English(TimeZone::UTC);
        // The last label, 18:00, is at the very end.
        let svg = draw(300, 80, "", "", |canvas| {
            plot.time_axis(canvas, hours(18.01), (50.0, 300.0), &english);
        });
        let last = svg.rsplit("<text x=\"").next().and_then(|text| text.split_once('"'));
        let (x, rest) = last.expect("a label");
        assert!(rest.contains(">18:00<"), "{svg}");
        let x: f64 = x.parse().expect("a number");
        assert!(x + text_width("18:00", TEXT) / 2.0 <= 300.1, "{svg}");
    }
}
