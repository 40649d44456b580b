//! Canvas of all charts: plotters draws on a backend that writes compact SVG. Similar consecutive
//! marks become one path or one group of texts, so a drawing with a thousand cells has about a
//! dozen elements, each with its attributes once.

use std::{convert::Infallible, fmt::Write as _};

use plotters::style::{
    Color as _, FontDesc, FontFamily, FontStyle, ShapeStyle, TextStyle,
    text_anchor::{HPos, Pos, VPos},
};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
};

mod hover;
mod runs;

use mailqos_base::timing::Sum;

pub(super) use self::hover::Hover;
use super::{palette::Ink, widths::WIDTHS};

/// Total time spent drawing.
pub static DRAWING: Sum = Sum::new();

/// Coordinate steps per pixel. Steps finer than a tenth are invisible.
const FINE: f64 = 10.0;
/// Steps per pixel of line widths.
const STROKE: f64 = 100.0;
/// Font family; a page with its own font overrides it.
const FAMILY: &str = "Inter, 'Helvetica Neue', Arial, sans-serif";

/// Font size of tick labels and direct labels, in pixels.
pub(super) const TEXT: f64 = 12.0;
/// Font size of secondary labels, in pixels.
pub(super) const SMALL: f64 = 11.0;

/// Ratio of the width of bold letters to that of regular ones.
pub(super) const BOLD: f64 = 1.06;

/// Maximum share of the width for names next to bars and strips.
pub(super) const NAMES: f64 = 0.36;

/// Alignment of a text at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// The position is the left end.
    Start,
    /// The position is the middle.
    Middle,
    /// The position is the right end.
    End,
}

impl At {
    /// Aligns a text at a position on its base line.
    pub(super) fn point(self, x: f64, base: f64) -> Anchor {
        Anchor { at: self, x, base }
    }
}

/// A position on the base line of a text, and the part of the text aligned to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Anchor {
    pub(super) at: At,
    pub(super) x: f64,
    pub(super) base: f64,
}

/// Appearance of an element, independent of its position.
#[derive(Debug, Clone, PartialEq)]
enum Look {
    /// A filled area.
    Area(Ink),
    /// A line: width, dashes, and whether it has several segments, whose joins are round.
    Line(Ink, f64, &'static str, bool),
    /// A disc with its radius.
    Disc(Ink, f64),
    /// A text: size, alignment, and whether it is bold.
    Text(Ink, f64, At, bool),
}

/// An element of a drawing; coordinates are in tenths of a pixel.
#[derive(Debug, Clone)]
struct Element {
    look: Look,
    shape: Shape,
    /// Tooltip, which screen readers also read out.
    title: String,
}

#[derive(Debug, Clone)]
enum Shape {
    /// Left, top, width, height.
    Rect(i64, i64, i64, i64),
    /// Points of a line, or the outline of an area.
    Points(Vec<(i64, i64)>),
    /// A text with its position.
    Text(String, i64, i64),
}

/// Drawing backend for plotters, which keeps the elements, in tenths of a pixel, until they are
/// written as SVG.
#[derive(Debug, Default)]
struct Paper {
    size: (u32, u32),
    /// Ink of the next element: a colour alone does not identify its class in dark mode.
    ink: Ink,
    elements: Vec<Element>,
}

/// Error type of a backend that never fails.
type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl Paper {
    fn add(&mut self, look: Look, shape: Shape) -> Drawn {
        let title = String::new();
        self.elements.push(Element { look, shape, title });
        Ok(())
    }

    fn line_look<S: BackendStyle>(&self, style: &S, joined: bool) -> Look {
        Look::Line(self.ink, f64::from(style.stroke_width()) / STROKE, "", joined)
    }
}

fn wide((x, y): BackendCoord) -> (i64, i64) {
    (i64::from(x), i64::from(y))
}

impl DrawingBackend for Paper {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, _color: BackendColor) -> Drawn {
        let (x, y) = wide((x, y));
        self.add(Look::Area(self.ink), Shape::Rect(x, y, 1, 1))
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Drawn {
        self.add(self.line_look(style, false), Shape::Points(vec![wide(from), wide(to)]))
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let points = path.into_iter().map(wide).collect();
        self.add(self.line_look(style, true), Shape::Points(points))
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vert: I,
        _style: &S,
    ) -> Drawn {
        let points = vert.into_iter().map(wide).collect();
        self.add(Look::Area(self.ink), Shape::Points(points))
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        _style: &S,
        _fill: bool,
    ) -> Drawn {
        let ((x, y), (right, bottom)) = (wide(upper_left), wide(bottom_right));
        self.add(Look::Area(self.ink), Shape::Rect(x, y, right - x, bottom - y))
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        _style: &S,
        _fill: bool,
    ) -> Drawn {
        let look = Look::Disc(self.ink, f64::from(radius) / FINE);
        self.add(look, Shape::Points(vec![wide(center)]))
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        pos: BackendCoord,
    ) -> Drawn {
        let at = match style.anchor().h_pos {
            HPos::Left => At::Start,
            HPos::Center => At::Middle,
            HPos::Right => At::End,
        };
        let strong = style.style().as_str() == FontStyle::Bold.as_str();
        let (x, y) = wide(pos);
        let look = Look::Text(self.ink, style.size() / FINE, at, strong);
        self.add(look, Shape::Text(text.to_owned(), x, y))
    }
}

/// A drawing in progress. Coordinates are in pixels from the top left.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    paper: Paper,
}

