//! Plain text: the first page of a document, for mail clients without HTML, for searching, and for
//! screen readers.
//!
//! Tables are aligned. A table that is too wide even with wrapped texts becomes a list, with a line
//! for each column of a row.

use textwrap::core::display_width;

use crate::document::{Align, Block, Cell, Column, Document, KeyFigure, Span, Table, Transcript};

/// Maximum length of a line, except for longer words (RFC 5322 recommends 78 characters).
const WIDTH: usize = 76;
/// Gap between two columns of a table.
const GAP: usize = 2;
/// Minimum width of text columns.
const NARROWEST: usize = 10;

/// Renders the first page of a document as plain text.
pub fn render(document: &Document) -> String {
    let words = &document.words;
    let mut page = Page(String::new());
    page.paragraph(&format!("{}, {}", document.title, document.period));
    page.underlined(&document.headline, '=');
    if !document.lead.is_empty() {
        page.paragraph(&document.lead);
    }
    page.paragraph(&format!("{} · {} {}", document.scope, words.times_inline, document.zone));
    for note in &document.notes {
        page.paragraph(&format!("{} {}", note.title, note.text));
    }
    page.blocks(document.first_page());
    page.paragraph(&format!("{} {} · {}", words.made, document.made, document.producer));
    page.0.truncate(page.0.trim_end().len());
    page.0.push('\n');
    page.0
}

/// Text written so far.
struct Page(String);

impl Page {
    fn blocks(&mut self, blocks: &[Block]) {
        for block in blocks {
            match block {
                Block::Heading { level: 1, text, .. } => self.underlined(text, '='),
                Block::Heading { level: 2, text, .. } => self.underlined(text, '-'),
                Block::Heading { text, .. } => self.paragraph(text),
                Block::Paragraph { spans } => self.paragraph(&plain(spans)),
                Block::List { ordered, items } => {
                    let items: Vec<&[Span]> = items.iter().map(Vec::as_slice).collect();
                    self.list(*ordered, &items);
                }
                Block::Findings { findings } => {
                    let items: Vec<&[Span]> =
                        findings.iter().map(|finding| &*finding.spans).collect();
                    self.list(false, &items);
                }
                Block::KeyFigures { figures } => self.key_figures(figures),
                Block::Table(table) => self.table(table),
                Block::Chart(chart) => {
                    self.lines(&chart.chart.title, "");
                    self.lines(&chart.chart.subtitle, "");
                    if chart.chart.alternative != chart.chart.title {
                        self.lines(&chart.chart.alternative, "");
                    }
                    self.end();
                }
                Block::Note(note) => self.paragraph(&format!("{} {}", note.title, note.text)),
                Block::Transcript(transcript) => self.transcript(transcript),
                Block::Image { picture, caption } => {
                    let mut texts = [picture.alternative.as_str(), caption].to_vec();
                    texts.dedup();
                    for text in texts {
                        self.lines(text, "");
                    }
                    self.end();
                }
                Block::Columns { columns } => columns.iter().for_each(|blocks| self.blocks(blocks)),
                Block::Group { blocks } => self.blocks(blocks),
                Block::PageBreak => {}
            }
        }
    }

    /// Writes a wrapped text with an indent for its continuation lines; an empty text writes
    /// nothing.
    fn lines(&mut self, text: &str, indent: &str) {
        if text.is_empty() {
            return;
        }
        for line in wrapped(text, WIDTH, indent) {
            self.0.push_str(line.trim_end());
            self.0.push('\n');
        }
    }

    /// Writes an empty line after existing text.
    fn end(&mut self) {
        if !self.0.is_empty() && !self.0.ends_with("\n\n") {
            self.0.push('\n');
        }
    }

    fn paragraph(&mut self, text: &str) {
        self.lines(text, "");
        self.end();
    }

    fn underlined(&mut self, text: &str, rule: char) {
        let lines = wrapped(text, WIDTH, "");
        let width = lines.iter().map(|line| display_width(line)).max().unwrap_or(0);
        self.lines(text, "");
        self.0.extend(std::iter::repeat_n(rule, width));
        self.0.push_str("\n\n");
    }

    fn list(&mut self, ordered: bool, items: &[&[Span]]) {
        for (number, item) in items.iter().enumerate() {
            let sign = if ordered { format!("{}. ", number + 1) } else { "- ".to_owned() };
            self.lines(&format!("{sign}{}", plain(item)), &" ".repeat(sign.len()));
        }
        self.end();
    }

