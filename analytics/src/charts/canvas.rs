//! Paper and pen of all charts: plotters draws, in tenths of a pixel; what it drew is then set for page and print.

use std::fmt::Write as _;

use plotters::{
    backend::{DrawingBackend, SVGBackend},
    style::{
        Color, FontDesc, FontFamily, FontStyle, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::palette::{self, Ink};
use crate::timing::Sum;

/// How long all drawings took.
pub static DRAWING: Sum = Sum::new();

/// Units of the drawing in a pixel, since plotters knows whole numbers only.
const FINE: f64 = 10.0;
/// The typeface; a page that has another may override it.
const FAMILY: &str = "Inter, 'Helvetica Neue', Arial, sans-serif";

/// Size of tick labels and direct labels.
pub(super) const TEXT: f64 = 12.0;
/// Size of labels of second rank.
pub(super) const SMALL: f64 = 11.0;

/// How much wider bold letters are.
pub(super) const BOLD: f64 = 1.06;

/// Names beside bars and strips take no more than this share of the paper.
pub(super) const NAMES: f64 = 0.36;

/// Where a text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Its left end.
    Start,
    /// Its middle.
    Middle,
    /// Its right end.
    End,
}

/// What plotters can't say about an element.
#[derive(Debug, Default, Clone)]
struct Extra {
    /// Shown when pointed at, and read out.
    title: String,
    /// Lengths of dashes and gaps.
    dashes: &'static str,
}

/// A drawing under way. Coordinates are pixels from the top left.
pub(super) struct Canvas<'a> {
    backend: SVGBackend<'a>,
    extras: Vec<Extra>,
}

/// Draws on a paper of the size; gives the whole SVG.
pub(super) fn draw(
    width: u32,
    height: u32,
    title: &str,
    alternative: &str,
    pen: impl FnOnce(&mut Canvas<'_>),
) -> String {
    DRAWING.add(|| drawn(width, height, title, alternative, pen))
}

fn drawn(width: u32, height: u32, title: &str, alternative: &str, pen: impl FnOnce(&mut Canvas<'_>)) -> String {
    let fine = |pixels: u32| pixels.saturating_mul(FINE as u32);
    let mut raw = String::new();
    let extras = {
        let mut canvas = Canvas {
            backend: SVGBackend::with_string(&mut raw, (fine(width), fine(height))),
            extras: Vec::new(),
        };
        pen(&mut canvas);
        // A drawing into a String can't fail.
        let _ = canvas.backend.present();
        canvas.extras
    };
    set(&raw, &extras, width, height, title, alternative)
}

fn fine(pixels: f64) -> i32 {
    // Beyond the paper by far, and safe to subtract.
    (pixels * FINE).round().clamp(-1e6, 1e6) as i32
}

impl Canvas<'_> {
    fn drawn(&mut self) {
        self.extras.push(Extra::default());
    }

    fn stroke(ink: Ink, width: f64) -> ShapeStyle {
        ShapeStyle {
            color: ink.rgb().to_rgba(),
            filled: false,
            stroke_width: (width * FINE).round().max(1.0) as u32,
        }
    }

    /// The last element says so when pointed at.
    pub(super) fn title(&mut self, title: impl Into<String>) {
        if let Some(extra) = self.extras.last_mut() {
            extra.title = title.into();
        }
    }

    /// The last element is dashed.
    pub(super) fn dashed(&mut self, dashes: &'static str) {
        if let Some(extra) = self.extras.last_mut() {
            extra.dashes = dashes;
        }
    }

    /// A straight line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink, width: f64) {
        let style = Self::stroke(ink, width);
        let points = [(fine(from.0), fine(from.1)), (fine(to.0), fine(to.1))];
        let _ = self.backend.draw_line(points[0], points[1], &style);
        self.drawn();
    }

    /// A line through points.
    pub(super) fn path(&mut self, points: &[(f64, f64)], ink: Ink, width: f64) {
        let style = Self::stroke(ink, width);
        let points = points.iter().map(|(x, y)| (fine(*x), fine(*y)));
        let _ = self.backend.draw_path(points, &style);
        self.drawn();
    }

    /// An area.
    pub(super) fn polygon(&mut self, points: &[(f64, f64)], ink: Ink) {
        let points = points.iter().map(|(x, y)| (fine(*x), fine(*y)));
        let _ = self.backend.fill_polygon(points, &ink.rgb());
        self.drawn();
    }

    /// A filled rectangle.
    pub(super) fn rect(&mut self, left: f64, top: f64, width: f64, height: f64, ink: Ink) {
        let from = (fine(left), fine(top));
        let to = (fine(left + width.max(0.0)), fine(top + height.max(0.0)));
        let _ = self.backend.draw_rect(from, to, &ink.rgb(), true);
        self.drawn();
    }

    /// A disc.
    pub(super) fn disc(&mut self, centre: (f64, f64), radius: f64, ink: Ink) {
        let _ = self.backend.draw_circle(
            (fine(centre.0), fine(centre.1)),
            (radius * FINE) as u32,
            &ink.rgb(),
            true,
        );
        self.drawn();
    }

    /// A text on its base line.
    pub(super) fn text(&mut self, text: &str, x: f64, base: f64, at: At, ink: Ink, size: f64) {
        self.write(text, x, base, at, ink, size, FontStyle::Normal);
    }

    /// A text that stands out.
    pub(super) fn strong(&mut self, text: &str, x: f64, base: f64, at: At, ink: Ink, size: f64) {
        self.write(text, x, base, at, ink, size, FontStyle::Bold);
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the pen's own; all callers go by the two above"
    )]
    fn write(&mut self, text: &str, x: f64, base: f64, at: At, ink: Ink, size: f64, weight: FontStyle) {
        let h = match at {
            At::Start => HPos::Left,
            At::Middle => HPos::Center,
            At::End => HPos::Right,
        };
        let style = TextStyle {
            font: FontDesc::new(FontFamily::SansSerif, size * FINE, weight),
            color: ink.rgb().to_backend_color(),
            pos: Pos::new(h, VPos::Bottom),
        };
        let _ = self.backend.draw_text(&printable(text), &style, (fine(x), fine(base)));
        self.drawn();
    }

    /// A name in the room that there is for it; the whole name when pointed at if it had to be cut.
    pub(super) fn name(&mut self, name: &str, x: f64, base: f64, at: At, room: f64) {
        let shown = shorten(name, room, TEXT);
        self.text(&shown, x, base, at, Ink::Ink, TEXT);
        if shown != name {
            self.title(name);
        }
    }
}

