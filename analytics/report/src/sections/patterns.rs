//! Patterns in words: changes, dependence on day and hour, correlations, slow hops, and common
//! factors of failures.

use std::collections::BTreeSet;

use mailqos_config::{
    Problems, Table,
    key::{Defaulted, key},
    keys,
};
use mailqos_figures::{patterns::PatternFinding, significance::LEVEL};

use super::{
    Kind, Scope, Section, View,
    trends::{item, of_view},
};
use crate::{
    digest::{Need, Needs},
    document::Block,
    pattern_words,
};

#[derive(Debug)]
struct Patterns {
    limit: usize,
    changes: bool,
}

keys! {
    PATTERNS: PatternsKeys {
        /// The maximum number of patterns.
        limit: Defaulted<u32> = key().default("30");
        /// Include the lasting changes that `trends` lists.
        changes: Defaulted<bool> = key().default("true");
    }
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("Statistically significant patterns, in sentences.", PatternsKeys::KEYS, read);

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let limit = table.read(&PATTERNS.limit, problems);
    Some(Box::new(Patterns {
        limit: limit.max(1) as usize,
        changes: table.read(&PATTERNS.changes, problems),
    }))
}

impl Section for Patterns {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let mut found: Vec<&PatternFinding> =
            of_view(view).filter(|found| self.changes || !found.pattern.is_change()).collect();
        let questions = view.facts.patterns().first().map_or(0, |found| found.questions);
        if found.is_empty() {
            return vec![Block::paragraph(l.fill(
                "There are no significant patterns (significance level {0}).",
                &[&l.percent(LEVEL, 0)],
            ))];
        }
        let all = found.len();
        // The largest finding of each kind precedes the second of any kind.
        let mut kinds: BTreeSet<(&'static str, usize)> = BTreeSet::new();
        found.sort_by(|a, b| b.pattern.effect().total_cmp(&a.pattern.effect()));
        let mut placed: Vec<(usize, &PatternFinding)> = found
            .into_iter()
            .map(|found| {
                let kind = found.pattern.kind();
                let place = (0..).find(|place| kinds.insert((kind, *place))).unwrap_or(0);
                (place, found)
            })
            .collect();
        placed.sort_by_key(|(place, _)| *place);
        placed.truncate(self.limit);
        let several = view.monitors.len() > 1;
        let told = pattern_words::told(placed.into_iter().map(|(_, found)| found));
        let items = told.into_iter().map(|found| item(found, several, view)).collect();
        let mut note = l.fill(
            "{0} hypotheses were tested; p-values are Holm-corrected. Findings with p above {1} or a difference below 5 % are omitted.",
            &[&l.integer(questions as u64), &l.number(LEVEL, 2)],
        );
        if all > self.limit {
            note.push(' ');
            note.push_str(&l.fill(
                "The {0} clearest of {1} findings are listed.",
                &[&l.integer(self.limit as u64), &l.integer(all as u64)],
            ));
        }
        vec![Block::List { ordered: false, items }, Block::paragraph(note)]
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Patterns);
    }
}
