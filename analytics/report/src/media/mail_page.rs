//! Body of a mail with a report: the headline, the key figures, changes, the worst rows of tables,
//! and a few charts. Everything else is in the report itself.
//!
//! Gmail clips mails whose HTML exceeds 102 kB.

use crate::document::{Block, Document, Finding, Row, Span, Status, Table};

/// Maximum items of a list.
const ITEMS: usize = 5;

/// Limits of a report within a mail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    /// Maximum key figures.
    figures: usize,
    /// Maximum findings.
    findings: usize,
    /// Maximum number of charts next to findings.
    sparks: usize,
    /// Maximum other charts and images.
    charts: usize,
    /// Maximum tables.
    tables: usize,
    /// Maximum rows of a table.
    rows: usize,
    /// Maximum columns of a table; more are illegible on a phone.
    columns: usize,
    /// Maximum paragraphs, lists and notes.
    texts: usize,
    /// Maximum characters of a text.
    characters: usize,
}

/// Limits in decreasing order; the first that result in a short enough page are used.
pub(super) const MEASURES: [Measure; 4] = [
    Measure {
        figures: 6,
        findings: 8,
        sparks: 6,
        charts: 3,
        tables: 3,
        rows: 10,
        columns: 5,
        texts: 12,
        characters: 4_000,
    },
    Measure {
        figures: 6,
        findings: 6,
        sparks: 3,
        charts: 2,
        tables: 2,
        rows: 8,
        columns: 5,
        texts: 6,
        characters: 2_000,
    },
    Measure {
        figures: 6,
        findings: 4,
        sparks: 0,
        charts: 1,
        tables: 1,
        rows: 5,
        columns: 4,
        texts: 3,
        characters: 800,
    },
    Measure {
        figures: 4,
        findings: 3,
        sparks: 0,
        charts: 0,
        tables: 0,
        rows: 0,
        columns: 0,
        texts: 0,
        characters: 300,
    },
];

/// Returns a document reduced to these limits, on one page.
pub(super) fn compose(document: &Document, measure: &Measure) -> Document {
    let first = document.first_page();
    let is_telling = |block: &Block| {
        let within = walk(block);
        within.iter().any(|block| {
            matches!(block, Block::Findings { .. } | Block::Table(_) | Block::Chart(_))
        })
    };
    // A first page with only a title does not count.
    let source = if first.iter().any(is_telling) { first } else { &document.blocks };
    let mut composer = Composer {
        left: *measure,
        more: document.words.more,
        top: Vec::new(),
        rest: Vec::new(),
        headings: Vec::new(),
        has_figures: false,
    };
    for block in source {
        composer.add(block);
    }
    let mut blocks = composer.top;
    blocks.extend(composer.rest);
    let mut notes = document.notes.clone();
    notes.truncate(6);
    for note in &mut notes {
        shorten(&mut note.text, measure.characters);
    }
    let mut composed = document.with_blocks(blocks);
    composed.notes = notes;
    shorten(&mut composed.lead, measure.characters);
    composed
}

/// Returns a block with its nested blocks.
fn walk(block: &Block) -> Vec<&Block> {
    match block {
        Block::Columns { columns } => columns.iter().flatten().flat_map(walk).collect(),
        Block::Group { blocks } => blocks.iter().flat_map(walk).collect(),
        other => vec![other],
    }
}

struct Composer {
    /// Remaining limits.
    left: Measure,
    /// Note on omitted rows: `{0} more in the full report`.
    more: &'static str,
    /// First blocks: key figures, then changes.
    top: Vec<Block>,
    /// Other blocks, in the order of the report.
    rest: Vec<Block>,
    /// Headings whose content has not been added yet.
    headings: Vec<Block>,
    has_figures: bool,
}

