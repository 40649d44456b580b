//! The words of a mail: its own, by templates, or the built-in ones. A template that fails keeps no mail from being sent.

use mailqos_base::one_line;
use mailqos_config::{Problems, Template, Wording};

use super::template::{self, Escape};
use crate::alarm::message::Telling;

/// The longest subject, in characters.
const MAX_SUBJECT: usize = 250;

/// A mail about alarms, before it is addressed.
pub(super) struct Letter<'a> {
    /// What it is about.
    pub(super) telling: &'a Telling,
    /// One line.
    pub(super) subject: String,
    /// The plain text.
    pub(super) text: String,
    /// The same as HTML.
    pub(super) html: Option<String>,
    /// Why it has not the words that it was to have.
    pub(super) problem: Option<String>,
}

impl<'a> Letter<'a> {
    /// Words a message.
    pub(super) fn write(wording: &Wording, telling: &'a Telling) -> Self {
        match Self::own(wording, telling) {
            Ok(letter) => letter,
            Err(error) => {
                let problem = format!("its own wording could not be used: {}", one_line(&error, &[]));
                tracing::error!("a mail about an alarm has the built-in words: {problem}");
                let note = format!("\nThis mail has the built-in words: {problem}\n");
                let mut text = telling.body.clone();
                let at = text.rfind("\n-- \n").unwrap_or(text.len());
                text.insert_str(at, &note);
                Self {
                    telling,
                    subject: telling.subject.clone(),
                    text,
                    html: None,
                    problem: Some(problem),
                }
            }
        }
    }

    fn own(wording: &Wording, telling: &'a Telling) -> Result<Self, String> {
        let fill = |template: &Template, escape| {
            let filled = template::fill(&template.name, &template.text, escape, &telling.context)?;
            if filled.trim().is_empty() {
                return Err(format!("the template {}: it makes an empty text", template.name));
            }
            Ok(filled)
        };
        let subject = match &wording.subject {
            Some(template) => subject(&fill(template, Escape::Nothing)?),
            None => telling.subject.clone(),
        };
        let text = match &wording.text {
            Some(template) => fill(template, Escape::Nothing)?,
            None => telling.body.clone(),
        };
        let html = wording.html.as_ref();
        let html = html.map(|template| fill(template, Escape::Html)).transpose()?;
        Ok(Self {
            telling,
            subject,
            text,
            html,
            problem: None,
        })
    }
}

impl std::fmt::Display for Letter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subject: {}\n\n{}", self.subject, self.text)?;
        match &self.html {
            Some(page) => write!(f, "\n{page}"),
            None => Ok(()),
        }
    }
}

/// One line: a line break in a subject would begin another header field.
fn subject(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_SUBJECT - 1) {
        Some((at, _)) if line.chars().count() > MAX_SUBJECT => format!("{}…", &line[..at]),
        _ => line,
    }
}

/// Notes what is wrong with the templates of a mail.
pub(super) fn check(wording: &Wording, examples: &[(&'static str, Telling)], problems: &mut Problems) {
    for (key, template) in wording.templates() {
        let Some(node) = &template.node else { continue };
        let only = match key {
            "subject" => Wording {
                subject: Some(template.clone()),
                ..Wording::default()
            },
            "text" => Wording {
                text: Some(template.clone()),
                ..Wording::default()
            },
            _ => Wording {
                html: Some(template.clone()),
                ..Wording::default()
            },
        };
        for (what, telling) in examples {
            if let Err(error) = Letter::own(&only, telling) {
                let problem = node
                    .problem(error, format!("found with {what}"))
                    .help("docs/alarms.md lists what a template is given");
                problems.push(telling.weigh(problem));
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::{
        Why,
        message::tests::{config, pending},
    };

    fn template(name: &str, text: &str) -> Option<Template> {
        Some(Template {
            text: text.to_owned(),
            name: name.to_owned(),
            node: None,
        })
    }

    fn told() -> Telling {
        let mut change = pending(Why::Raised);
        change.sample.error = Some("550 <b>no</b>".to_owned());
        Telling::write(&config(), &[change])
    }

    #[test]
    fn a_mail_has_its_own_words_and_no_field_of_a_templates_making() {
        let telling = told();
        let wording = Wording {
            subject: template(
                "subject",
                "[{{ site | upper }}]\r\nBcc: x@example.net\u{2028}{{ alarms[0].name }}\n",
            ),
            text: template("text", "{{ alarms[0].error }}\n"),
            html: template("alarm.txt", "<p>{{ alarms[0].error }}"),
        };
        let letter = Letter::write(&wording, &telling);
        assert_eq!(letter.problem, None);
        assert_eq!(letter.subject, "[STOCKHOLM] Bcc: x@example.net Göteborg, POP3");
        assert_eq!(letter.text, "550 <b>no</b>\n");
        assert_eq!(letter.html.as_deref(), Some("<p>550 &lt;b&gt;no&lt;/b&gt;"));
        let long = Wording {
            subject: template("subject", &"Ж".repeat(1000)),
            ..Wording::default()
        };
        assert_eq!(Letter::write(&long, &telling).subject.chars().count(), MAX_SUBJECT);
    }

    #[test]
    fn a_wrong_template_keeps_no_mail_from_being_sent() {
        let telling = told();
        for wrong in [
            "{{ nothing.there }}",
            "{% if",
            "  \n",
            "{% include \"subject\" %}",
            "{% for a in range(end=90000) %}{% for b in range(end=90000) %}{{ subject }}{% endfor %}{% endfor %}",
        ] {
            let wording = Wording {
                subject: template("words.txt", wrong),
                text: template("text", "own"),
                html: None,
            };
            let letter = Letter::write(&wording, &telling);
            assert_eq!(letter.subject, telling.subject);
            assert!(
                letter
                    .text
                    .starts_with(telling.body.split("\n-- ").next().unwrap_or_default())
            );
            let problem = letter.problem.expect("a problem");
            assert!(
                problem.contains("words.txt") && letter.text.contains(&problem),
                "{problem}"
            );
            assert!(letter.text.ends_with("\n-- \nmailqos\n"), "{}", letter.text);
        }
    }
}
