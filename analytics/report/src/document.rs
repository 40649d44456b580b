//! The document: neutral blocks that sections create and media render. It is independent of HTML,
//! PDF and figures.
//!
//! Its serialised form is the context of the templates of every medium. All texts are plain text;
//! each medium escapes them in its own way.

use std::{borrow::Cow, collections::BTreeMap};

use mailqos_charts::{Chart, palette::Palette};
use mailqos_model::UtcMicros;
use serde::Serialize;

use super::provenance::Provenance;

/// A complete report.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// Title of the report.
    pub title: String,
    /// Main finding in one sentence, with its figure.
    pub headline: String,
    /// One or two sentences on consequences or further findings; may be empty.
    pub lead: String,
    /// Period in the report's language, such as `October 2026`.
    pub period: String,
    /// Start of the period.
    pub from: UtcMicros,
    /// End of the period, exclusive.
    pub to: UtcMicros,
    /// IANA name of the time zone of all times.
    pub zone: String,
    /// Monitors in words, such as `4 monitors`.
    pub scope: String,
    /// Language tag, such as `en`.
    pub language: String,
    /// Time of the report in its zone and language; a dash without data. It comes from the data or
    /// from a flag, so that the report is reproducible.
    pub made: String,
    /// The same time in UTC.
    pub made_at: UtcMicros,
    /// Program and version.
    pub producer: String,
    /// Hash of the data of the report.
    pub data_hash: String,
    /// Samples that the report is based on.
    #[serde(skip)]
    pub provenance: Provenance,
    /// Notes to read first, such as on simulated data or provisional figures.
    pub notes: Vec<Note>,
    /// Headers of chapters about some of the monitors, by id of the chapter, for separate
    /// pages.
    #[serde(skip)]
    pub chapters: BTreeMap<String, Head>,
    /// House style.
    pub theme: Theme,
    /// Name of the custom layouts; `None` for the built-in ones.
    #[serde(skip)]
    pub layout: Option<String>,
    /// Fixed labels of the page, in the report's language.
    pub words: Words,
    /// Content, in reading order.
    #[serde(skip)]
    pub blocks: Vec<Block>,
}

/// Header of a page about some of the monitors.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Monitors in words.
    pub scope: String,
    /// Notes on these monitors.
    pub notes: Vec<Note>,
}

/// House style.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Theme {
    /// Company name, shown in the header; may be empty.
    pub company: String,
    /// Text at the top of every page; may be empty.
    pub header: String,
    /// Text of the footer; may be empty.
    pub footer: String,
    /// Paper size: `a4` or `us-letter`.
    pub paper: &'static str,
    /// Accent colour on white, `#rrggbb`.
    pub accent: String,
    /// Colours of the page by name: `accent`, `ink`, `grey`, `hair`, `ground`, `tint`, `good`,
    /// `late`, `failed`.
    pub colours: BTreeMap<&'static str, Colour>,
    /// A logo, if any.
    pub logo: Option<Picture>,
    /// Logo for dark pages, if it differs.
    pub logo_dark: Option<Picture>,
    /// Whether a configured logo could not be read.
    pub logo_missing: bool,
    /// Family name of the custom fonts; empty if there are none.
    pub font: String,
    /// Custom fonts.
    pub faces: Vec<Face>,
    /// Colours of the charts.
    #[serde(skip)]
    pub palette: Palette,
}

impl Theme {
    /// Returns a chart in the colours and the font of the theme.
    pub fn drawing<'a>(&self, svg: &'a str) -> Cow<'a, str> {
        let svg = self.palette.recolour(svg);
        if self.font.is_empty() {
            return svg;
        }
        // The family name becomes part of an attribute, so characters that could end it are
        // removed.
        let family: String = self.font.chars().filter(|c| !"\"'<>&,".contains(*c)).collect();
        Cow::Owned(svg.replace("font-family=\"Inter", &format!("font-family=\"'{family}', Inter")))
    }
}

/// A colour, `#rrggbb`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Colour {
    /// Colour on white.
    pub light: String,
    /// Colour on dark pages.
    pub dark: String,
}