/// Draws on a canvas of the given size and returns the complete SVG.
pub(super) fn draw(
    width: u32,
    height: u32,
    title: &str,
    alternative: &str,
    pen: impl FnOnce(&mut Canvas),
) -> String {
    DRAWING.add(|| {
        let mut canvas = Canvas::default();
        canvas.paper.size = (width.saturating_mul(FINE as u32), height.saturating_mul(FINE as u32));
        pen(&mut canvas);
        set(&canvas.paper.elements, (width, height), title, alternative)
    })
}

fn fine(pixels: f64) -> i32 {
    // Far outside the canvas, and safe to subtract.
    (pixels * FINE).round().clamp(-1e6, 1e6) as i32
}

impl Canvas {
    fn pen(&mut self, ink: Ink) -> &mut Paper {
        self.paper.ink = ink;
        &mut self.paper
    }

    fn stroke(ink: Ink, width: f64) -> ShapeStyle {
        ShapeStyle {
            color: ink.rgb().to_rgba(),
            filled: false,
            stroke_width: (width * STROKE).round().max(1.0) as u32,
        }
    }

    /// Adds a tooltip to the last element.
    pub(super) fn title(&mut self, title: impl Into<String>) {
        if let Some(element) = self.paper.elements.last_mut() {
            element.title = title.into();
        }
    }

    /// Makes the last element dashed.
    pub(super) fn dashed(&mut self, dashes: &'static str) {
        if let Some(Element { look: Look::Line(_, _, own, _), .. }) = self.paper.elements.last_mut()
        {
            *own = dashes;
        }
    }

