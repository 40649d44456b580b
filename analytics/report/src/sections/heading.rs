//! A heading of one's own.

use mailqos_config::{Problems, Table};

use super::{Scope, Section, View};
use crate::document::Block;

#[derive(Debug)]
struct Heading {
    text: String,
    level: u8,
}

pub(super) fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let level: u16 = table.get("level", problems).unwrap_or(1);
    let text = table.require("text", "is what the heading says", problems)?;
    Some(Box::new(Heading {
        text,
        level: level.clamp(1, 3) as u8,
    }))
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
