//! A sample document with a block of every kind: `templates check` renders custom partials and
//! layouts with it, and the documentation of their variables is checked against it.

use std::path::Path;

use mailqos_charts::{Chart, Data, Datum};
use mailqos_model::UtcMicros;
use serde_json::Value;

use super::{MediaError, email, html, pdf, work::Work};
use crate::{
    document::{
        Block, Cell, ChartBlock, Column, Conversation, Document, Finding, KeyFigure, Line, Note,
        Picture, Row, Span, Status, Table, Theme, Transcript, Words,
    },
    provenance::Provenance,
};

const SVG: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 20 10\"><rect width=\"20\" height=\"10\" fill=\"#0A5FA8\"/></svg>";

/// Returns the sample document in a house style and a layout.
pub fn document(theme: Theme, layout: Option<String>) -> Document {
    let provenance = Provenance::new(Vec::new());
    Document {
        title: "Specimen".to_owned(),
        headline: "A block of every kind".to_owned(),
        lead: "A sample document for testing layouts and partials.".to_owned(),
        period: "October 2026".to_owned(),
        from: UtcMicros(1_790_812_800_000_000),
        to: UtcMicros(1_793_491_200_000_000),
        zone: "UTC".to_owned(),
        scope: "1 monitor".to_owned(),
        language: "en".to_owned(),
        made: "1 Nov 2026, 00:00".to_owned(),
        made_at: UtcMicros(1_793_491_200_000_000),
        producer: concat!("mailqos ", env!("CARGO_PKG_VERSION")).to_owned(),
        data_hash: provenance.sha256.clone(),
        provenance,
        notes: vec![note()],
        chapters: std::collections::BTreeMap::new(),
        theme,
        layout,
        words: words(),
        blocks: blocks(),
    }
}

fn words() -> Words {
    Words {
        contents: "Contents",
        more: "{0} more in the full report",
        shortened: "Without individual monitors.",
        left_out: "This file omits the chapters of {0} individual monitors. They are in the archive of web pages (format zip).",
        of: "of",
        page: "Page",
        data: "Chart data",
        made: "Data until",
        data_hash: "SHA-256 of the data",
        times_in: "Times in",
        times_inline: "times in",
        dash: "–",
        report: "Report",
        finding: "Finding",
        period: "Period",
        scope: "Monitors",
        chapter: "Chapter",
        key_figures: "Key figures",
        figure: "Figure",
        value: "Value",
        unit: "Unit",
        detail: "Detail",
        change: "Change",
    }
}

fn spans(text: &str) -> Vec<Span> {
    vec![Span::plain(text), Span::strong("strong")]
}

fn note() -> Note {
    Note {
        status: Status::Warn,
        title: "A note.".to_owned(),
        text: "The text of the note.".to_owned(),
    }
}

fn picture() -> Picture {
    Picture {
        name: "picture.svg".to_owned(),
        media_type: "image/svg+xml",
        bytes: SVG.as_bytes().to_vec(),
        alternative: "A picture".to_owned(),
        width: 40,
    }
}

fn table() -> Table {
    Table {
        id: "table".to_owned(),
        title: "A table".to_owned(),
        subtitle: "How to read it".to_owned(),
        columns: vec![Column::text("Monitor"), Column::number("Median", "ms")],
        rows: vec![Row {
            cells: vec![
                Cell::text("mail"),
                Cell::number("240", Some(240.0)).detail("± 3").status(Status::Bad),
            ],
            strong: false,
        }],
        note: "A remark".to_owned(),
    }
}

fn chart(id: &str) -> ChartBlock {
    ChartBlock {
        id: id.to_owned(),
        chart: Chart {
            hover: String::new(),
            time: None,
            narrow: SVG.to_owned(),
            svg: SVG.to_owned(),
            width: 20,
            height: 10,
            title: "A chart".to_owned(),
            subtitle: "Subtitle of the chart".to_owned(),
            alternative: "Description of the chart".to_owned(),
            data: Data::new(vec!["Day".to_owned()], vec![vec![Datum::text("1")]]),
        },
    }
}

fn transcript() -> Transcript {
    Transcript {
        id: "transcript".to_owned(),
        title: "A test".to_owned(),
        subtitle: "Result of the test".to_owned(),
        conversations: vec![Conversation {
            title: "SMTP".to_owned(),
            lines: vec![Line {
                at: "0.000".to_owned(),
                by: "server",
                text: "220 ready".to_owned(),
            }],
        }],
        note: "Source of the full transcript".to_owned(),
    }
}