    /// Draws a straight line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink, width: f64) {
        let [from, to] = [from, to].map(|(x, y)| (fine(x), fine(y)));
        let _ = self.pen(ink).draw_line(from, to, &Self::stroke(ink, width));
    }

    /// Draws a line through points.
    pub(super) fn path(&mut self, points: &[(f64, f64)], ink: Ink, width: f64) {
        let points = points.iter().map(|(x, y)| (fine(*x), fine(*y)));
        let _ = self.pen(ink).draw_path(points, &Self::stroke(ink, width));
    }

    /// Draws a filled polygon.
    pub(super) fn polygon(&mut self, points: &[(f64, f64)], ink: Ink) {
        let points = points.iter().map(|(x, y)| (fine(*x), fine(*y)));
        let _ = self.pen(ink).fill_polygon(points, &ink.rgb());
    }

    /// Draws a filled rectangle.
    pub(super) fn rect(&mut self, (left, top): (f64, f64), (width, height): (f64, f64), ink: Ink) {
        let from = (fine(left), fine(top));
        let to = (fine(left + width.max(0.0)), fine(top + height.max(0.0)));
        let _ = self.pen(ink).draw_rect(from, to, &ink.rgb(), true);
    }

    /// Draws a disc.
    pub(super) fn disc(&mut self, centre: (f64, f64), radius: f64, ink: Ink) {
        let centre = (fine(centre.0), fine(centre.1));
        let radius = (radius * FINE).round() as u32;
        let _ = self.pen(ink).draw_circle(centre, radius, &ink.rgb(), true);
    }

    /// Draws a text on its base line.
    pub(super) fn text(&mut self, text: &str, anchor: Anchor, ink: Ink, size: f64) {
        let style = Self::letters(anchor.at, ink, size, FontStyle::Normal);
        let position = (fine(anchor.x), fine(anchor.base));
        let _ = self.pen(ink).draw_text(text, &style, position);
    }

    /// Draws a bold text on its base line.
    pub(super) fn strong(&mut self, text: &str, anchor: Anchor, ink: Ink, size: f64) {
        let style = Self::letters(anchor.at, ink, size, FontStyle::Bold);
        let position = (fine(anchor.x), fine(anchor.base));
        let _ = self.pen(ink).draw_text(text, &style, position);
    }

    fn letters(at: At, ink: Ink, size: f64, weight: FontStyle) -> TextStyle<'static> {
        let h_pos = match at {
            At::Start => HPos::Left,
            At::Middle => HPos::Center,
            At::End => HPos::Right,
        };
        TextStyle {
            font: FontDesc::new(FontFamily::SansSerif, size * FINE, weight),
            color: ink.rgb().to_backend_color(),
            pos: Pos::new(h_pos, VPos::Bottom),
        }
    }

    /// Draws a name, shortened to the available width; the tooltip of a shortened name is the full
    /// name.
    pub(super) fn name(&mut self, name: &str, anchor: Anchor, room: f64) {
        let shown = shorten(name, room, TEXT);
        self.text(&shown, anchor, Ink::Ink, TEXT);
        if shown != name {
            self.title(name);
        }
    }
}

/// Removes characters that XML can't contain and marks that change the text direction.
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

/// Returns the width of a text in Inter, which pages and PDF files embed; approximate for
/// characters that Inter lacks.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let em: f64 = text.chars().map(char_width).sum();
    em * size
}

/// Returns the approximate width of the widest text.
pub(super) fn widest<'a>(texts: impl Iterator<Item = &'a str>, size: f64) -> f64 {
    texts.map(|text| text_width(text, size)).fold(0.0, f64::max)
}

fn char_width(c: char) -> f64 {
    let code = c as u32;
    let run = WIDTHS.partition_point(|(first, _)| *first <= code).checked_sub(1);
    let known = run.and_then(|run| {
        let (first, widths) = WIDTHS[run];
        widths.get((code - first) as usize)
    });
    if let Some(thousandths) = known {
        return f64::from(*thousandths) / 1_000.0;
    }
    match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}' => 0.0,
        '\u{1100}'..='\u{11ff}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7af}'
        | '\u{ff00}'..='\u{ff60}' => 1.05,
        c if c as u32 >= 0x1_f000 => 1.35,
        _ => 0.66,
    }
}

/// Shortens a text to the available width, with an ellipsis.
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
    // A combining sequence is never cut in half.
    while shown.ends_with(|c: char| c == '\u{200d}' || c.is_whitespace()) {
        shown.pop();
    }
    shown.push('…');
    shown
}

/// Writes tenths of a pixel as pixels.
fn pixels(tenths: i64, svg: &mut String) {
    let (whole, tenth) = (tenths.abs() / 10, tenths.abs() % 10);
    if tenths < 0 {
        svg.push('-');
    }
    // Writing to a `String` can't fail.
    if whole > 0 || tenth == 0 {
        let _ = write!(svg, "{whole}");
    }
    if tenth > 0 {
        let _ = write!(svg, ".{tenth}");
    }
}

/// The commands of a path (SVG 2, section 9.3), relative to the previous point because that is
/// shorter.
#[derive(Default)]
struct Path {
    commands: String,
    at: (i64, i64),
    last: char,
    /// Whether numbers are in tenths of a pixel: without decimal points they are even shorter, but
    /// the path needs a scale.
    in_tenths: bool,
}

