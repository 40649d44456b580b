//! What mattered, in sentences.

use mailqos_core::config::{Problems, Table};

use super::{Section, View};
use crate::report::{
    document::{Block, Span},
    findings,
};

#[derive(Debug)]
struct Summary;

pub(super) fn read(_table: &mut Table, _problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Summary))
}

impl Section for Summary {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let items: Vec<Vec<Span>> = findings::sentences(&view.monitors, view.locale)
            .into_iter()
            .map(|sentence| vec![Span::plain(sentence)])
            .collect();
        if items.is_empty() {
            return Vec::new();
        }
        vec![Block::List { ordered: false, items }]
    }
}
