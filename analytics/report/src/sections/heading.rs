//! Custom heading.

use mailqos_config::{
    Problems, Table,
    key::{Defaulted, Required, key},
    keys,
};

use super::{Kind, Scope, Section, View};
use crate::document::Block;

#[derive(Debug)]
struct Heading {
    text: String,
    level: u8,
}

keys! {
    HEADING: HeadingKeys {
        /// The text of the heading.
        text: Required<String> = key();
        /// The level: 1 to 3.
        level: Defaulted<u16> = key().default("1");
    }
}

/// The kind of section.
pub(super) const KIND: Kind = Kind::new("A heading.", HeadingKeys::KEYS, read);

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let level = table.read(&HEADING.level, problems);
    let text = table.read(&HEADING.text, problems)?;
    Some(Box::new(Heading { text, level: level.clamp(1, 3) as u8 }))
}

impl Section for Heading {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        vec![Block::Heading {
            level: self.level,
            text: view.locale.text(&self.text),
            id: view.ids.unique(&self.text),
        }]
    }
}