/// A custom font.
#[derive(Debug, Clone, Serialize)]
pub struct Face {
    /// Family name.
    pub family: String,
    /// Weight, 100 to 900.
    pub weight: u16,
    /// Whether the font is italic.
    pub italic: bool,
    /// Media type: `font/ttf` or `font/otf`.
    pub media_type: &'static str,
    /// Content of the file.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// Fixed labels of the page, in the report's language.
#[derive(Debug, Clone, Serialize)]
pub struct Words {
    /// Heading of the table of contents.
    pub contents: &'static str,
    /// Between page number and page count: `of`.
    pub of: &'static str,
    /// Before the page number: `Page`.
    pub page: &'static str,
    /// Note below a shortened table of a mail: `{0} more in the full report`.
    pub more: &'static str,
    /// Title of the note that a file omits chapters.
    pub shortened: &'static str,
    /// Text of that note: `This file omits the chapters of {0} individual monitors. …`.
    pub left_out: &'static str,
    /// Label of a chart's data table.
    pub data: &'static str,
    /// Label before the time of the report.
    pub made: &'static str,
    /// Label before the hash of the data.
    pub data_hash: &'static str,
    /// Label before the name of the time zone: `Times in`.
    pub times_in: &'static str,
    /// The same label within a line: `times in`.
    pub times_inline: &'static str,
    /// Displayed for missing values.
    pub dash: &'static str,
    /// Kind of document: `Report`.
    pub report: &'static str,
    /// Label before the headline in a list.
    pub finding: &'static str,
    /// Label before the period.
    pub period: &'static str,
    /// Label before the number of monitors.
    pub scope: &'static str,
    /// Header of a column of chapters.
    pub chapter: &'static str,
    /// Heading of the key figures.
    pub key_figures: &'static str,
    /// Header of a column of names of figures.
    pub figure: &'static str,
    /// Header of a column of values.
    pub value: &'static str,
    /// Header of a column of units.
    pub unit: &'static str,
    /// Header of a column of details.
    pub detail: &'static str,
    /// Header of a column of changes.
    pub change: &'static str,
}

/// A block of a document.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Block {
    /// A heading, which stays with the following block.
    Heading {
        /// Level: 1 for a chapter, 2 for a section, 3 below.
        level: u8,
        /// Text of the heading.
        text: String,
        /// Id, unique in the document: letters, digits and hyphens.
        id: String,
    },
    /// A paragraph.
    Paragraph {
        /// Runs of text.
        spans: Vec<Span>,
    },
    /// A list.
    List {
        /// Whether the list is numbered instead of bulleted.
        ordered: bool,
        /// Items of the list.
        items: Vec<Vec<Span>>,
    },
    /// Findings, each a sentence with an optional small chart.
    Findings {
        /// The findings.
        findings: Vec<Finding>,
    },
    /// Three to six large figures.
    KeyFigures {
        /// The figures.
        figures: Vec<KeyFigure>,
    },
    /// A table.
    Table(Table),
    /// A chart.
    Chart(ChartBlock),
    /// A highlighted note.
    Note(Note),
    /// A transcript of the conversations between a test and the servers.
    Transcript(Transcript),
    /// An image.
    Image {
        /// The image.
        picture: Picture,
        /// Caption; may be empty.
        caption: String,
    },
    /// Columns of blocks side by side.
    Columns {
        /// Blocks of each column.
        columns: Vec<Vec<Block>>,
    },
    /// Blocks that stay on one page if they fit.
    Group {
        /// The blocks.
        blocks: Vec<Block>,
    },
    /// A page break.
    PageBreak,
}

/// A run of text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The text.
    pub text: String,
    /// Whether the text is strongly emphasised.
    pub strong: bool,
    /// Whether the text is emphasised.
    pub emphasis: bool,
    /// Whether the text is code.
    pub code: bool,
    /// Link target: `https:`, `http:`, `mailto:` or `#id`.
    pub link: Option<String>,
}

/// A finding.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Text of the finding.
    pub spans: Vec<Span>,
    /// A word-sized chart, explained by its subtitle.
    pub chart: Option<ChartBlock>,
}

