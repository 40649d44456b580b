//! Problems of a file, collected with message, location (file, line, excerpt) and remedy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    path::PathBuf,
    sync::Arc,
};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};

/// Maximum number of problems of the same line that are shown individually.
const FEW: usize = 3;

/// A file and its text.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Path of the file.
    pub path: PathBuf,
    /// Content of the file.
    pub text: String,
}

impl Source {
    /// Returns the line and column, from 1, of a byte offset in the text.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

/// Severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The setting works, but probably not as intended.
    Warning,
    /// The setting is invalid.
    Error,
}

/// A problem of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Severity of the problem.
    pub severity: Severity,
    /// Description of the problem.
    pub message: String,
    /// Location: the file, the byte range in it, and the label of the excerpt.
    pub place: Option<(Arc<Source>, Range<usize>, String)>,
    /// Remedy, if there is one.
    pub help: Option<String>,
    /// Name of the key that it is about, if it is about one.
    pub key: Option<&'static str>,
}

impl Problem {
    /// Creates an error without a location.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            place: None,
            help: None,
            key: None,
        }
    }

    /// Creates a warning without a location.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Adds the location; `label` is displayed below the marked text.
    #[must_use]
    pub fn at(
        mut self,
        source: &Arc<Source>,
        span: Range<usize>,
        label: impl Into<String>,
    ) -> Self {
        self.place = Some((Arc::clone(source), span, label.into()));
        self
    }

    /// Adds the key that it is about.
    #[must_use]
    pub fn about(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds the remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((source, span, _)) = &self.place {
            let (line, column) = source.line_column(span.start);
            write!(f, "{}:{line}:{column}: {}", source.path.display(), self.message)
        } else {
            f.write_str(&self.message)
        }
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Warning => miette::Severity::Warning,
            Severity::Error => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|_| self as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, span, label) = self.place.as_ref()?;
        Some(Box::new(std::iter::once(LabeledSpan::new(
            Some(label.clone()),
            span.start,
            span.len(),
        ))))
    }
}

impl SourceCode for Problem {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let Some((source, ..)) = &self.place else {
            return Err(miette::MietteError::OutOfBounds);
        };
        let contents = source.text.read_span(span, before, after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            source.path.display().to_string(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}

/// All problems of a file, without duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    found: Vec<Problem>,
    /// Entries that exist but failed to parse (kind and name), so that references to them are not
    /// also reported as missing.
    broken: BTreeSet<(&'static str, String)>,
}

impl Problems {
    /// Adds a problem unless it is already contained.
    pub fn push(&mut self, problem: Problem) {
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }

    /// Adds the problems of another collection.
    pub fn append(&mut self, others: Self) {
        others.found.into_iter().for_each(|problem| self.push(problem));
        self.broken.extend(others.broken);
    }

    /// Records that an entry exists but is invalid, so that references to it are not reported as
    /// missing.
    pub(super) fn note_broken(&mut self, kind: &'static str, name: &str) {
        self.broken.insert((kind, name.to_owned()));
    }

    /// Returns the names of invalid entries of this kind.
    pub(super) fn broken<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.broken
            .iter()
            .filter_map(move |(other, name)| (*other == kind).then_some(name.as_str()))
    }

    /// Sorts the problems by file, then by line.
    pub fn sort(&mut self) {
        self.found.sort_by(|a, b| {
            let key = |problem: &Problem| {
                problem.place.as_ref().map(|(source, span, _)| (source.path.clone(), span.start))
            };
            key(a).cmp(&key(b))
        });
    }

    /// Iterates over all problems in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.found.iter()
    }

    /// Returns whether there are no problems at all.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns the number of problems of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.found.iter().filter(|problem| problem.severity == severity).count()
    }

    /// Keeps only the errors, so that warnings don't obscure them.
    #[must_use]
    pub fn errors(mut self) -> Self {
        self.found.retain(|problem| problem.severity == Severity::Error);
        self
    }

    /// Returns whether there are any errors.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Renders all problems for a terminal, each with an excerpt of its line, optionally coloured.
    /// If ten thousand monitors inherit a problem from one line of the defaults, the first is shown
    /// and the others are counted.
    pub fn render(&self, colour: bool) -> String {
        let theme =
            if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(110);
        let mut text = String::new();
        let mut alike: BTreeMap<_, usize> = BTreeMap::new();
        let kind = |problem: &Problem| {
            let place = problem.place.as_ref();
            let place =
                place.map(|(source, span, label)| (source.path.clone(), span.start, label.clone()));
            (problem.severity, place, problem.help.clone())
        };
        for problem in self.found.iter().filter(|problem| problem.place.is_some()) {
            *alike.entry(kind(problem)).or_default() += 1;
        }
        for problem in &self.found {
            let others = match alike.get_mut(&kind(problem)) {
                Some(0) => continue,
                Some(count) if *count > FEW => std::mem::take(count) - 1,
                _ => 0,
            };
            if handler.render_report(&mut text, problem).is_err() {
                text.push_str(&problem.to_string());
            }
            if others > 0 {
                text.push_str(&format!("  … and {others} more like this, from the same line\n"));
            }
            text.push('\n');
        }
        text
    }
}

/// One problem per line, `file:line:column: message`, each with its remedy.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.found {
            writeln!(f, "{problem}")?;
            if let Some(help) = &problem.help {
                writeln!(f, "    {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_inherited_from_one_line_are_shown_once() {
        let source = Arc::new(Source {
            path: "mailqos.toml".into(),
            text: "max_round_trip = \"10s\"\n".to_owned(),
        });
        let mut problems = Problems::default();
        for monitor in 0..10_000 {
            let problem = Problem::warning(format!("too long for m{monitor}"));
            problems.push(problem.at(&source, 17..22, "longer").help("shorten it"));
        }
        problems.push(Problem::warning("something else").at(&source, 0..14, "here"));
        let text = problems.render(false);
        assert_eq!(text.matches("too long").count(), 1, "{text}");
        assert!(
            text.contains("and 9999 more like this") && text.contains("something else"),
            "{text}"
        );
    }
}
