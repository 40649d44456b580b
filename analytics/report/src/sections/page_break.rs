//! Page break.

use mailqos_config::{Problems, Table};

use super::{Kind, Scope, Section, View};
use crate::document::Block;

#[derive(Debug)]
struct PageBreak;

/// The kind of section.
pub(super) const KIND: Kind = Kind::new("Starts a new page.", &[], read);

fn read(_: &mut Table, _: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(PageBreak))
}

impl Section for PageBreak {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, _view: &View<'_>) -> Vec<Block> {
        vec![Block::PageBreak]
    }
}
