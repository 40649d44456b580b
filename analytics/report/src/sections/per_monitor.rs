//! The same sections for each monitor, so that readers learn the layout.

use mailqos_config::{
    Problems, Table,
    key::{Defaulted, key},
    keys,
    reference::Key,
};
use mailqos_lake_tables::parallel;

use super::{Ids, Kind, SECTIONS, Scope, Section, View, read_within};
use crate::{digest::Needs, document::Block, facts::Monitor};

#[derive(Debug)]
struct PerMonitor {
    sections: Vec<Box<dyn Section>>,
    new_page: bool,
    /// Minimum number of failed tests of an outage for a monitor to be shown.
    min_failed_tests: u64,
}

keys! {
    PER_MONITOR: PerMonitorKeys {
        /// The sections for each monitor, which cannot set monitors, sites or a period.
        section: Key = Key::tables(SECTIONS).required();
        /// Start each monitor on a new page.
        new_page: Defaulted<bool> = key().default("true");
        /// Only monitors with an outage of at least this number of failed tests.
        min_failed_tests: Defaulted<u32> = key().default("0");
    }
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("The same sections for each monitor.", PerMonitorKeys::KEYS, read);

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let new_page = table.read(&PER_MONITOR.new_page, problems);
    let min_failed_tests = table.read(&PER_MONITOR.min_failed_tests, problems);
    let sections = read_within(table, &PER_MONITOR.section, problems);
    if sections.is_empty() {
        problems.push(table.missing(
            &PER_MONITOR.section,
            "are the sections for each monitor, as [[section.section]]",
        ));
        return None;
    }
    Some(Box::new(PerMonitor { sections, new_page, min_failed_tests: min_failed_tests.into() }))
}

impl Section for PerMonitor {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let is_shown = |monitor: &&&Monitor| {
            let mut outages = monitor.timeline.outages.iter();
            self.min_failed_tests == 0
                || outages.any(|outage| outage.failed_tests >= self.min_failed_tests)
        };
        let shown: Vec<(&Monitor, String)> = view
            .monitors
            .iter()
            .filter(is_shown)
            .map(|monitor| (*monitor, view.ids.chapter(monitor)))
            .collect();
        let pages = parallel::map(&shown, |(monitor, id)| {
            let mut blocks = Vec::new();
            if self.new_page {
                blocks.push(Block::PageBreak);
            }
            blocks.push(Block::Heading { level: 1, text: monitor.name.clone(), id: id.clone() });
            let one = View { monitors: vec![*monitor], ids: &Ids::below(id), ..view.clone() };
            for section in &self.sections {
                blocks.extend(super::blocks(&**section, &one));
            }
            blocks
        });
        pages.into_iter().flatten().collect()
    }

    fn needs(&self, needs: &mut Needs) {
        for section in &self.sections {
            section.needs(needs);
        }
    }
}
