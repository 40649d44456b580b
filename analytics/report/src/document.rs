//! The document: neutral blocks that sections make and media show. It knows no HTML, no print, no figures.
//!
//! It serialises as it stands: that is the context of the templates of every medium. All texts are plain texts; each
//! medium escapes them in its own way.

use std::{borrow::Cow, collections::BTreeMap};

use mailqos_charts::{Chart, palette::Palette};
use mailqos_model::UtcMicros;
use serde::Serialize;

use super::provenance::Provenance;

/// A whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// What the report is called.
    pub title: String,
    /// The finding in one sentence with its figure; the first thing read.
    pub headline: String,
    /// What follows from it, or what else matters: a sentence or two. May be empty.
    pub lead: String,
    /// The period in the report's language, such as `October 2026`.
    pub period: String,
    /// The beginning of the period.
    pub from: UtcMicros,
    /// Its end, not part of it.
    pub to: UtcMicros,
    /// IANA name of the zone of all times.
    pub zone: String,
    /// Which monitors, in words: `4 monitors`.
    pub scope: String,
    /// Language tag, such as `en`.
    pub language: String,
    /// When the report was made, in the report's zone and language; a dash where it has no data. Comes from the data or a flag, so
    /// that it can be reproduced.
    pub made: String,
    /// The same moment.
    pub made_at: UtcMicros,
    /// Program and version.
    pub producer: String,
    /// Hash of the data that the report was made from.
    pub data_hash: String,
    /// Which samples those were.
    #[serde(skip)]
    pub provenance: Provenance,
    /// What a reader must know before anything else: simulated data, provisional figures.
    pub notes: Vec<Note>,
    /// What stands at the head of chapters about a part of the monitors, by their ids, where they have a page of their own.
    #[serde(skip)]
    pub chapters: BTreeMap<String, Head>,
    /// House style.
    pub theme: Theme,
    /// The name of the layouts that its pages are made with; the built-in ones where there is none.
    #[serde(skip)]
    pub layout: Option<String>,
    /// The fixed words of the page, in the report's language.
    pub words: Words,
    /// The content, in order.
    #[serde(skip)]
    pub blocks: Vec<Block>,
}

/// What stands at the head of a page about a part of the monitors.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Which monitors, in words.
    pub scope: String,
    /// What a reader of these must know before anything else.
    pub notes: Vec<Note>,
}

/// House style.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Theme {
    /// Name of the company, in the header; may be empty.
    pub company: String,
    /// Text at the head of every page; may be empty.
    pub header: String,
    /// Text of the footer; may be empty.
    pub footer: String,
    /// `a4` or `us-letter`.
    pub paper: &'static str,
    /// `#rrggbb` of what marks "this", on white.
    pub accent: String,
    /// The colours of the page by name: `accent`, `ink`, `grey`, `hair`, `ground`, `tint`, `good`, `late`, `failed`.
    pub colours: BTreeMap<&'static str, Colour>,
    /// A logo, if any.
    pub logo: Option<Picture>,
    /// The logo on a dark page, if it is another.
    pub logo_dark: Option<Picture>,
    /// A logo was named, but can't be had.
    pub logo_missing: bool,
    /// The family of the house's own fonts; empty where it has none.
    pub font: String,
    /// The house's own fonts.
    pub faces: Vec<Face>,
    /// The inks of the charts.
    #[serde(skip)]
    pub palette: Palette,
}

impl Theme {
    /// A chart in the house's colours and font.
    pub fn drawing<'a>(&self, svg: &'a str) -> Cow<'a, str> {
        let svg = self.palette.recolour(svg);
        if self.font.is_empty() {
            return svg;
        }
        // A family's name in an attribute: what could end it is left out.
        let family: String = self.font.chars().filter(|c| !"\"'<>&,".contains(*c)).collect();
        Cow::Owned(svg.replace("font-family=\"Inter", &format!("font-family=\"'{family}', Inter")))
    }
}

/// A colour, `#rrggbb`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Colour {
    /// On white.
    pub light: String,
    /// On a dark page.
    pub dark: String,
}