    fn key_figures(&mut self, figures: &[KeyFigure]) {
        let widest = |text: fn(&KeyFigure) -> &str| {
            let widths = figures.iter().map(|figure| display_width(text(figure)));
            widths.max().unwrap_or(0) + GAP
        };
        let (labels, values) = (widest(|figure| &figure.label), widest(|figure| &figure.value));
        for figure in figures {
            let rest = [figure.detail.as_str(), &figure.change];
            let rest: Vec<&str> = rest.into_iter().filter(|text| !text.is_empty()).collect();
            let line = padded(&figure.label, labels, Align::Left)
                + &padded(&figure.value, values, Align::Left);
            self.hanging(&line, &rest.join("; "), labels + values);
        }
        self.end();
    }

    /// Writes a text next to a label of a given width, with continuation lines aligned. If the
    /// label is too wide, the text is below it.
    fn hanging(&mut self, lead: &str, text: &str, width: usize) {
        if width + NARROWEST > WIDTH {
            self.0.push_str(lead.trim_end());
            self.0.push('\n');
            return self.lines(&format!("  {text}"), "  ");
        }
        let lines = wrapped(text, WIDTH - width, "");
        for (number, line) in lines.iter().enumerate() {
            let lead = if number == 0 { lead } else { &" ".repeat(width) };
            let line = format!("{lead}{line}");
            self.0.push_str(line.trim_end());
            self.0.push('\n');
        }
    }

    fn table(&mut self, table: &Table) {
        self.lines(&table.title, "");
        self.lines(&table.subtitle, "");
        self.end();
        let heads: Vec<String> = table.columns.iter().map(head).collect();
        let rows: Vec<Vec<String>> =
            table.rows.iter().map(|row| row.cells.iter().map(shown).collect()).collect();
        match widths(&table.columns, &heads, &rows) {
            Some(widths) => {
                self.row(&table.columns, &widths, &heads);
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                self.row(&table.columns, &widths, &rules);
                for row in &rows {
                    self.row(&table.columns, &widths, row);
                }
            }
            None => {
                for row in &rows {
                    let mut cells = heads.iter().zip(row);
                    if let Some((_, first)) = cells.next() {
                        self.lines(first, "");
                    }
                    for (head, cell) in cells {
                        self.lines(&format!("  {head}: {cell}"), "    ");
                    }
                    self.end();
                }
            }
        }
        self.end();
        self.paragraph(&table.note);
    }

    /// Writes a row of a table, with as many lines as its longest cell.
    fn row(&mut self, columns: &[Column], widths: &[usize], cells: &[String]) {
        let cells: Vec<Vec<String>> =
            cells.iter().zip(widths).map(|(cell, width)| wrapped(cell, *width, "")).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for number in 0..height {
            let mut line = String::new();
            for ((cell, width), column) in cells.iter().zip(widths).zip(columns) {
                let text = cell.get(number).map_or("", String::as_str);
                line.push_str(&padded(text, *width, column.align));
                line.push_str(&" ".repeat(GAP));
            }
            self.0.push_str(line.trim_end());
            self.0.push('\n');
        }
    }

    fn transcript(&mut self, transcript: &Transcript) {
        self.lines(&transcript.title, "");
        self.lines(&transcript.subtitle, "");
        self.end();
        for conversation in &transcript.conversations {
            self.paragraph(&conversation.title);
            let width = |text: fn(&crate::document::Line) -> &str| {
                let widths = conversation.lines.iter().map(|line| display_width(text(line)));
                widths.max().unwrap_or(0) + GAP
            };
            let (at, by) = (width(|line| &line.at), width(|line| line.by));
            for line in &conversation.lines {
                let lead = padded(&line.at, at, Align::Left) + &padded(line.by, by, Align::Left);
                self.hanging(&lead, &line.text, at + by);
            }
            self.end();
        }
        self.paragraph(&transcript.note);
    }
}

/// Wraps a text to a width, with an indent for continuation lines; overlong words are broken.
fn wrapped(text: &str, width: usize, indent: &str) -> Vec<String> {
    // Line breaks within a cell or a paragraph would look like rows.
    let text = text.split(['\n', '\r', '\t']).collect::<Vec<_>>().join(" ");
    let options = textwrap::Options::new(width.max(1)).subsequent_indent(indent);
    let lines = textwrap::wrap(&text, options);
    lines.into_iter().map(std::borrow::Cow::into_owned).collect()
}

