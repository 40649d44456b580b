//! The last mail of a monitor in words, for `status`.

use mailqos_control::response::LastReport;

/// Returns where the last mail was found, and the receiving system's results; empty if unknown.
pub(super) fn describe(last: &LastReport) -> String {
    let place = match last.placement.as_deref() {
        Some("inbox") => "inbox",
        Some("junk") => "junk folder",
        Some(_) => "another folder",
        None => "",
    };
    // Methods with the same result are grouped: `SPF and DMARC pass, DKIM fail`.
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (method, result) in [("SPF", &last.spf), ("DKIM", &last.dkim), ("DMARC", &last.dmarc)] {
        let Some(result) = result else { continue };
        match groups.iter_mut().find(|(known, _)| known == result) {
            Some((_, methods)) => methods.push(method),
            None => groups.push((result, vec![method])),
        }
    }
    let results = groups.into_iter().map(|(result, methods)| {
        let methods = match methods.as_slice() {
            [first, last] => format!("{first} and {last}"),
            [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
            _ => methods.concat(),
        };
        format!("{methods} {result}")
    });
    let place = (!place.is_empty()).then(|| place.to_owned());
    place.into_iter().chain(results).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_folder_and_the_results_of_the_last_mail_are_shown() {
        let shown = |last: Value| describe(&serde_json::from_value(last).expect("a test"));
        for (last, expected) in [
            (json!({ "outcome": "ok" }), ""),
            (json!({ "placement": "inbox" }), "inbox"),
            (
                json!({ "placement": "junk", "spf": "pass", "dkim": "fail", "dmarc": "pass" }),
                "junk folder, SPF and DMARC pass, DKIM fail",
            ),
            (
                json!({ "placement": "other", "spf": "pass", "dkim": "pass", "dmarc": "pass" }),
                "another folder, SPF, DKIM and DMARC pass",
            ),
            (json!({ "dmarc": "fail" }), "DMARC fail"),
        ] {
            assert_eq!(shown(last.clone()), expected, "{last}");
        }
    }
}
