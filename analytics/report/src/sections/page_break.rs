//! A page break.

use mailqos_config::{Problems, Table};

use super::{Scope, Section, View};
use crate::document::Block;

#[derive(Debug)]
struct PageBreak;

pub(super) fn read(_table: &mut Table, _problems: &mut Problems) -> Option<Box<dyn Section>> {
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