fn padded(text: &str, width: usize, align: Align) -> String {
    let fill = " ".repeat(width.saturating_sub(display_width(text)));
    match align {
        Align::Left => format!("{text}{fill}"),
        Align::Right => format!("{fill}{text}"),
    }
}

fn head(column: &Column) -> String {
    if column.unit.is_empty() {
        column.head.clone()
    } else {
        format!("{} ({})", column.head, column.unit)
    }
}

fn shown(cell: &Cell) -> String {
    if cell.detail.is_empty() {
        cell.text.clone()
    } else {
        format!("{} {}", cell.text, cell.detail)
    }
}

fn plain(spans: &[Span]) -> String {
    spans
        .iter()
        .map(|span| match &span.link {
            Some(link) if !link.starts_with('#') && *link != span.text => {
                format!("{} <{link}>", span.text)
            }
            _ => span.text.clone(),
        })
        .collect()
}

/// Returns the widths of the columns: those of their cells or, for texts, less; `None` if the table
/// is still too wide.
fn widths(columns: &[Column], heads: &[String], rows: &[Vec<String>]) -> Option<Vec<usize>> {
    let longest_word = |text: &str| text.split(' ').map(display_width).max().unwrap_or(0);
    let mut widths = Vec::new();
    let mut least = Vec::new();
    for (index, (column, head)) in columns.iter().zip(heads).enumerate() {
        let cells = rows.iter().filter_map(|row| row.get(index));
        let widest = cells.map(|cell| display_width(cell)).max().unwrap_or(0);
        // A header may have several lines.
        let head = longest_word(head);
        widths.push(widest.max(head));
        least.push(match column.align {
            Align::Left => widest.min(NARROWEST).max(head),
            Align::Right => widest.max(head),
        });
    }
    let gaps = GAP * widths.len().saturating_sub(1);
    if least.iter().sum::<usize>() + gaps > WIDTH {
        return None;
    }
    while widths.iter().sum::<usize>() + gaps > WIDTH {
        // The widest shrinkable column shrinks.
        let (_, widest) = (0..widths.len())
            .filter(|index| widths[*index] > least[*index])
            .map(|index| (widths[index], index))
            .max()?;
        widths[widest] -= 1;
    }
    Some(widths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        document::{Row, Theme},
        media::specimen,
    };

    fn with(blocks: Vec<Block>) -> String {
        let document = Document { blocks, ..specimen::document(Theme::default(), None) };
        render(&document)
    }

    fn table(texts: [&str; 2]) -> Block {
        let row = |texts: &[&str]| Row {
            cells: texts.iter().map(|text| Cell::text(*text)).collect(),
            strong: false,
        };
        Block::Table(Table {
            title: "Outages".to_owned(),
            columns: vec![
                Column::text("Monitor"),
                Column::number("Downtime", "min"),
                Column::text("Cause"),
            ],
            rows: vec![row(&["大阪の研究所", "5", texts[0]]), row(&["Lyon", "1,042", texts[1]])],
            note: "Two.".to_owned(),
            ..Table::default()
        })
    }

    #[test]
    fn blocks_of_every_kind() {
        let blocks = specimen::document(Theme::default(), None).blocks;
        let all = blocks.into_iter().filter(|block| !matches!(block, Block::PageBreak));
        insta::assert_snapshot!(with(all.collect()));
    }

    #[test]
    fn long_texts_of_tables_are_wrapped_in_their_columns() {
        let long = "connection refused: the server runs, but nothing listens on port 587 (SMTP connection)";
        insta::assert_snapshot!(with(vec![table([long, "late"])]));
    }

    #[test]
    fn tables_of_too_many_columns_become_lists() {
        let columns = (1..=12).map(|n| Column::number(format!("Figure {n}"), "s"));
        let cells = (1..=12).map(|n| Cell::text(format!("{n}.25")).detail("(1.20–1.30)"));
        insta::assert_snapshot!(with(vec![Block::Table(Table {
            columns: std::iter::once(Column::text("Monitor")).chain(columns).collect(),
            rows: vec![Row {
                cells: std::iter::once(Cell::text("Lyon plant")).chain(cells).collect(),
                strong: false,
            }],
            ..Table::default()
        })]));
    }

    #[test]
    fn no_line_exceeds_the_limit_for_mail() {
        let word = "w".repeat(200);
        let long = "a text of words ".repeat(30);
        for text in [with(vec![table([&word, &long])]), with(vec![Block::paragraph(&long)])] {
            let longest = text.lines().map(display_width).max();
            assert!(longest <= Some(WIDTH), "{text}");
        }
    }
}