/// A key figure.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KeyFigure {
    /// Name of the figure.
    pub label: String,
    /// Its name in `mailqos-analytics stats --explain`; empty if it has none.
    #[serde(skip)]
    pub figure: &'static str,
    /// Address of an explanation, which the label links to; usually empty.
    pub href: String,
    /// Value with its unit, or a dash.
    pub value: String,
    /// Change from the previous period, in words; may be empty.
    pub change: String,
    /// Whether the change is an improvement.
    pub trend: Status,
    /// Explanation below the value; may be empty.
    pub detail: String,
    /// Assessment of the figure.
    pub status: Status,
    /// Exact value, if it is a number.
    pub exact: Option<f64>,
    /// Unit of the exact value.
    pub unit: &'static str,
}

/// An assessment. Media show it by a sign or a word besides the colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No assessment.
    #[default]
    Neutral,
    /// Good.
    Good,
    /// Needs attention.
    Warn,
    /// Bad.
    Bad,
    /// Unknown.
    Unknown,
}

/// A transcript of the conversations between a test and the servers.
#[derive(Debug, Clone, Serialize)]
pub struct Transcript {
    /// Id, unique in the document.
    pub id: String,
    /// Monitor and time of the test.
    pub title: String,
    /// Outcome of the test.
    pub subtitle: String,
    /// Connections, in the order in which they started.
    pub conversations: Vec<Conversation>,
    /// Where to find the full transcript; may be empty.
    pub note: String,
}

/// A connection of a test.
#[derive(Debug, Clone, Serialize)]
pub struct Conversation {
    /// Protocol and start of the connection.
    pub title: String,
    /// Lines of the conversation.
    pub lines: Vec<Line>,
}

/// A line of a conversation.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Seconds since the start of the conversation; empty for the note on omitted lines.
    pub at: String,
    /// Sender: `probe`, `server`, or empty for a note.
    pub by: &'static str,
    /// The text.
    pub text: String,
}

/// A table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// Id, unique in the document, also used for its sheet or file.
    pub id: String,
    /// Title; may be empty.
    pub title: String,
    /// Explanation below the title; may be empty.
    pub subtitle: String,
    /// Columns of the table.
    pub columns: Vec<Column>,
    /// Rows, each with as many cells as there are columns.
    pub rows: Vec<Row>,
    /// Note below the table; may be empty.
    pub note: String,
}

/// A column of a table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Column {
    /// Header of the column.
    pub head: String,
    /// Unit of all values, shown with the header; may be empty.
    pub unit: String,
    /// Alignment of the cells.
    pub align: Align,
    /// Unit of the exact values, if it differs from the displayed one.
    pub exact: &'static str,
    /// Relative width compared with the other columns; 0 if the content decides.
    pub width: u8,
}

/// Alignment of cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// Left, for text.
    #[default]
    Left,
    /// Right, for numbers with equal decimals.
    Right,
}

/// A row of a table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Cells of the row.
    pub cells: Vec<Cell>,
    /// Whether the row is emphasised, such as a total.
    pub strong: bool,
}

/// A cell of a table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cell {
    /// Displayed text; a dash for a missing value.
    pub text: String,
    /// Smaller text after it, such as a confidence interval; may be empty.
    pub detail: String,
    /// Assessment.
    pub status: Status,
    /// Exact value in the column's unit, for spreadsheets and sorting.
    pub value: Option<f64>,
    /// Time, for spreadsheets and sorting.
    pub moment: Option<UtcMicros>,
}

/// A chart in a document.
#[derive(Debug, Clone, Serialize)]
pub struct ChartBlock {
    /// Id, unique in the document.
    pub id: String,
    /// The chart.
    #[serde(flatten)]
    pub chart: Chart,
}

/// A highlighted note.
#[derive(Debug, Clone, Serialize)]
pub struct Note {
    /// Urgency of the note.
    pub status: Status,
    /// One or two words in front.
    pub title: String,
    /// Text of the note.
    pub text: String,
}

/// An image.
#[derive(Debug, Clone, Serialize)]
pub struct Picture {
    /// File name with the extension of its type: png, jpg or svg.
    pub name: String,
    /// Media type: `image/png`, `image/jpeg` or `image/svg+xml`.
    pub media_type: &'static str,
    /// Content of the file.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Text alternative.
    pub alternative: String,
    /// Width as a percentage of the text width.
    pub width: u8,
}

impl Picture {
    /// Returns the file extension of the image type.
    pub fn extension(&self) -> &'static str {
        match self.media_type {
            "image/png" => "png",
            "image/jpeg" => "jpg",
            _ => "svg",
        }
    }
}

