//! The same sections for each monitor, so that eyes learn the page.

use mailqos_core::config::{Problems, Table};

use super::{Placed, Section, View, read_all};
use crate::report::document::Block;

#[derive(Debug)]
struct PerMonitor {
    sections: Vec<Placed>,
    new_page: bool,
}

pub(super) fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let new_page = table.get("new_page", problems).unwrap_or(true);
    let sections = read_all(table, "section", problems);
    if sections.is_empty() {
        problems.push(table.missing("section", "are the sections for each monitor, as [[section.section]]"));
        return None;
    }
    Some(Box::new(PerMonitor { sections, new_page }))
}

impl Section for PerMonitor {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let mut blocks = Vec::new();
        for monitor in &view.monitors {
            if self.new_page {
                blocks.push(Block::PageBreak);
            }
            blocks.push(Block::Heading {
                level: 1,
                text: monitor.name.clone(),
                id: view.ids.unique(&format!("monitor-{}-{}", monitor.site, monitor.id)),
            });
            let one = View {
                monitors: vec![*monitor],
                ..view.clone()
            };
            for placed in &self.sections {
                blocks.extend(placed.section.blocks(&one));
            }
        }
        blocks
    }
}
