//! Image from a file; a note replaces a missing image.

use std::path::PathBuf;

use mailqos_config::{
    Problems, Table,
    key::{Defaulted, Required, key},
    keys,
};

use super::{Kind, Scope, Section, View};
use crate::document::{Block, Note, Picture, Status};

/// Maximum size of an image, in bytes.
const MAX_BYTES: u64 = 10 << 20;

#[derive(Debug)]
struct Image {
    file: PathBuf,
    alternative: String,
    caption: String,
    width: u8,
}

keys! {
    IMAGE: ImageKeys {
        /// A PNG, JPEG or SVG file.
        file: Required<PathBuf> = key();
        /// A description for readers who can't see the picture.
        alternative: Defaulted<String> = key().default("\"\"");
        /// The text below the picture.
        caption: Defaulted<String> = key().default("\"\"");
        /// The width as a percentage of the page's width.
        width: Defaulted<u16> = key().default("100");
    }
}

/// The kind of section.
pub(super) const KIND: Kind = Kind::new("A picture from a file.", ImageKeys::KEYS, read);

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let file = table.read(&IMAGE.file, problems);
    let alternative = table.read(&IMAGE.alternative, problems);
    let caption = table.read(&IMAGE.caption, problems);
    let width = table.read(&IMAGE.width, problems);
    Some(Box::new(Image { file: file?, alternative, caption, width: width.clamp(5, 100) as u8 }))
}

impl Section for Image {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        match picture(&self.file, &self.alternative, self.width) {
            Ok(picture) => vec![Block::Image { picture, caption: self.caption.clone() }],
            Err(error) => {
                tracing::warn!(%error, "image missing in the report");
                vec![Block::Note(Note {
                    status: Status::Warn,
                    title: view.locale.t("Image missing").to_owned(),
                    text: error,
                })]
            }
        }
    }
}

/// Reads an image; the error names the file and the reason.
pub(crate) fn picture(
    file: &std::path::Path,
    alternative: &str,
    width: u8,
) -> Result<Picture, String> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let media_type = match file.extension().map(|extension| extension.to_ascii_lowercase()) {
        Some(extension) if extension == "png" => "image/png",
        Some(extension) if extension == "jpg" || extension == "jpeg" => "image/jpeg",
        Some(extension) if extension == "svg" => "image/svg+xml",
        _ => return Err(format!("{}: neither PNG, JPEG nor SVG", file.display())),
    };
    let bytes = mailqos_base::files::read(file, MAX_BYTES)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Picture { name, media_type, bytes, alternative: alternative.to_owned(), width })
}