/// A font of the house's own.
#[derive(Debug, Clone, Serialize)]
pub struct Face {
    /// The name of its family.
    pub family: String,
    /// 100 to 900.
    pub weight: u16,
    /// Whether it is italic.
    pub italic: bool,
    /// `font/ttf` or `font/otf`.
    pub media_type: &'static str,
    /// The file.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// The fixed words of the page, in the report's language.
#[derive(Debug, Clone, Serialize)]
pub struct Words {
    /// Heading of the list of contents.
    pub contents: &'static str,
    /// Between page number and page count: `of`.
    pub of: &'static str,
    /// Before the page number: `Page`.
    pub page: &'static str,
    /// What is left out of a mail: `{0} more in the full report`.
    pub more: &'static str,
    /// Title of the note that a file omits chapters.
    pub shortened: &'static str,
    /// What it says: `The chapters of {0} single monitors are not in this file. …`.
    pub left_out: &'static str,
    /// Summary of the disclosure of a chart's data.
    pub data: &'static str,
    /// Before the moment at which the report was made.
    pub made: &'static str,
    /// Before the hash of the data.
    pub data_hash: &'static str,
    /// Before the zone's name: `Times in`.
    pub times_in: &'static str,
    /// The same within a line: `times in`.
    pub times_inline: &'static str,
    /// What stands for nothing.
    pub dash: &'static str,
    /// The kind of document: `Report`.
    pub report: &'static str,
    /// Before the headline, where it is in a list.
    pub finding: &'static str,
    /// Before the period.
    pub period: &'static str,
    /// Before the number of monitors.
    pub scope: &'static str,
    /// Head of a column of chapters.
    pub chapter: &'static str,
    /// Heading of the key figures.
    pub key_figures: &'static str,
    /// Head of a column of figures' names.
    pub figure: &'static str,
    /// Head of a column of values.
    pub value: &'static str,
    /// Head of a column of units.
    pub unit: &'static str,
    /// Head of a column of details.
    pub detail: &'static str,
    /// Head of a column of changes.
    pub change: &'static str,
}

/// A piece of a document.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Block {
    /// A heading; stays with what follows.
    Heading {
        /// 1 for a chapter, 2 for a section, 3 below.
        level: u8,
        /// Its text.
        text: String,
        /// Unique in the document: letters, digits, hyphens.
        id: String,
    },
    /// A paragraph.
    Paragraph {
        /// Its runs of text.
        spans: Vec<Span>,
    },
    /// A list.
    List {
        /// Numbered rather than with bullets.
        ordered: bool,
        /// The items.
        items: Vec<Vec<Span>>,
    },
    /// Findings, each a sentence with a small chart beside it.
    Findings {
        /// The findings.
        findings: Vec<Finding>,
    },
    /// Large figures, three to six.
    KeyFigures {
        /// The figures.
        figures: Vec<KeyFigure>,
    },
    /// A table.
    Table(Table),
    /// A chart.
    Chart(ChartBlock),
    /// A remark set apart.
    Note(Note),
    /// What a test and the servers said to each other.
    Transcript(Transcript),
    /// A picture.
    Image {
        /// The picture.
        picture: Picture,
        /// Text below it; may be empty.
        caption: String,
    },
    /// Blocks side by side.
    Columns {
        /// The columns' blocks.
        columns: Vec<Vec<Block>>,
    },
    /// Blocks that stay on one page if they fit.
    Group {
        /// The blocks.
        blocks: Vec<Block>,
    },
    /// What follows begins on a new page.
    PageBreak,
}

/// A run of text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The text.
    pub text: String,
    /// Set apart strongly.
    pub strong: bool,
    /// Set apart.
    pub emphasis: bool,
    /// As it is typed.
    pub code: bool,
    /// Where it leads: `https:`, `http:`, `mailto:` or `#id`.
    pub link: Option<String>,
}

/// A finding.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The sentence.
    pub spans: Vec<Span>,
    /// A chart as small as a word; its subtitle says what it shows.
    pub chart: Option<ChartBlock>,
}

/// A large figure.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KeyFigure {
    /// What it is.
    pub label: String,
    /// The figure with its unit, or a dash.
    pub value: String,
    /// Change against the period before, in words; may be empty.
    pub change: String,
    /// Whether the change is for the better.
    pub trend: Status,
    /// A word below: what it is made of; may be empty.
    pub detail: String,
    /// Whether the figure is good.
    pub status: Status,
    /// The exact value, where it is a number.
    pub exact: Option<f64>,
    /// The unit of the exact value.
    pub unit: &'static str,
}

/// A judgement; media show it by a sign or word besides the colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No judgement.
    #[default]
    Neutral,
    /// Good.
    Good,
    /// Deserves attention.
    Warn,
    /// Bad.
    Bad,
    /// Not known.
    Unknown,
}

/// What a test and the servers said to each other.
#[derive(Debug, Clone, Serialize)]
pub struct Transcript {
    /// Unique in the document.
    pub id: String,
    /// Which test.
    pub title: String,
    /// What became of it.
    pub subtitle: String,
    /// The connections, in the order of their beginnings.
    pub conversations: Vec<Conversation>,
    /// Where the whole is found; may be empty.
    pub note: String,
}

/// A connection of a test.
#[derive(Debug, Clone, Serialize)]
pub struct Conversation {
    /// Its protocol and when it began.
    pub title: String,
    /// What was said, line by line.
    pub lines: Vec<Line>,
}

/// A line that was said.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Seconds since the conversation began; empty where lines were left out.
    pub at: String,
    /// `probe`, `server`, or empty for a remark.
    pub by: &'static str,
    /// The text.
    pub text: String,
}

/// A table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// Unique in the document; also the name of its sheet or file.
    pub id: String,
    /// What it shows; may be empty.
    pub title: String,
    /// How to read it; may be empty.
    pub subtitle: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows; each has as many cells as there are columns.
    pub rows: Vec<Row>,
    /// A remark below; may be empty.
    pub note: String,
}

