//! A document made ready for the partials of a medium: the values that partials and layouts see, and the files beside them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{MediaError, Medium, Partials, guard, own_partials, pdf};
use crate::report::document::{Block, ChartBlock, Document, Picture};

/// Makes of a chart's drawing (SVG) what its `picture` is.
type Draw = fn(&str) -> Result<String, MediaError>;

/// How a medium shows pictures and charts.
pub(super) struct Showing {
    /// What a picture's `source` is, such as a data URI.
    pub(super) source: fn(&Picture) -> Result<String, MediaError>,
    /// What a chart's `picture` is, where the medium shows no drawings.
    pub(super) drawn: Option<Draw>,
    /// Whether charts keep their drawing (`svg`) and the table of what is drawn (`data`).
    pub(super) drawings: bool,
    /// Whether charts and pictures are files beside the markup, named by `file`.
    pub(super) files: bool,
}

/// All that a page is made from: it can be sent to another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Work {
    /// The medium's name.
    pub(super) medium: String,
    /// The folder of the user's templates.
    pub(super) own: Option<PathBuf>,
    /// The name of an own layout.
    pub(super) layout: Option<String>,
    /// What partials and layouts see.
    pub(super) document: Value,
    /// Charts, pictures and fonts beside the markup, in base64.
    pub(super) files: BTreeMap<String, String>,
}

impl Work {
    /// Makes a document ready.
    ///
    /// # Errors
    /// A picture can't be drawn.
    pub(super) fn new(
        medium: &Medium,
        showing: &Showing,
        document: &Document,
        own: Option<&Path>,
    ) -> Result<Self, MediaError> {
        let mut files = BTreeMap::new();
        let mut value = plain(document)?;
        if let Some(blocks) = value.get_mut("blocks").and_then(Value::as_array_mut) {
            let mut shown = 0;
            adorn(showing, document, &document.blocks, blocks, &mut shown, &mut files)?;
        }
        let theme = &document.theme;
        let headings = document.walk().into_iter().filter_map(|block| match block {
            Block::Heading { level, text, id } => Some(json!({"level": level, "text": text, "id": id})),
            _ => None,
        });
        if let Some(root) = value.as_object_mut() {
            root.insert("headings".into(), headings.collect());
            root.insert("chart_rules".into(), theme.palette.dark_rules("figure").into());
            root.insert("provenance_json".into(), document.provenance.json().into());
            let mut logo = |key: &str, file: &str, picture: &Option<Picture>| -> Result<(), MediaError> {
                let source = match picture {
                    Some(picture) if showing.files => {
                        let name = format!("{file}.{}", picture.extension());
                        files.insert(name.clone(), STANDARD.encode(&picture.bytes));
                        name
                    }
                    Some(picture) => (showing.source)(picture)?,
                    None => String::new(),
                };
                root.insert(key.into(), source.into());
                Ok(())
            };
            logo("logo", "logo", &theme.logo)?;
            logo("logo_dark", "logo-dark", &theme.logo_dark)?;
        }
        for (number, face) in theme.faces.iter().enumerate() {
            if showing.files {
                files.insert(format!("font-{number}"), STANDARD.encode(&face.bytes));
            } else if let Some(value) = value.pointer_mut(&format!("/theme/faces/{number}")) {
                value["source"] = super::data_uri(face.media_type, &face.bytes).into();
            }
        }
        Ok(Self {
            medium: medium.name.to_owned(),
            own: own.map(Path::to_owned),
            layout: document.layout.clone(),
            document: value,
            files,
        })
    }

    /// The page: by a process with limits where anything of it is a user's own.
    ///
    /// # Errors
    /// A user's partial or layout is wrong, or used more than it may.
    pub(super) fn done(&self, medium: &'static Medium) -> Result<Vec<u8>, MediaError> {
        if guard::can_guard() && !own_partials(medium, self.own.as_deref())?.is_empty() {
            guard::run(self)
        } else {
            self.set(medium)
        }
    }