impl Path {
    fn number(&mut self, tenths: i64, first: bool) {
        if !first && tenths >= 0 {
            self.commands.push(' ');
        }
        if self.in_tenths {
            // Writing to a `String` can't fail.
            let _ = write!(self.commands, "{tenths}");
        } else {
            pixels(tenths, &mut self.commands);
        }
    }

    fn begin(&mut self, (x, y): (i64, i64)) {
        // The first point of a path is always absolute.
        self.commands.push(if self.commands.is_empty() { 'M' } else { 'm' });
        self.number(x - self.at.0, true);
        self.number(y - self.at.1, false);
        (self.at, self.last) = ((x, y), 'm');
    }

    fn line(&mut self, (x, y): (i64, i64)) {
        let (dx, dy) = (x - self.at.0, y - self.at.1);
        let command = match (dx, dy) {
            (_, 0) => 'h',
            (0, _) => 'v',
            _ => 'l',
        };
        let is_new = command != self.last;
        if is_new {
            self.commands.push(command);
        }
        if command != 'v' {
            self.number(dx, is_new);
        }
        if command != 'h' {
            self.number(dy, is_new && command == 'v');
        }
        (self.at, self.last) = ((x, y), command);
    }

    fn close(&mut self, begin: (i64, i64)) {
        self.commands.push('z');
        (self.at, self.last) = (begin, 'z');
    }

    fn add(&mut self, shape: &Shape, is_area: bool) {
        match shape {
            Shape::Rect(x, y, width, height) => {
                self.begin((*x, *y));
                self.line((x + width, *y));
                self.line((x + width, y + height));
                self.line((*x, y + height));
                self.close((*x, *y));
            }
            Shape::Points(points) => {
                let Some((first, rest)) = points.split_first() else {
                    return;
                };
                self.begin(*first);
                rest.iter().for_each(|point| self.line(*point));
                if is_area {
                    self.close(*first);
                }
            }
            Shape::Text(..) => {}
        }
    }
}

/// Returns a path of similar shapes, in pixels or, if that is shorter, in tenths of a pixel.
fn path(shapes: &[Shape], look: &Look, title: &str, svg: &mut String) {
    let is_area = matches!(look, Look::Area(_));
    let written = |in_tenths: bool| {
        let mut path = Path { in_tenths, ..Path::default() };
        shapes.iter().for_each(|shape| path.add(shape, is_area));
        path.commands
    };
    let (pixels, tenths) = (written(false), written(true));
    let is_scaled = tenths.len() + SCALE.len() < pixels.len();
    let commands = if is_scaled { tenths } else { pixels };
    // Writing to a `String` can't fail.
    let _ = write!(svg, "<path d=\"{commands}\"");
    if is_scaled {
        svg.push_str(SCALE);
    }
    attributes(look, if is_scaled { FINE } else { 1.0 }, svg);
    end("path", "", title, svg);
}

/// Attribute of a path in tenths of a pixel.
const SCALE: &str = " transform=\"scale(.1)\"";

/// Returns the attributes of a style, for an element or for a group of elements that share it. Line
/// widths are multiplied by `times`.
fn attributes(look: &Look, times: f64, svg: &mut String) {
    // Writing to a `String` can't fail.
    let _ = match look {
        Look::Area(ink) | Look::Disc(ink, _) => {
            write!(svg, " fill=\"{}\" class=\"{}\"", ink.hex(), ink.class())
        }
        Look::Line(ink, width, dashes, joined) => {
            let width = (width * times * STROKE).round() / STROKE;
            let _ = write!(svg, " fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\"", ink.hex());
            let dashes = dashes.split_whitespace().filter_map(|dash| dash.parse::<f64>().ok());
            let dashes: Vec<String> = dashes.map(|dash| (dash * times).to_string()).collect();
            if !dashes.is_empty() {
                let _ = write!(svg, " stroke-dasharray=\"{}\"", dashes.join(" "));
            }
            if *joined {
                svg.push_str(" stroke-linejoin=\"round\" stroke-linecap=\"round\"");
            }
            write!(svg, " class=\"{}-line\"", ink.class())
        }
        Look::Text(ink, size, at, strong) => {
            match at {
                At::Start => {}
                At::Middle => svg.push_str(" text-anchor=\"middle\""),
                At::End => svg.push_str(" text-anchor=\"end\""),
            }
            if *strong {
                svg.push_str(" font-weight=\"600\"");
            }
            write!(svg, " font-size=\"{size}\" fill=\"{}\" class=\"{}\"", ink.hex(), ink.class())
        }
    };
}

