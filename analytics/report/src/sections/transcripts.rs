//! Transcripts of the first failed test of each outage, as far as this machine's probe has stored
//! them.

use mailqos_config::{
    Problems, Table as Toml,
    key::{Defaulted, key},
    keys,
};
use mailqos_figures::Outage;
use mailqos_lake::transcripts::{self, Store};
use mailqos_model::{Direction, Micros, UtcMicros};

use super::{Kind, Scope, Section, View};
use crate::{
    document::{Block, Conversation, Line, Transcript},
    facts::Monitor,
    findings,
    locale::Locale,
};

/// Number of lines shown from the start and from the end of a conversation; the end is the most
/// informative.
const FIRST: usize = 12;
const LAST: usize = 24;
/// Number of shown conversations of a test: the last ones, which contain the failure.
const CONVERSATIONS: usize = 3;

#[derive(Debug)]
struct Transcripts {
    limit: usize,
}

keys! {
    TRANSCRIPTS: TranscriptsKeys {
        /// The maximum number of transcripts.
        limit: Defaulted<u32> = key().default("5");
    }
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("The conversations of failed tests with the servers.", TranscriptsKeys::KEYS, read);

fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let limit = table.read(&TRANSCRIPTS.limit, problems);
    Some(Box::new(Transcripts { limit: limit.max(1) as usize }))
}

impl Section for Transcripts {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let Some(store) = &view.facts.transcripts else {
            return Vec::new();
        };
        let monitors = view.monitors.iter();
        let mut outages: Vec<(&Monitor, &Outage)> = monitors
            .flat_map(|monitor| monitor.timeline.outages.iter().map(|outage| (*monitor, outage)))
            .collect();
        // Transcripts of the longest outages, in chronological order; only those that are shown are
        // read.
        outages.sort_by_key(|(_, outage)| std::cmp::Reverse(outage.downtime));
        let mut kept: Vec<_> = outages
            .into_iter()
            .filter_map(|(monitor, outage)| {
                Some((monitor, outage, find(store, monitor, outage.from)?))
            })
            .take(self.limit)
            .collect();
        kept.sort_by_key(|(monitor, outage, _)| (outage.from, monitor.id.clone()));
        let mut blocks = Vec::new();
        if !kept.is_empty() {
            let text = view.locale.t("Transcripts");
            blocks.push(Block::Heading {
                level: 1,
                text: text.to_owned(),
                id: view.ids.unique(text),
            });
        }
        blocks.extend(kept.iter().map(|(monitor, outage, transcript)| {
            Block::Transcript(shown(view, monitor, outage, transcript))
        }));
        blocks
    }
}

/// Returns the transcript of a test, if this machine has one. The lake may contain names that are
/// not valid ids.
fn find(
    store: &Store,
    monitor: &Monitor,
    started_at: UtcMicros,
) -> Option<transcripts::Transcript> {
    let transcript = store.get(&monitor.id.parse().ok()?, started_at).ok()?;
    (transcript.site.to_string() == monitor.site).then_some(transcript)
}

fn shown(
    view: &View<'_>,
    monitor: &Monitor,
    outage: &Outage,
    kept: &transcripts::Transcript,
) -> Transcript {
    let l = view.locale;
    let more = kept.conversations.len().saturating_sub(CONVERSATIONS);
    Transcript {
        id: view.ids.unique("transcript"),
        title: format!("{}, {}", monitor.name, l.moment_in_period(outage.from)),
        subtitle: findings::cause(monitor, outage, l),
        conversations: kept
            .conversations
            .iter()
            .skip(more)
            .map(|conversation| conversation_of(conversation, l))
            .collect(),
        note: l.fill(
            "Full transcript with microsecond timestamps: mailqos-probe transcript {0} {1}",
            &[&monitor.id, &outage.from.to_string()],
        ),
    }
}

fn conversation_of(conversation: &transcripts::Conversation, l: &Locale) -> Conversation {
    let lines = conversation.lines();
    let left_out = lines.len().saturating_sub(FIRST + LAST);
    let mut shown = Vec::new();
    for (index, line) in lines.into_iter().enumerate() {
        if left_out > 1 && (FIRST..FIRST + left_out).contains(&index) {
            if index == FIRST {
                let text = l.fill("{0} lines omitted", &[&l.integer(left_out as u64)]);
                shown.push(Line { at: String::new(), by: "", text });
            }
            continue;
        }
        shown.push(Line {
            at: seconds(line.at),
            by: match line.direction {
                Direction::Sent => "probe",
                Direction::Received => "server",
                Direction::Note => "",
            },
            text: line.text,
        });
    }
    Conversation {
        title: l.fill(
            "{0}, started {1}; times in seconds from the start",
            &[&conversation.protocol, &l.moment(conversation.began_at)],
        ),
        lines: shown,
    }
}

/// Formats seconds with a decimal point in any language, as in all transcripts, so that they can be
/// compared.
fn seconds(at: Micros) -> String {
    format!("{:.3}", at.0 as f64 / 1e6)
}