/// A column of a table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Column {
    /// Its head.
    pub head: String,
    /// The unit of all its values, shown with the head; may be empty.
    pub unit: String,
    /// How its cells are set.
    pub align: Align,
    /// The unit of its exact values, where it is not the one that is shown.
    pub exact: &'static str,
    /// How much of the width it takes, compared with the others; 0 leaves it to the content.
    pub width: u8,
}

/// How cells are set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// Text.
    #[default]
    Left,
    /// Numbers, all with the same number of decimals.
    Right,
}

/// A row of a table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// The cells.
    pub cells: Vec<Cell>,
    /// A sum or another row that stands out.
    pub strong: bool,
}

/// A cell of a table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cell {
    /// What is shown; a dash for nothing.
    pub text: String,
    /// Smaller text behind it, such as a confidence interval; may be empty.
    pub detail: String,
    /// The judgement, if any.
    pub status: Status,
    /// The exact value in the column's unit, for spreadsheets and sorting.
    pub value: Option<f64>,
    /// The moment, for spreadsheets and sorting.
    pub moment: Option<UtcMicros>,
}

/// A chart in a document.
#[derive(Debug, Clone, Serialize)]
pub struct ChartBlock {
    /// Unique in the document.
    pub id: String,
    /// The chart.
    #[serde(flatten)]
    pub chart: Chart,
}

/// A remark set apart.
#[derive(Debug, Clone, Serialize)]
pub struct Note {
    /// How urgent it is.
    pub status: Status,
    /// A word or two in front.
    pub title: String,
    /// The remark.
    pub text: String,
}

/// A picture.
#[derive(Debug, Clone, Serialize)]
pub struct Picture {
    /// File name with the extension of its type: png, jpg, svg.
    pub name: String,
    /// `image/png`, `image/jpeg` or `image/svg+xml`.
    pub media_type: &'static str,
    /// The file.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// What it shows, for those who can't see it.
    pub alternative: String,
    /// Share of the text's width, in per cent.
    pub width: u8,
}

impl Picture {
    /// The extension of its type.
    pub fn extension(&self) -> &'static str {
        match self.media_type {
            "image/png" => "png",
            "image/jpeg" => "jpg",
            _ => "svg",
        }
    }
}

impl Span {
    /// Plain text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// Text that stands out.
    pub fn strong(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            strong: true,
            ..Self::default()
        }
    }
}

impl Block {
    /// The charts that it shows itself, those of blocks within it left out.
    pub fn charts(&self) -> Vec<&ChartBlock> {
        match self {
            Self::Chart(chart) => vec![chart],
            Self::Findings { findings } => findings.iter().filter_map(|finding| finding.chart.as_ref()).collect(),
            _ => Vec::new(),
        }
    }

    /// A paragraph of plain text.
    pub fn paragraph(text: impl Into<String>) -> Self {
        Self::Paragraph {
            spans: vec![Span::plain(text)],
        }
    }
}

impl Column {
    /// A column of texts.
    pub fn text(head: impl Into<String>) -> Self {
        Self {
            head: head.into(),
            ..Self::default()
        }
    }

    /// A column of texts that takes so much of the width, compared with the others.
    pub fn wide(width: u8, head: impl Into<String>) -> Self {
        Self {
            width,
            ..Self::text(head)
        }
    }

    /// A column of numbers in a unit, which may be empty.
    pub fn number(head: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            head: head.into(),
            unit: unit.into(),
            align: Align::Right,
            ..Self::default()
        }
    }

    /// A column of spans of time in words, whose exact values are in a unit.
    pub fn measured(head: impl Into<String>, unit: &'static str) -> Self {
        Self {
            exact: unit,
            ..Self::number(head, "")
        }
    }
}

impl Cell {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// A number as it is shown, and exactly.
    pub fn number(text: impl Into<String>, value: Option<f64>) -> Self {
        Self {
            text: text.into(),
            value,
            ..Self::default()
        }
    }

    /// A moment as it is shown, and exactly.
    pub fn moment(text: impl Into<String>, moment: UtcMicros) -> Self {
        Self {
            moment: Some(moment),
            ..Self::text(text)
        }
    }

    /// With smaller text behind it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// With a judgement.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }
}

/// Some blocks with those within columns and groups, in reading order.
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
    /// The same document with other content; its present content is not copied.
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

    /// The blocks before the first page break.
    pub fn first_page(&self) -> &[Block] {
        let end = self.blocks.iter().position(|block| matches!(block, Block::PageBreak));
        &self.blocks[..end.unwrap_or(self.blocks.len())]
    }

    /// All blocks, those within columns and groups too, in reading order.
    pub fn walk(&self) -> Vec<&Block> {
        walk(&self.blocks)
    }

    /// The charts, in reading order.
    pub fn charts(&self) -> impl Iterator<Item = &ChartBlock> {
        self.walk().into_iter().flat_map(Block::charts)
    }

    /// The tables, in reading order.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.walk().into_iter().filter_map(|block| match block {
            Block::Table(table) => Some(table),
            _ => None,
        })
    }
}