/// Closes an element that may have a title and a text.
fn end(name: &str, text: &str, title: &str, svg: &mut String) {
    if text.is_empty() && title.is_empty() {
        svg.push_str("/>\n");
        return;
    }
    svg.push('>');
    if !title.is_empty() {
        svg.push_str("<title>");
        escape(title, svg);
        svg.push_str("</title>");
    }
    escape(text, svg);
    let _ = writeln!(svg, "</{name}>");
}

/// Returns the common height of several rectangles if its middle is a whole number of tenths of a
/// pixel.
fn common_height(elements: &[&Element]) -> Option<i64> {
    let height = |element: &&Element| match (&element.look, &element.shape) {
        (Look::Area(_), Shape::Rect(_, _, _, height)) => Some(*height),
        _ => None,
    };
    let first = height(elements.first()?)?;
    let is_common = elements.len() > 3
        && first % 2 == 0
        && elements.iter().all(|element| height(element) == Some(first));
    is_common.then_some(first)
}

/// Writes consecutive elements of the same style.
fn run(elements: &[&Element], svg: &mut String) {
    let Some(first) = elements.first() else {
        return;
    };
    let place = |key: &str, tenths: i64, svg: &mut String| {
        let _ = write!(svg, " {key}=\"");
        pixels(tenths, svg);
        svg.push('"');
    };
    if let Look::Area(_) | Look::Line(..) = first.look {
        let shapes = elements.iter().map(|element| element.shape.clone());
        let Some(height) = common_height(elements) else {
            let shapes: Vec<Shape> = shapes.collect();
            return path(&shapes, &first.look, &first.title, svg);
        };
        // Rectangles of equal height become thick lines, which need half as many numbers.
        let Look::Area(ink) = first.look else { return };
        let middle = |shape: Shape| match shape {
            Shape::Rect(x, y, width, _) => {
                Shape::Points(vec![(x, y + height / 2), (x + width, y + height / 2)])
            }
            other => other,
        };
        let shapes: Vec<Shape> = shapes.map(middle).collect();
        let look = Look::Line(ink, height as f64 / FINE, "", false);
        return path(&shapes, &look, &first.title, svg);
    }
    let grouped = elements.len() > 1;
    if grouped {
        svg.push_str("<g");
        attributes(&first.look, 1.0, svg);
        svg.push('>');
    }
    for element in elements {
        let (name, text) = match (&element.shape, &element.look) {
            (Shape::Text(text, x, y), _) => {
                svg.push_str("<text");
                place("x", *x, svg);
                place("y", *y, svg);
                ("text", text.as_str())
            }
            (Shape::Points(points), Look::Disc(_, radius)) => {
                let (x, y) = points.first().copied().unwrap_or_default();
                svg.push_str("<circle");
                place("cx", x, svg);
                place("cy", y, svg);
                place("r", i64::from(fine(*radius)), svg);
                ("circle", "")
            }
            _ => continue,
        };
        if !grouped {
            attributes(&element.look, 1.0, svg);
        }
        end(name, text, &element.title, svg);
        if grouped {
            // A separate element for each line would take hundreds of bytes more.
            svg.pop();
        }
    }
    if grouped {
        svg.push_str("</g>\n");
    }
}