impl Span {
    /// Returns plain text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Returns strongly emphasised text.
    pub fn strong(text: impl Into<String>) -> Self {
        Self { text: text.into(), strong: true, ..Self::default() }
    }
}

impl Block {
    /// Returns the charts of the block itself, without those of nested blocks.
    pub fn charts(&self) -> Vec<&ChartBlock> {
        match self {
            Self::Chart(chart) => vec![chart],
            Self::Findings { findings } => {
                findings.iter().filter_map(|finding| finding.chart.as_ref()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns a paragraph of plain text.
    pub fn paragraph(text: impl Into<String>) -> Self {
        Self::Paragraph { spans: vec![Span::plain(text)] }
    }
}

impl Column {
    /// Returns a column of texts.
    pub fn text(head: impl Into<String>) -> Self {
        Self { head: head.into(), ..Self::default() }
    }

    /// Returns a column of texts with a relative width.
    pub fn wide(width: u8, head: impl Into<String>) -> Self {
        Self { width, ..Self::text(head) }
    }

    /// Returns a column of numbers in a unit, which may be empty.
    pub fn number(head: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { head: head.into(), unit: unit.into(), align: Align::Right, ..Self::default() }
    }

    /// Returns a column of values displayed with their units, whose exact values are in `unit`.
    pub fn measured(head: impl Into<String>, unit: &'static str) -> Self {
        Self { exact: unit, ..Self::number(head, "") }
    }
}

impl Cell {
    /// Returns a cell with a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Returns a cell with a number, as displayed and exact.
    pub fn number(text: impl Into<String>, value: Option<f64>) -> Self {
        Self { text: text.into(), value, ..Self::default() }
    }

    /// Returns a cell with a time, as displayed and exact.
    pub fn moment(text: impl Into<String>, moment: UtcMicros) -> Self {
        Self { moment: Some(moment), ..Self::text(text) }
    }

    /// Adds smaller text after the main text.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds an assessment.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }
}

/// Returns blocks and the blocks nested in columns and groups, in reading order.
pub fn walk(blocks: &[Block]) -> Vec<&Block> {
    fn visit<'a>(blocks: &'a [Block], all: &mut Vec<&'a Block>) {
        for block in blocks {
            all.push(block);
            match block {
                Block::Columns { columns } => columns.iter().for_each(|column| visit(column, all)),
                Block::Group { blocks } => visit(blocks, all),
                _ => {}
            }
        }
    }
    let mut all = Vec::new();
    visit(blocks, &mut all);
    all
}

impl Document {
    /// Returns the document with other content, without copying its present content.
    #[must_use]
    pub fn with_blocks(&self, blocks: Vec<Block>) -> Self {
        Self {
            title: self.title.clone(),
            headline: self.headline.clone(),
            lead: self.lead.clone(),
            period: self.period.clone(),
            from: self.from,
            to: self.to,
            zone: self.zone.clone(),
            scope: self.scope.clone(),
            language: self.language.clone(),
            made: self.made.clone(),
            made_at: self.made_at,
            producer: self.producer.clone(),
            data_hash: self.data_hash.clone(),
            provenance: self.provenance.clone(),
            notes: self.notes.clone(),
            chapters: self.chapters.clone(),
            theme: self.theme.clone(),
            layout: self.layout.clone(),
            words: self.words.clone(),
            blocks,
        }
    }

    /// Returns the blocks before the first page break.
    pub fn first_page(&self) -> &[Block] {
        let end = self.blocks.iter().position(|block| matches!(block, Block::PageBreak));
        &self.blocks[..end.unwrap_or(self.blocks.len())]
    }

    /// Returns all blocks, including nested ones, in reading order.
    pub fn walk(&self) -> Vec<&Block> {
        walk(&self.blocks)
    }

    /// Returns the charts in reading order.
    pub fn charts(&self) -> impl Iterator<Item = &ChartBlock> {
        self.walk().into_iter().flat_map(Block::charts)
    }

    /// Returns the tables in reading order.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.walk().into_iter().filter_map(|block| match block {
            Block::Table(table) => Some(table),
            _ => None,
        })
    }
}