/// Returns a block of every kind.
fn blocks() -> Vec<Block> {
    vec![
        Block::Heading { level: 1, text: "A chapter".to_owned(), id: "chapter".to_owned() },
        Block::Paragraph { spans: spans("A paragraph, ") },
        Block::List { ordered: false, items: vec![spans("an item, ")] },
        Block::KeyFigures {
            figures: vec![KeyFigure {
                label: "Availability".to_owned(),
                value: "99.9 %".to_owned(),
                change: "+0.1 pp".to_owned(),
                trend: Status::Good,
                detail: "of 8,928 tests".to_owned(),
                status: Status::Neutral,
                exact: Some(99.9),
                unit: "%",
                ..KeyFigure::default()
            }],
        },
        Block::Findings {
            findings: vec![Finding { spans: spans("A finding, "), chart: Some(chart("finding")) }],
        },
        Block::Note(note()),
        Block::PageBreak,
        Block::Table(table()),
        Block::Chart(chart("chart")),
        Block::Transcript(transcript()),
        Block::Image { picture: picture(), caption: "A caption".to_owned() },
        Block::Columns {
            columns: vec![vec![Block::paragraph("left")], vec![Block::paragraph("right")]],
        },
        Block::Group { blocks: vec![Block::paragraph("together")] },
    ]
}

/// Renders the sample document with the custom partials and layouts of every medium and returns the
/// problems.
pub fn check(theme: &Theme, layout: Option<&str>, own: &Path) -> Vec<MediaError> {
    let document = document(theme.clone(), layout.map(str::to_owned));
    [
        html::render(&document, Some(own)).err(),
        pdf::render(&document, Some(own)).err(),
        email::render(&document, Some(own)).err(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the names of all variables of layouts and partials, with `.` between a value and its
/// fields.
pub fn variables() -> Vec<String> {
    fn visit(value: &Value, path: &str, all: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    all.push(path.clone());
                    visit(value, &path, all);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| visit(item, path, all)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    // HTML has the most variables.
    let document = document(Theme::default(), None);
    if let Ok(work) = Work::new(&html::MEDIUM, &html::SHOWING, &document, None) {
        visit(&work.document, "", &mut all);
        visit(&Value::Array(work.blocks), "blocks", &mut all);
    }
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{media, theme::ThemeOptions};

    fn own(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::write(file, text).expect("written");
        }
        folder
    }

    fn theme() -> Theme {
        ThemeOptions::default().resolve()
    }

    #[test]
    fn a_new_layout_extends_every_medium() {
        let files = media::new_layout("house");
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.to_str().expect("a path"), *text)).collect();
        let folder = own(&files);
        let wrong = check(&theme(), Some("house"), folder.path());
        assert!(wrong.is_empty(), "{wrong:?}");
        let page = html::render(&document(theme(), Some("house".into())), Some(folder.path()))
            .expect("a page");
        assert!(
            page.contains("<p>Specimen, October 2026</p>")
                && page.contains("A block of every kind")
        );
        let usual = html::render(&document(theme(), None), Some(folder.path())).expect("a page");
        assert!(!usual.contains("<p>Specimen, October 2026</p>"));
    }

    #[test]
    fn an_own_partial_may_extend_the_one_that_it_replaces() {
        let folder = own(&[(
            "html/page.html",
            "{% extends \"base/page.html\" %}{% block head %}<!-- ours -->{% endblock head %}",
        )]);
        let page = html::render(&document(theme(), None), Some(folder.path())).expect("a page");
        assert!(page.contains("<!-- ours -->"));
    }

    #[test]
    fn errors_name_the_file_the_line_and_what_exists() {
        let folder = own(&[
            ("html/note.html", "<p>\n{{ titel }}</p>"),
            (
                "pdf/house.typ",
                "{% extends \"page.typ\" %}\n{% block end %}{{ theme.compani }}{% endblock end %}",
            ),
            ("email/note.html", "{% if title %}\n<p>{{ title }</p>{% endif %}"),
        ]);
        let said: Vec<String> = check(&theme(), Some("house"), folder.path())
            .iter()
            .map(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
            .collect();
        insta::assert_snapshot!(said.join("\n\n"));
    }

    #[test]
    fn every_variable_is_documented() {
        let text = include_str!("../../../../docs/templates.md");
        let missing: Vec<String> = variables()
            .into_iter()
            .filter(|name| name != "blocks" && !name.starts_with("blocks.kind"))
            .filter(|name| {
                let last = name.rsplit('.').next().unwrap_or(name);
                let shown = if name.starts_with("blocks.") { last } else { name.as_str() };
                !text.contains(&format!("`{shown}`")) && !text.contains(&format!("`{last}`"))
            })
            .collect();
        assert!(missing.is_empty(), "not in docs/templates.md: {missing:?}");
    }
}
