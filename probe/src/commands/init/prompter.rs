//! Prompts: values that are set by options are not prompted for, and invalid input is prompted for
//! again.

use std::{net::IpAddr, path::PathBuf};

use inquire::{InquireError, Select, Text, validator::Validation};
use mailqos_model::Micros;

use crate::commands::Failure;

impl From<InquireError> for Failure {
    fn from(error: InquireError) -> Self {
        match error {
            InquireError::OperationCanceled | InquireError::OperationInterrupted => {
                Self::Work("cancelled: nothing more was written".to_owned())
            }
            error => Self::Usage(format!(
                "{error}; to run without prompts, use options: mailqos-probe init --help"
            )),
        }
    }
}

/// Prompts for values, or uses defaults.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prompter {
    /// Whether to prompt.
    pub(super) ask: bool,
}

impl Prompter {
    /// Prompts for a text that passes a check.
    pub(super) fn text(
        self,
        said: Option<String>,
        what: &str,
        flag: &str,
        usual: Option<&str>,
        check: impl Fn(&str) -> Result<(), String> + Clone + 'static,
    ) -> Result<String, Failure> {
        let answer = match (said, usual) {
            (Some(said), _) => said,
            (None, Some(usual)) if !self.ask => usual.to_owned(),
            (None, None) if !self.ask => {
                return Err(Failure::Usage(format!("{what} is missing; set it with {flag}")));
            }
            (None, usual) => {
                let check = check.clone();
                let valid = move |text: &str| {
                    Ok(match check(text.trim()) {
                        Ok(()) => Validation::Valid,
                        Err(wrong) => Validation::Invalid(wrong.into()),
                    })
                };
                let mut prompt = Text::new(what).with_validator(valid);
                if let Some(usual) = usual {
                    prompt = prompt.with_default(usual);
                }
                prompt.prompt()?
            }
        };
        let answer = answer.trim().to_owned();
        check(&answer).map_err(|wrong| Failure::Usage(format!("{flag} {answer}: {wrong}")))?;
        Ok(answer)
    }

    /// Prompts for one of several choices; `first` is preselected.
    pub(super) fn choice(
        self,
        said: Option<String>,
        what: &str,
        choices: &[&'static str],
        first: &str,
    ) -> Result<String, Failure> {
        let start = choices.iter().position(|choice| *choice == first).unwrap_or(0);
        match said {
            Some(said) => Ok(said),
            None if self.ask => Ok(Select::new(what, choices.to_vec())
                .with_starting_cursor(start)
                .prompt()?
                .to_owned()),
            None => Ok(choices.get(start).copied().unwrap_or_default().to_owned()),
        }
    }
}

/// Makes a path absolute. Relative paths in the configuration refer to its folder, those typed here
/// to the current one.
pub(super) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Checks that a text is a single, non-empty word.
pub(super) fn is_word(text: &str) -> Result<(), String> {
    match text {
        "" => Err("a value is required".to_owned()),
        text if text.contains(char::is_whitespace) => Err("spaces are not allowed".to_owned()),
        _ => Ok(()),
    }
}

/// Checks that a text is a host name or an IP address.
pub(super) fn is_host(text: &str) -> Result<(), String> {
    is_word(text)?;
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !text.chars().all(allowed) && text.parse::<IpAddr>().is_err() {
        return Err(
            "enter only a host name or an IP address, without protocol, port or path".to_owned()
        );
    }
    Ok(())
}

/// Checks that a text is a mail address.
pub(super) fn is_mail_address(text: &str) -> Result<(), String> {
    let parsed = text.parse::<lettre::Address>();
    parsed.map(|_| ()).map_err(|error| format!("not a valid e-mail address ({error})"))
}

/// Checks that a text is a port number.
pub(super) fn is_port(text: &str) -> Result<(), String> {
    match text.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err("enter a number from 1 to 65535".to_owned()),
    }
}

/// Checks that a text is a duration greater than zero.
pub(super) fn is_duration(text: &str) -> Result<(), String> {
    match text.parse::<Micros>() {
        Ok(duration) if duration > Micros::ZERO => Ok(()),
        Ok(_) => Err("the duration must be longer than zero".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns a check that a text is a duration shorter than another.
pub(super) fn is_shorter_than(most: Micros) -> impl Fn(&str) -> Result<(), String> + Clone {
    move |text: &str| {
        is_duration(text)?;
        match text.parse::<Micros>() {
            Ok(duration) if duration < most => Ok(()),
            _ => Err(format!("it must be shorter than max round trip, {most}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check that returns the problem of an invalid input.
    type Check = fn(&str) -> Result<(), String>;

    #[test]
    fn impossible_values_are_reported() {
        let cases: [(Check, &[&str], &[&str]); 4] = [
            (
                is_host,
                &["mail.example.com", "192.0.2.1", "::1", "bücher.example"],
                &["", "a b", "https://x", "x:25", "a@b", "[::1]", "[::1]:25", "::1:x"],
            ),
            (is_mail_address, &["a@b.example"], &["", "a", "a@", "a b@c.example"]),
            (is_port, &["1", "65535"], &["0", "65536", "-1", "smtp", ""]),
            (is_duration, &["5s", "200ms"], &["0s", "5", "soon"]),
        ];
        for (check, good, bad) in cases {
            for text in good {
                assert_eq!(check(text), Ok(()), "{text:?}");
            }
            for text in bad {
                assert!(check(text).is_err(), "{text:?}");
            }
        }
        let check = is_shorter_than(Micros::from_secs(120));
        assert!(check("5s").is_ok() && check("2m").is_err() && check("3m").is_err());
    }
}