impl Composer {
    fn add(&mut self, block: &Block) {
        match block {
            Block::Columns { columns } => {
                columns.iter().flatten().for_each(|block| self.add(block))
            }
            Block::Group { blocks } => blocks.iter().for_each(|block| self.add(block)),
            Block::Heading { level, .. } => {
                let is_above = |known: &Block| matches!(known, Block::Heading { level: known, .. } if known < level);
                self.headings.retain(is_above);
                self.headings.push(block.clone());
            }
            // Key figures of individual monitors are only in the report.
            Block::KeyFigures { figures } if !self.has_figures => {
                self.has_figures = true;
                let figures = figures.iter().take(self.left.figures).cloned().collect();
                self.top.insert(0, Block::KeyFigures { figures });
            }
            Block::Findings { findings } => self.findings(findings),
            Block::Table(table) if take(&mut self.left.tables) => {
                let table = short_table(table, &self.left, self.more);
                self.push(Block::Table(table));
            }
            Block::Chart(_) | Block::Image { .. } if take(&mut self.left.charts) => {
                self.push(block.clone())
            }
            Block::Paragraph { .. } | Block::List { .. } | Block::Note(_)
                if take(&mut self.left.texts) =>
            {
                let block = self.short_text(block);
                self.push(block);
            }
            Block::KeyFigures { .. }
            | Block::Table(_)
            | Block::Chart(_)
            | Block::Image { .. }
            | Block::Paragraph { .. }
            | Block::List { .. }
            | Block::Note(_)
            | Block::Transcript(_)
            | Block::PageBreak => {}
        }
    }

    fn push(&mut self, block: Block) {
        self.rest.append(&mut self.headings);
        self.rest.push(block);
    }

    fn findings(&mut self, findings: &[Finding]) {
        let mut shown = Vec::new();
        for finding in findings {
            if !take(&mut self.left.findings) {
                break;
            }
            let mut finding = finding.clone();
            if finding.chart.is_some() && !take(&mut self.left.sparks) {
                finding.chart = None;
            }
            for span in &mut finding.spans {
                shorten(&mut span.text, self.left.characters);
            }
            shown.push(finding);
        }
        let missing = findings.len() - shown.len();
        if !shown.is_empty() {
            self.top.append(&mut self.headings);
            self.top.push(Block::Findings { findings: shown });
        }
        if missing > 0 && self.left.findings == 0 {
            self.top.push(Block::paragraph(counted(self.more, missing)));
        }
    }

    fn short_text(&self, block: &Block) -> Block {
        let mut block = block.clone();
        match &mut block {
            Block::Paragraph { spans } => {
                let mut room = self.left.characters;
                spans.retain_mut(|span| {
                    shorten(&mut span.text, room);
                    room = room.saturating_sub(span.text.chars().count());
                    !span.text.is_empty()
                });
            }
            Block::List { items, .. } if items.len() > ITEMS => {
                let missing = items.len() - ITEMS;
                items.truncate(ITEMS);
                items.push(vec![Span::plain(counted(self.more, missing))]);
            }
            Block::Note(note) => shorten(&mut note.text, self.left.characters),
            _ => {}
        }
        block
    }
}

/// Decreases a remaining limit.
fn take(left: &mut usize) -> bool {
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_left
}

fn counted(more: &str, count: usize) -> String {
    more.replace("{0}", &count.to_string())
}

/// Shortens a text to a number of characters, after a word.
fn shorten(text: &mut String, most: usize) {
    let Some((end, _)) = text.char_indices().nth(most) else {
        return;
    };
    let end = text[..end].rfind(' ').unwrap_or(end);
    text.truncate(end);
    text.push('…');
}

/// Reduces a table to its worst rows, in their order, and totals; a note states the number of
/// omitted rows.
fn short_table(table: &Table, measure: &Measure, more: &str) -> Table {
    let mut short = table.clone();
    if table.rows.len() > measure.rows {
        let mut order: Vec<usize> = (0..table.rows.len()).collect();
        // The sort is stable, so equal rows keep the order of the report.
        order.sort_by_key(|row| std::cmp::Reverse(weight(&table.rows[*row])));
        order.truncate(measure.rows);
        order.sort_unstable();
        short.rows = order.into_iter().map(|row| table.rows[row].clone()).collect();
        // The note refers to all rows.
        short.note = counted(more, table.rows.len() - short.rows.len());
    }
    if table.columns.len() > measure.columns {
        let kept = columns(&short, measure.columns);
        short.columns = kept.iter().map(|column| short.columns[*column].clone()).collect();
        for row in &mut short.rows {
            row.cells = kept.iter().filter_map(|column| row.cells.get(*column).cloned()).collect();
        }
    }
    for cell in short.rows.iter_mut().flat_map(|row| &mut row.cells) {
        shorten(&mut cell.text, 200);
        shorten(&mut cell.detail, 80);
    }
    shorten(&mut short.note, measure.characters);
    short
}

