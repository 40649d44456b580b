//! Tables whose rows are equally tall, because no text in them needs more than a line. How tall such a
//! table is can be computed, while setting all of its rows to measure them would take as long as
//! setting them.

use std::sync::LazyLock;

use typst::{
    layout::Abs,
    text::{FontInstance, FontVariations},
};

use super::fonts::FONTS;
use crate::document::{Align, Cell, Column, Document, Row, Table};

/// Size of the text in tables and of details, in points, as in `templates/pdf/table.typ`.
const SIZE: f64 = 8.0;
const DETAIL_SIZE: f64 = 6.8;

/// Space between columns in points: twice 1.1 mm.
const BETWEEN: f64 = 2.2 * MILLIMETRE;
const MILLIMETRE: f64 = 72.0 / 25.4;

/// Widths of the paper minus its margins, in points, as in `templates/pdf/page.typ`.
const WIDTH_A4: f64 = (210.0 - 34.0) * MILLIMETRE;
const WIDTH_LETTER: f64 = 612.0 - 34.0 * MILLIMETRE;

/// Width of a figure, which all have with `number-width: "tabular"`, in shares of the size.
const FIGURE: f64 = 0.68;

/// Number of letters that a line of the head of a column of numbers has less than if it has several
/// words, as in `templates/pdf/page.typ`.
const LETTERS_OF_A_HEAD: usize = 10;

/// Reserve for kerning, as a factor: an estimate that is too wide costs only time.
const RESERVE: f64 = 1.06;

/// The semi-bold text font, which is wider than the regular one.
static FONT: LazyLock<Option<FontInstance>> = LazyLock::new(|| {
    let font = FONTS.all.get(1)?.clone();
    let variant = font.info().variant;
    Some(font.instantiate(variant, Abs::pt(SIZE), &FontVariations::default()))
});

/// Returns the number of lines of each row of a table, 1 or 2; 0 if they may differ or are unknown.
pub(super) fn lines(table: &Table, document: &Document) -> usize {
    let is_built_in = document.layout.is_none() && document.theme.font.is_empty();
    if !is_built_in || table.rows.is_empty() {
        return 0;
    }
    let mut second = table.rows.iter().map(|row| has_second_line(row, &table.columns));
    let first = second.next();
    if second.all(|second| Some(second) == first) && fits(table, document) {
        1 + usize::from(first == Some(true))
    } else {
        0
    }
}

/// Returns whether a row has a second line: the details of numbers are below them.
fn has_second_line(row: &Row, columns: &[Column]) -> bool {
    let mut cells = row.cells.iter().zip(columns);
    cells.any(|(cell, column)| column.align == Align::Right && !cell.detail.is_empty())
}

/// Returns whether no text of a table needs more than a line.
fn fits(table: &Table, document: &Document) -> bool {
    let available = if document.theme.paper == "a4" { WIDTH_A4 } else { WIDTH_LETTER };
    let (mut left, mut shares, mut texts) = (available, 0.0, Vec::new());
    for (index, column) in table.columns.iter().enumerate() {
        let cells = table.rows.iter().filter_map(|row| row.cells.get(index));
        let needed = cells.map(|cell| needed(cell, column.align));
        let Some(needed) = needed
            .chain([head(column)])
            .try_fold(0.0_f64, |widest, width| Some(widest.max(width?)))
        else {
            return false;
        };
        let needed = needed * RESERVE + BETWEEN;
        if column.align == Align::Left {
            let share = f64::from(column.width.max(1));
            shares += share;
            texts.push((share, needed));
        } else {
            left -= needed;
        }
    }
    // Numbers take what they need, columns of texts share the rest.
    left >= 0.0 && texts.iter().all(|(share, needed)| *needed <= left * share / shares)
}

/// Returns the estimated width of the head of a column; `None` if it is unknown.
fn head(column: &Column) -> Option<f64> {
    let mut head = column.head.clone();
    if !column.unit.is_empty() {
        head.push_str(&format!(" ({})", column.unit));
    }
    if column.align == Align::Left {
        return width(&head, SIZE);
    }
    // Its lines, as the function `narrow` of the page divides it.
    let mut lines: Vec<String> = Vec::new();
    for word in head.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < LETTERS_OF_A_HEAD => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().try_fold(0.0_f64, |widest, line| Some(widest.max(width(line, SIZE)?)))
}

/// Returns the estimated width of a cell on one line; `None` if it is unknown.
fn needed(cell: &Cell, align: Align) -> Option<f64> {
    let text = width(&cell.text, SIZE)?;
    let detail = width(&cell.detail, DETAIL_SIZE)?;
    Some(match align {
        Align::Left if cell.detail.is_empty() => text,
        Align::Left => text + width(" ", SIZE)? + detail,
        Align::Right => text.max(width(" ", SIZE)? + detail),
    })
}

/// Returns the estimated width of a text; `None` if it has other characters than those that surely
/// are of the text font.
fn width(text: &str, size: f64) -> Option<f64> {
    let font = FONT.as_ref()?;
    let width = text.chars().try_fold(0.0, |width, c| match c {
        '0'..='9' => Some(width + FIGURE),
        '\u{ad}' => None,
        '\u{202f}' => Some(width + FIGURE),
        ' '..='~' | '\u{a0}'..='\u{17f}' | '–' | '—' | '…' | '’' | '−' | '≥' | '≤' => {
            Some(width + font.x_advance(font.ttf().glyph_index(c)?.0)?.get())
        }
        _ => None,
    });
    width.map(|width| width * size)
}
