//! Free text in Markdown: paragraphs, headings, lists, emphasis, code and links. HTML is shown as
//! text.

use mailqos_config::{
    Problems, Table,
    key::{Required, key},
    keys,
};
use pulldown_cmark::{Event, HeadingLevel, Parser, Tag, TagEnd};

use super::{Ids, Kind, Scope, Section, View};
use crate::document::{Block, Span};

#[derive(Debug)]
struct Text {
    markdown: String,
}

keys! {
    TEXT: TextKeys {
        /// The text, in Markdown.
        markdown: Required<String> = key();
    }
}

/// The kind of section.
pub(super) const KIND: Kind = Kind::new("Text.", TextKeys::KEYS, read);

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let markdown = table.read(&TEXT.markdown, problems)?;
    Some(Box::new(Text { markdown }))
}

impl Section for Text {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        blocks(&self.markdown, view.ids)
    }
}

/// Converts Markdown to blocks.
fn blocks(markdown: &str, ids: &Ids) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut spans: Vec<Span> = Vec::new();
    let mut style = Span::default();
    let mut heading = None;
    let mut list: Option<(bool, Vec<Vec<Span>>)> = None;
    let mut depth = 0_u32;
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                heading = Some(match level {
                    HeadingLevel::H1 => 1,
                    HeadingLevel::H2 => 2,
                    _ => 3,
                });
            }
            Event::End(TagEnd::Heading(_)) => {
                let text: String =
                    std::mem::take(&mut spans).into_iter().map(|span| span.text).collect();
                blocks.push(Block::Heading {
                    level: heading.take().unwrap_or(2),
                    id: ids.unique(&text),
                    text,
                });
            }
            Event::Start(Tag::List(first)) => {
                depth += 1;
                list.get_or_insert((first.is_some(), Vec::new()));
            }
            Event::End(TagEnd::List(_)) => {
                depth = depth.saturating_sub(1);
                if depth == 0
                    && let Some((ordered, items)) = list.take()
                {
                    blocks.push(Block::List { ordered, items });
                }
            }
            // Nested lists are flattened.
            Event::Start(Tag::Item) | Event::End(TagEnd::Item) => {
                if let Some((_, items)) = &mut list
                    && !spans.is_empty()
                {
                    items.push(std::mem::take(&mut spans));
                }
            }
            // Paragraphs of one item are joined.
            Event::Start(Tag::Paragraph | Tag::CodeBlock(_))
                if list.is_some() && !spans.is_empty() =>
            {
                spans.push(Span::plain(" "));
            }
            Event::End(TagEnd::Paragraph) if list.is_none() => {
                blocks.push(Block::Paragraph { spans: std::mem::take(&mut spans) });
            }
            Event::Start(Tag::Strong) => style.strong = true,
            Event::End(TagEnd::Strong) => style.strong = false,
            Event::Start(Tag::Emphasis) => style.emphasis = true,
            Event::End(TagEnd::Emphasis) => style.emphasis = false,
            Event::Start(Tag::Link { dest_url, .. }) => style.link = safe(&dest_url),
            Event::End(TagEnd::Link) => style.link = None,
            Event::Code(code) => {
                spans.push(Span { text: code.into_string(), code: true, ..style.clone() })
            }
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => {
                spans.push(Span { text: text.into_string(), ..style.clone() })
            }
            Event::SoftBreak | Event::HardBreak => spans.push(Span::plain(" ")),
            Event::End(TagEnd::CodeBlock | TagEnd::HtmlBlock) if list.is_none() => {
                blocks.push(Block::Paragraph { spans: std::mem::take(&mut spans) });
            }
            _ => {}
        }
    }
    if !spans.is_empty() {
        blocks.push(Block::Paragraph { spans });
    }
    blocks
}

/// Returns a link if its scheme is harmless.
fn safe(url: &str) -> Option<String> {
    ["https://", "http://", "mailto:", "#"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
        .then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markdown_becomes_blocks_and_html_stays_text() {
        let text = "# Why\n\nMail is **vital**, see [here](https://example.com) or [not](javascript:x).\n\n- one\n- *two*\n\n<script>alert(1)</script>";
        insta::assert_debug_snapshot!(blocks(text, &Ids::default()));
    }

    #[test]
    fn paragraphs_of_an_item_do_not_run_into_each_other() {
        let blocks = blocks("- one\n\n  two\n- three\n", &Ids::default());
        let [Block::List { items, .. }] = &blocks[..] else {
            panic!("{blocks:?}");
        };
        let text = |item: &[Span]| item.iter().map(|span| span.text.as_str()).collect::<String>();
        let items: Vec<String> = items.iter().map(|item| text(item)).collect();
        assert_eq!(items, ["one two", "three"]);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_link_runs_anything(text in "\\PC{0,200}") {
            for block in blocks(&text, &Ids::default()) {
                if let Block::Paragraph { spans } = block {
                    prop_assert!(spans.iter().all(|span| span.link.as_ref().is_none_or(|link| !link.starts_with("javascript"))));
                }
            }
        }
    }
}
