//! Subject and text of a mail, from the user's templates or the built-in ones. A failing template
//! never prevents a mail from being sent.

use mailqos_base::one_line;
use mailqos_config::{Problems, Template, Wording};

use super::template::{self, Escape};
use crate::Notification;

/// The longest subject, in characters.
const MAX_SUBJECT: usize = 250;

/// A mail about alarms, before it is addressed.
pub(crate) struct AlarmMail<'a> {
    /// The notification that it is about.
    pub(crate) notification: &'a Notification,
    /// One line.
    pub(crate) subject: String,
    /// The plain text.
    pub(crate) text: String,
    /// The same as HTML.
    pub(crate) html: Option<String>,
    /// Why the user's wording was not used.
    pub(crate) problem: Option<String>,
}

impl<'a> AlarmMail<'a> {
    /// Composes subject and text of a notification.
    pub(crate) fn write(wording: &Wording, notification: &'a Notification) -> Self {
        match Self::own(wording, notification) {
            Ok(letter) => letter,
            Err(error) => {
                let problem = format!("the configured template failed: {}", one_line(&error, &[]));
                tracing::error!(%problem, "alarm mail sent with the built-in text");
                let note = format!("\nThis mail uses the built-in text: {problem}\n");
                let mut text = notification.body.clone();
                let at = text.rfind("\n-- \n").unwrap_or(text.len());
                text.insert_str(at, &note);
                Self {
                    notification,
                    subject: notification.subject.clone(),
                    text,
                    html: None,
                    problem: Some(problem),
                }
            }
        }
    }

    fn own(wording: &Wording, notification: &'a Notification) -> Result<Self, String> {
        let fill = |template: &Template, escape| {
            let filled =
                template::fill(&template.name, &template.text, escape, &notification.context)?;
            if filled.trim().is_empty() {
                return Err(format!("the template {} produces empty text", template.name));
            }
            Ok(filled)
        };
        let subject = match &wording.subject {
            Some(template) => subject(&fill(template, Escape::Nothing)?),
            None => notification.subject.clone(),
        };
        let text = match &wording.text {
            Some(template) => fill(template, Escape::Nothing)?,
            None => notification.body.clone(),
        };
        let html = wording.html.as_ref();
        let html = html.map(|template| fill(template, Escape::Html)).transpose()?;
        Ok(Self { notification, subject, text, html, problem: None })
    }
}

impl std::fmt::Display for AlarmMail<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subject: {}\n\n{}", self.subject, self.text)?;
        match &self.html {
            Some(page) => write!(f, "\n{page}"),
            None => Ok(()),
        }
    }
}

/// Joins a text into one line: a line break in a subject would begin another header field.
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

/// Reports problems with the templates of a mail.
pub(crate) fn check(
    wording: &Wording,
    examples: &[(&'static str, Notification)],
    problems: &mut Problems,
) {
    for (key, template) in wording.templates() {
        let Some(node) = &template.node else { continue };
        let only = match key {
            "subject" => Wording { subject: Some(template.clone()), ..Wording::default() },
            "text" => Wording { text: Some(template.clone()), ..Wording::default() },
            _ => Wording { html: Some(template.clone()), ..Wording::default() },
        };
        for (what, notification) in examples {
            if let Err(error) = AlarmMail::own(&only, notification) {
                let problem = node
                    .problem(error, format!("fails for {what}"))
                    .help("docs/alarms.md lists the variables");
                problems.push(notification.weigh(problem));
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn template(name: &str, text: &str) -> Option<Template> {
        Some(Template { text: text.to_owned(), name: name.to_owned(), node: None })
    }

    fn told() -> Notification {
        crate::testing::alarm("550 <b>no</b>")
    }

    #[test]
    fn a_mail_has_its_custom_text_and_no_header_from_a_template() {
        let notification = told();
        let wording = Wording {
            subject: template(
                "subject",
                "[{{ site | upper }}]\r\nBcc: x@example.net\u{2028}{{ alarms[0].name }}\n",
            ),
            text: template("text", "{{ alarms[0].error }}\n"),
            html: template("alarm.txt", "<p>{{ alarms[0].error }}"),
        };
        let letter = AlarmMail::write(&wording, &notification);
        assert_eq!(letter.problem, None);
        assert_eq!(letter.subject, "[STOCKHOLM] Bcc: x@example.net Göteborg, POP3");
        assert_eq!(letter.text, "550 <b>no</b>\n");
        assert_eq!(letter.html.as_deref(), Some("<p>550 &lt;b&gt;no&lt;/b&gt;"));
        let long =
            Wording { subject: template("subject", &"Ж".repeat(1000)), ..Wording::default() };
        assert_eq!(AlarmMail::write(&long, &notification).subject.chars().count(), MAX_SUBJECT);
    }

    #[test]
    fn a_wrong_template_keeps_no_mail_from_being_sent() {
        let notification = told();
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
            let letter = AlarmMail::write(&wording, &notification);
            assert_eq!(letter.subject, notification.subject);
            assert!(
                letter
                    .text
                    .starts_with(notification.body.split("\n-- ").next().unwrap_or_default())
            );
            let problem = letter.problem.expect("a problem");
            assert!(problem.contains("words.txt") && letter.text.contains(&problem), "{problem}");
            assert!(letter.text.ends_with("\n-- \nmailqos\n"), "{}", letter.text);
        }
    }
}