/// Without what XML can't hold, and without marks that turn the direction of what follows.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}'))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn escape(text: &str, into: &mut String) {
    for c in printable(text).chars() {
        match c {
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '&' => into.push_str("&amp;"),
            '"' => into.push_str("&quot;"),
            other => into.push(other),
        }
    }
}

/// How wide a text will be, about: widths of Inter, which is wider than Arial.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let em: f64 = text.chars().map(char_width).sum();
    em * size
}

/// How wide the widest of some texts will be, about.
pub(super) fn widest<'a>(texts: impl Iterator<Item = &'a str>, size: f64) -> f64 {
    texts.map(|text| text_width(text, size)).fold(0.0, f64::max)
}

fn char_width(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.28,
        ' ' | '\u{a0}' | '\u{202f}' | 'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | '-' => 0.37,
        'm' | 'M' | 'W' | '%' | '@' | '…' | '—' => 0.92,
        'w' | 'A'..='Z' | '+' | '=' | '<' | '>' | '−' | '&' => 0.70,
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}' => 0.0,
        '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7af}' | '\u{ff00}'..='\u{ff60}' => 1.05,
        c if c as u32 >= 0x1_f000 => 1.35,
        _ => 0.60,
    }
}

/// Cut to the room, with an ellipsis.
pub(super) fn shorten(text: &str, room: f64, size: f64) -> String {
    if text_width(text, size) <= room {
        return text.to_owned();
    }
    let room = room - text_width("…", size);
    let mut used = 0.0;
    let mut shown = String::new();
    for c in text.chars() {
        used += char_width(c) * size;
        if used > room {
            break;
        }
        shown.push(c);
    }
    // Never half of what is joined to the sign that was cut.
    while shown.ends_with(|c: char| c == '\u{200d}' || c.is_whitespace()) {
        shown.pop();
    }
    shown.push('…');
    shown
}

/// The attributes of a tag that plotters wrote.
fn attributes(tag: &str) -> impl Iterator<Item = (&str, &str)> {
    tag.split("\" ").filter_map(|part| {
        let (key, value) = part.split_once("=\"")?;
        let key = key.rsplit(' ').next()?;
        Some((key, value.trim_end_matches(['"', '/', '>'])))
    })
}

/// Tenths of a pixel as pixels.
fn pixels(tenths: f64) -> String {
    let value = (tenths / FINE * 100.0).round() / 100.0;
    format!("{value}")
}

