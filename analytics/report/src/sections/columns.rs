//! Columns of sections side by side.

use mailqos_config::{
    Problems, Table, keys,
    reference::{Key, Shape},
};

use super::{Kind, SECTIONS, Section, View, read_within};
use crate::{digest::Needs, document::Block};

/// Maximum number of columns.
const MAX: usize = 3;

#[derive(Debug)]
struct Columns {
    columns: Vec<Vec<Box<dyn Section>>>,
}

keys! {
    COLUMNS: ColumnsKeys {
        /// The columns, two or three, as `[[section.column]]`.
        column: Key = Key::tables(&["column"]).required();
    }
}

keys! {
    COLUMN: ColumnKeys {
        /// The sections of the column, which cannot set monitors, sites or a period.
        section: Key = Key::tables(SECTIONS);
    }
}

/// The table of a column.
pub(super) const COLUMN_SHAPE: Shape = Shape {
    id: "column",
    head: "[[section.column]]",
    about: "A column.",
    keys: &[ColumnKeys::KEYS],
};

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("Sections side by side, in two or three columns.", ColumnsKeys::KEYS, read);

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let columns: Vec<Vec<Box<dyn Section>>> = table
        .tables(&COLUMNS.column, problems)
        .into_iter()
        .map(|mut column| {
            let sections = read_within(&mut column, &COLUMN.section, problems);
            column.finish(problems);
            sections
        })
        .collect();
    if !(2..=MAX).contains(&columns.len()) {
        problems.push(table.missing(
            &COLUMNS.column,
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
            // Columns can't contain page breaks.
            blocks.filter(|block| !matches!(block, Block::PageBreak)).collect()
        });
        vec![Block::Columns { columns: columns.collect() }]
    }

    fn needs(&self, needs: &mut Needs) {
        for section in self.columns.iter().flatten() {
            section.needs(needs);
        }
    }
}