    /// The page, made here.
    ///
    /// # Errors
    /// A user's partial or layout is wrong.
    pub(super) fn set(&self, medium: &'static Medium) -> Result<Vec<u8>, MediaError> {
        let partials = Partials::new(medium, self.own.as_deref())?;
        let markup = partials.page(medium, self.layout.as_deref(), &self.document)?;
        if medium.name == pdf::MEDIUM.name {
            let mut files = BTreeMap::new();
            for (name, text) in &self.files {
                let bytes = STANDARD.decode(text);
                files.insert(
                    name.clone(),
                    bytes.map_err(|error| MediaError::Setting(error.to_string()))?,
                );
            }
            let text = |key: &str| self.document.get(key).and_then(Value::as_str).unwrap_or_default();
            files.insert(
                "provenance.json".to_owned(),
                text("provenance_json").as_bytes().to_vec(),
            );
            let made_at = self.document.get("made_at").and_then(Value::as_i64).unwrap_or_default();
            return pdf::compile(markup, files, text("producer"), made_at);
        }
        Ok(markup.into_bytes())
    }
}

/// The document as values, without the drawings.
fn plain(document: &Document) -> Result<Value, MediaError> {
    serde_json::to_value(document).map_err(|error| MediaError::Data(error.to_string()))
}

/// Adds to each chart and picture how it is shown.
fn adorn(
    showing: &Showing,
    document: &Document,
    blocks: &[Block],
    values: &mut [Value],
    shown: &mut usize,
    files: &mut BTreeMap<String, String>,
) -> Result<(), MediaError> {
    for (block, value) in blocks.iter().zip(values) {
        let Some(fields) = value.as_object_mut() else { continue };
        let list = |fields: &mut Map<String, Value>, key: &str| {
            fields
                .get_mut(key)
                .and_then(Value::as_array_mut)
                .map(std::mem::take)
                .unwrap_or_default()
        };
        match block {
            Block::Columns { columns } => {
                let mut inner = list(fields, "columns");
                for (blocks, value) in columns.iter().zip(&mut inner) {
                    if let Some(values) = value.as_array_mut() {
                        adorn(showing, document, blocks, values, shown, files)?;
                    }
                }
                fields.insert("columns".into(), inner.into());
            }
            Block::Group { blocks } => {
                let mut inner = list(fields, "blocks");
                adorn(showing, document, blocks, &mut inner, shown, files)?;
                fields.insert("blocks".into(), inner.into());
            }
            Block::Chart(chart) => adorn_chart(showing, document, chart, fields, shown, files)?,
            Block::Findings { findings } => {
                let mut inner = list(fields, "findings");
                for (finding, value) in findings.iter().zip(&mut inner) {
                    let fields = value.get_mut("chart").and_then(Value::as_object_mut);
                    if let (Some(chart), Some(fields)) = (&finding.chart, fields) {
                        adorn_chart(showing, document, chart, fields, shown, files)?;
                    }
                }
                fields.insert("findings".into(), inner.into());
            }
            Block::Image { picture, .. } => {
                *shown += 1;
                if showing.files {
                    let name = format!("{shown}.{}", picture.extension());
                    files.insert(name.clone(), STANDARD.encode(&picture.bytes));
                    fields.insert("file".into(), name.into());
                } else {
                    fields.insert("source".into(), (showing.source)(picture)?.into());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn adorn_chart(
    showing: &Showing,
    document: &Document,
    chart: &ChartBlock,
    fields: &mut Map<String, Value>,
    shown: &mut usize,
    files: &mut BTreeMap<String, String>,
) -> Result<(), MediaError> {
    *shown += 1;
    let svg = document.theme.drawing(&chart.chart.svg);
    fields.remove("svg");
    if !showing.drawings {
        fields.remove("data");
    }
    if let Some(drawn) = showing.drawn {
        fields.insert("picture".into(), drawn(&svg)?.into());
    }
    if showing.files {
        let name = format!("{shown}.svg");
        let set = svg.replacen("Inter,", &format!("'{}', Inter,", pdf::DRAWN), 1);
        files.insert(name.clone(), STANDARD.encode(set.as_bytes()));
        fields.insert("file".into(), name.into());
    }
    if showing.drawings {
        fields.insert("svg".into(), svg.into_owned().into());
    }
    Ok(())
}
