//! Sections side by side, each column with its own.

use mailqos_config::{Problems, Table};

use super::{Section, View, read_within};
use crate::{digest::Needs, document::Block};

/// No page has room for more.
const MOST: usize = 3;

#[derive(Debug)]
struct Columns {
    columns: Vec<Vec<Box<dyn Section>>>,
}

pub(super) fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let columns: Vec<Vec<Box<dyn Section>>> = table
        .tables("column", problems)
        .into_iter()
        .map(|mut column| {
            let sections = read_within(&mut column, "section", problems);
            column.finish(problems);
            sections
        })
        .collect();
    if !(2..=MOST).contains(&columns.len()) {
        problems.push(table.missing(
            "column",
            "are two or three columns, as [[section.column]], each with [[section.column.section]]",
        ));
        return None;
    }
    Some(Box::new(Columns { columns }))
}

impl Section for Columns {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let columns = self.columns.iter().map(|column| {
            let blocks = column.iter().flat_map(|section| super::blocks(&**section, view));
            // A page can't break within a column.
            blocks.filter(|block| !matches!(block, Block::PageBreak)).collect()
        });
        vec![Block::Columns {
            columns: columns.collect(),
        }]
    }

    fn needs(&self, needs: &mut Needs) {
        for section in self.columns.iter().flatten() {
            section.needs(needs);
        }
    }
}