/// Writes the elements as SVG.
fn set(
    elements: &[Element],
    (width, height): (u32, u32),
    title: &str,
    alternative: &str,
) -> String {
    let mut svg = String::new();
    // Writing to a `String` can't fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"{FAMILY}\">\n<title>"
    );
    escape(title, &mut svg);
    svg.push_str("</title>\n<desc>");
    escape(alternative, &mut svg);
    svg.push_str("</desc>\n");
    for run_of in runs::alike(elements) {
        run(&run_of, &mut svg);
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
            canvas.rect((1.0, 2.0), (3.0, 4.0), Ink::Failed);
            canvas.title("3 < 4");
            canvas.path(&[(0.0, 0.0), (1.25, 2.5)], Ink::Ink, 1.0);
            canvas.dashed("1 3");
            canvas.text(
                "<script>alert('x')</script>\u{1}",
                At::Middle.point(1.0, 2.0),
                Ink::Grey,
                TEXT,
            );
            canvas.text("", At::Start.point(1.0, 2.0), Ink::Grey, TEXT);
        });
        insta::assert_snapshot!(svg);
    }

    #[test]
    fn similar_marks_form_one_path() {
        let cells = |titled: bool| {
            draw(1_000, 50, "A", "B", |canvas| {
                for cell in 0..1_000 {
                    canvas.rect(
                        (f64::from(cell), 2.0),
                        (0.8, 20.0 + f64::from(cell % 2)),
                        Ink::Calm,
                    );
                    if titled && cell == 500 {
                        canvas.title("its own");
                    }
                }
                for cell in 0..1_000 {
                    canvas.line((f64::from(cell), 30.0), (f64::from(cell), 34.0), Ink::Failed, 1.0);
                }
            })
        };
        assert_eq!(cells(false).matches("<path").count(), 2);
        assert_eq!(cells(true).matches("<path").count(), 3, "what has its own title stands alone");
        let svg = cells(false);
        assert!(svg.len() < 25_000, "{} bytes for 2,000 marks", svg.len());
        let dark = ["class=\"calm\"", "class=\"failed-line\""];
        assert!(dark.iter().all(|class| svg.contains(class)));
    }

    proptest::proptest! {
        #[test]
        fn a_path_passes_through_its_points(points in proptest::collection::vec((-999_i64..9_999, -999_i64..9_999), 2..40)) {
            let mut points = points;
            points.dedup();
            // Some renderers skip lines of zero length.
            proptest::prop_assume!(points.len() > 1);
            let mut path = Path::default();
            path.add(&Shape::Points(points.clone()), false);
            path.add(&Shape::Rect(points[0].0, points[0].1, 30, 40), true);
            let seen = usvg_points(&path.commands);
            let (x, y) = points[0];
            let mut expected = points;
            expected.extend([(x, y), (x + 30, y), (x + 30, y + 40), (x, y + 40)]);
            proptest::prop_assert_eq!(seen, expected, "{}", path.commands);
        }
    }

    /// Parses the points of a path as an SVG reader would, in tenths of a pixel.
    fn usvg_points(commands: &str) -> Vec<(i64, i64)> {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 9 9\"><path d=\"{commands}\" stroke=\"red\"/></svg>"
        );
        let tree =
            resvg::usvg::Tree::from_str(&svg, &resvg::usvg::Options::default()).expect("SVG");
        let mut seen = Vec::new();
        for node in tree.root().children() {
            let resvg::usvg::Node::Path(path) = node else {
                continue;
            };
            for segment in path.data().segments() {
                use resvg::tiny_skia::PathSegment::{Close, LineTo, MoveTo};
                if let MoveTo(point) | LineTo(point) = segment {
                    seen.push(((point.x * 10.0).round() as i64, (point.y * 10.0).round() as i64));
                } else {
                    assert_eq!(segment, Close);
                }
            }
        }
        seen
    }

    #[test]
    fn text_widths_match_the_font() {
        assert_eq!(text_width("0123456789", 10.0), 64.8, "digits are equally wide");
        assert!((text_width("Wi", 1_000.0) - (949.0 + 238.0)).abs() < 1e-9);
        assert!(text_width("東京", 10.0) > 20.0);
        assert!(text_width("Łódź Ωж", 10.0) > 30.0);
    }

    #[test]
    fn a_long_label_is_shortened_with_the_full_text_as_title() {
        let name = "x".repeat(200);
        let shown = shorten(&name, 100.0, TEXT);
        assert!(shown.ends_with('…') && text_width(&shown, TEXT) <= 100.0);
        assert_eq!(shorten("short", 100.0, TEXT), "short");
        assert_eq!(shorten("👩\u{200d}💻👩\u{200d}💻", 40.0, TEXT), "👩…");
    }
}
