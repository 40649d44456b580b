//! Fills in message templates within limits, so that a template that loops or grows without end
//! can't prevent a notification.

pub mod process;

use std::{
    io::{self, Write},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use mailqos_model::Micros;
use serde_json::Value;
use tera::{Context, Tera};

use super::escapes;

/// Maximum size of a template's output, in bytes.
pub(crate) const MAX_OUTPUT: usize = 1 << 20;
/// How long a template may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// No further template is started while this many have not finished.
const MAX_RUNNING: usize = 64;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Whether values are escaped for HTML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// Escaped.
    Html,
    /// Not escaped: the template escapes what its service needs.
    Nothing,
}

/// Fills in a template with a message.
///
/// # Errors
/// A description of the problem, with the template's name and line.
pub(crate) fn fill(
    name: &str,
    text: &str,
    escape: Escape,
    context: &Value,
) -> Result<String, String> {
    let work = process::Work {
        name: name.to_owned(),
        text: text.to_owned(),
        html: escape == Escape::Html,
        context: context.clone(),
    };
    // A template without loops and without variables that it sets produces little more than its
    // input.
    let result = match may_grow(text).then(|| process::run(&work)).flatten() {
        Some(result) => result,
        None => {
            within_limits(move || render(&work.name, &work.text, escape, &work.context), DEADLINE)
        }
    };
    result.map_err(|error| format!("the template {name}: {error}"))
}

/// Returns whether a template contains tags other than conditions and comments.
fn may_grow(text: &str) -> bool {
    text.split("{%").skip(1).any(|tag| {
        let tag = tag.trim_start_matches('-').trim_start();
        !["if", "elif", "else", "endif"].iter().any(|word| tag.starts_with(word))
    })
}

/// Runs work on a separate thread, which is abandoned after the deadline and ends with the program.
fn within_limits<F>(work: F, deadline: Duration) -> Result<String, String>
where
    F: FnOnce() -> Result<String, String> + Send + 'static,
{
    if RUNNING.fetch_add(1, Ordering::Relaxed) >= MAX_RUNNING {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
        return Err("too many other templates are still running".to_owned());
    }
    let (done, result) = mpsc::channel();
    let thread = thread::Builder::new().name("template".to_owned()).spawn(move || {
        // The receiver may have given up.
        let _ = done.send(work());
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    });
    if let Err(error) = thread {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
        return Err(format!("can't start a thread: {error}"));
    }
    match result.recv_timeout(deadline) {
        Ok(result) => result,
        Err(_) => Err(format!("it did not finish within {}", Micros::from(deadline))),
    }
}

fn render(name: &str, text: &str, escape: Escape, context: &Value) -> Result<String, String> {
    if let Some(word) = leads_elsewhere(text) {
        return Err(format!("{word} is not allowed: a message consists of a single template"));
    }
    let mut tera = Tera::new();
    // Escaping depends on the end of a template's name: select all names, or none.
    tera.autoescape_on(match escape {
        Escape::Html => vec![""],
        Escape::Nothing => Vec::new(),
    });
    escapes::register(&mut tera);
    tera.add_raw_template(name, text).map_err(|error| explained(&error))?;
    let context = Context::from_serialize(context).map_err(|error| explained(&error))?;
    let mut output = Limited(Vec::new());
    tera.render_to(name, &context, &mut output).map_err(|error| explained(&error))?;
    String::from_utf8(output.0).map_err(|error| error.to_string())
}

/// Returns Tera's error with all its causes.
fn explained(error: &tera::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Returns the tag of a template that refers to another template; one that includes itself would
/// never end.
fn leads_elsewhere(text: &str) -> Option<&'static str> {
    text.split("{%").skip(1).find_map(|tag| {
        let tag = tag.trim_start_matches('-').trim_start();
        let starts = |word: &&&str| {
            tag.strip_prefix(**word)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        ["include", "extends", "import"].iter().find(starts).copied()
    })
}

/// Writer with a size limit.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            let text = format!("it produces more than {MAX_OUTPUT} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        fill("text", text, Escape::Nothing, &json!({ "subject": "a <b>" }))
    }

    #[test]
    fn values_are_escaped_in_html_only() {
        assert_eq!(filled("{{ subject }}").as_deref(), Ok("a <b>"));
        let html =
            fill("mine.txt", "<p>{{ subject }}", Escape::Html, &json!({ "subject": "a <b>" }));
        assert_eq!(html.as_deref(), Ok("<p>a &lt;b&gt;"));
    }

    #[test]
    fn what_grows_or_calls_itself_without_end_is_an_error() {
        let many = "{% for a in range(end=90000) %}{% for b in range(end=90000) %}{{ subject }}{% endfor %}{% endfor %}";
        for (text, said) in [
            (many, "produces more than"),
            ("{% include \"text\" %}", "include is not allowed"),
            ("{%- extends \"text\" %}", "extends is not allowed"),
            ("{{ nothing.there }}", "nothing"),
            ("{{ subject", "text"),
        ] {
            let error = filled(text).expect_err(text);
            assert!(error.starts_with("the template text: ") && error.contains(said), "{error}");
        }
        assert_eq!(filled("{% set included = 1 %}{{ included }}").as_deref(), Ok("1"));
    }

    #[test]
    fn what_does_not_end_is_left_behind() {
        let (stop, stopped) = mpsc::channel::<()>();
        let waits = move || {
            let _ = stopped.recv();
            Ok(String::new())
        };
        let error = within_limits(waits, Duration::from_millis(50)).expect_err("too late");
        assert!(error.contains("did not finish"), "{error}");
        drop(stop);
    }
}