/// What plotters drew, in pixels, with classes, titles and dashes, and nothing that is said twice.
fn set(raw: &str, extras: &[Extra], width: u32, height: u32, title: &str, alternative: &str) -> String {
    let mut svg = String::with_capacity(raw.len());
    // Writing to a String can't fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"{FAMILY}\">\n<title>"
    );
    escape(title, &mut svg);
    svg.push_str("</title>\n<desc>");
    escape(alternative, &mut svg);
    svg.push_str("</desc>\n");
    let mut extras = extras.iter();
    let mut lines = raw.lines().skip(1);
    while let Some(line) = lines.next() {
        let Some(tag) = line.strip_prefix('<').filter(|tag| !tag.starts_with('/')) else {
            continue;
        };
        let name = tag.split(' ').next().unwrap_or(tag);
        let _ = write!(svg, "<{name}");
        let (mut classes, text) = (Vec::new(), name == "text");
        for (key, value) in attributes(tag) {
            match key {
                "x" | "y" | "x1" | "y1" | "x2" | "y2" | "cx" | "cy" | "r" | "width" | "height" | "stroke-width" => {
                    if key == "stroke-width" && name == "circle" {
                        continue;
                    }
                    let _ = write!(svg, " {key}=\"{}\"", pixels(value.parse().unwrap_or(0.0)));
                }
                // plotters divides the size by this.
                "font-size" => {
                    let _ = write!(
                        svg,
                        " {key}=\"{}\"",
                        pixels((value.parse::<f64>().unwrap_or(0.0) * 1.24).round())
                    );
                }
                "points" => {
                    let _ = write!(svg, " points=\"");
                    for (index, point) in value.split_ascii_whitespace().enumerate() {
                        let (x, y) = point.split_once(',').unwrap_or((point, "0"));
                        let comma = if index == 0 { "" } else { " " };
                        let part = |digits: &str| pixels(digits.parse().unwrap_or(0.0));
                        let _ = write!(svg, "{comma}{},{}", part(x), part(y));
                    }
                    svg.push('"');
                }
                "fill" | "stroke" if value != "none" => {
                    let _ = write!(svg, " {key}=\"{value}\"");
                    if let Some(class) = palette::class(value) {
                        classes.push(if key == "stroke" {
                            format!("{class}-line")
                        } else {
                            class.to_owned()
                        });
                    }
                }
                "fill" => svg.push_str(" fill=\"none\""),
                "text-anchor" if value != "start" => {
                    let _ = write!(svg, " {key}=\"{value}\"");
                }
                "font-weight" => svg.push_str(" font-weight=\"600\""),
                _ => {}
            }
        }
        let extra = extras.next().cloned().unwrap_or_default();
        if !extra.dashes.is_empty() {
            let _ = write!(svg, " stroke-dasharray=\"{}\"", extra.dashes);
        }
        if name == "polyline" {
            svg.push_str(" stroke-linejoin=\"round\" stroke-linecap=\"round\"");
        }
        if !classes.is_empty() {
            let _ = write!(svg, " class=\"{}\"", classes.join(" "));
        }
        let content = if text { lines.next().unwrap_or("") } else { "" };
        if content.is_empty() && extra.title.is_empty() {
            svg.push_str("/>\n");
            continue;
        }
        svg.push('>');
        if !extra.title.is_empty() {
            svg.push_str("<title>");
            escape(&extra.title, &mut svg);
            svg.push_str("</title>");
        }
        svg.push_str(content);
        let _ = writeln!(svg, "</{name}>");
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_classes_pixels_and_titles() {
        let svg = draw(100, 50, "A <b>", "Says \"so\"", |canvas| {
            canvas.line((0.0, 0.05), (10.0, 0.5), Ink::Accent, 1.5);
            canvas.rect(1.0, 2.0, 3.0, 4.0, Ink::Failed);
            canvas.title("3 < 4");
            canvas.path(&[(0.0, 0.0), (1.25, 2.5)], Ink::Ink, 1.0);
            canvas.dashed("1 3");
            canvas.text(
                "<script>alert('x')</script>\u{1}",
                1.0,
                2.0,
                At::Middle,
                Ink::Grey,
                TEXT,
            );
            canvas.text("", 1.0, 2.0, At::Start, Ink::Grey, TEXT);
        });
        insta::assert_snapshot!(svg);
    }

    #[test]
    fn a_long_name_is_cut_and_kept() {
        let name = "x".repeat(200);
        let shown = shorten(&name, 100.0, TEXT);
        assert!(shown.ends_with('…') && text_width(&shown, TEXT) <= 100.0);
        assert_eq!(shorten("short", 100.0, TEXT), "short");
        assert_eq!(shorten("👩\u{200d}💻👩\u{200d}💻", 40.0, TEXT), "👩…");
    }
}