/// Returns the priority of a row.
fn weight(row: &Row) -> u8 {
    let of = |status: Status| match status {
        Status::Bad => 3,
        Status::Warn => 2,
        Status::Unknown => 1,
        Status::Neutral | Status::Good => 0,
    };
    let worst = row.cells.iter().map(|cell| of(cell.status)).max().unwrap_or(0);
    if row.strong { 4 } else { worst }
}

/// Returns the columns to keep: the first, which names the row, then those with assessments or
/// intervals, which matter most, then the others from the left.
fn columns(table: &Table, most: usize) -> Vec<usize> {
    let is_telling = |column: usize| {
        let mut cells = table.rows.iter().filter_map(|row| row.cells.get(column));
        cells.any(|cell| !matches!(cell.status, Status::Neutral) || !cell.detail.is_empty())
    };
    let mut order: Vec<usize> = (0..table.columns.len()).collect();
    order.sort_by_key(|column| (*column != 0, !is_telling(*column)));
    order.truncate(most);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        document::{Cell, Column, KeyFigure, Theme},
        media::specimen,
    };

    fn with(blocks: Vec<Block>) -> Document {
        Document { blocks, ..specimen::document(Theme::default(), None) }
    }

    fn monitors(count: usize) -> Table {
        let row = |number: usize| Row {
            cells: vec![
                Cell::text(format!("Monitor {number}")),
                Cell::text("99.9 %").status(if number % 50 == 49 {
                    Status::Bad
                } else {
                    Status::Good
                }),
                Cell::text("1"),
            ],
            strong: false,
        };
        Table {
            columns: ["Monitor", "Availability", "Mails"].map(Column::text).to_vec(),
            rows: (0..count).map(row).collect(),
            ..Table::default()
        }
    }

    #[test]
    fn the_worst_rows_are_shown_in_their_order_and_the_rest_counted() {
        let composed = compose(&with(vec![Block::Table(monitors(200))]), &MEASURES[0]);
        let Some(Block::Table(table)) = composed.blocks.first() else { panic!("a table") };
        let names: Vec<&str> = table.rows.iter().map(|row| row.cells[0].text.as_str()).collect();
        assert_eq!(names.len(), 10);
        for bad in ["Monitor 49", "Monitor 99", "Monitor 149", "Monitor 199"] {
            assert!(names.contains(&bad), "{names:?}");
        }
        assert_eq!(names[0], "Monitor 0");
        assert_eq!(table.note, "190 more in the full report");
        let whole = compose(&with(vec![Block::Table(monitors(10))]), &MEASURES[0]);
        assert!(
            matches!(whole.blocks.first(), Some(Block::Table(table)) if table.rows.len() == 10 && table.note.is_empty())
        );
    }

    #[test]
    fn key_figures_come_first_and_a_heading_only_with_what_it_is_of() {
        let heading =
            |text: &str| Block::Heading { level: 2, text: text.into(), id: text.to_lowercase() };
        let figures = Block::KeyFigures { figures: vec![KeyFigure::default(); 9] };
        let blocks = vec![
            heading("Tables"),
            Block::Table(monitors(1)),
            figures.clone(),
            heading("Empty"),
            Block::PageBreak,
        ];
        let composed = compose(&with([blocks, vec![figures]].concat()), &MEASURES[0]);
        let kinds: Vec<&str> = composed
            .blocks
            .iter()
            .map(|block| match block {
                Block::KeyFigures { figures } => {
                    assert_eq!(figures.len(), 6);
                    "figures"
                }
                Block::Heading { text, .. } => text.as_str(),
                Block::Table(_) => "table",
                _ => "other",
            })
            .collect();
        assert_eq!(kinds, ["figures", "Tables", "table"]);
    }

    #[test]
    fn texts_are_cut_behind_a_word() {
        let mut text = "some words in a row".to_owned();
        shorten(&mut text, 12);
        assert_eq!(text, "some words…");
        shorten(&mut text, 12);
        assert_eq!(text, "some words…");
        let mut text = "東".repeat(9);
        shorten(&mut text, 3);
        assert_eq!(text, "東東東…");
    }
}
