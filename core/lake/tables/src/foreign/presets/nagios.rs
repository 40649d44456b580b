//! Nagios, Icinga, Naemon: service performance data, as `service_perfdata_file` collects it.
//!
//! Two templates are in use: Nagios's own (`[SERVICEPERFDATA]` and tab-separated values; the time
//! is second, output and performance data are last) and that of PNP4Nagios (`KEY::value` separated
//! by tabs). Performance data is `label=value[unit];warn;crit;min;max` (Nagios plugin guidelines).

use super::{ExportSelection, Measurement, id, micros, one_line};

/// Labels that mail plugins use for the round trip.
const LIKELY: [&str; 5] = ["delay", "elapsed", "roundtrip", "time", "rta"];

/// Parts of a line.
#[derive(Default)]
struct Line<'a> {
    time: &'a str,
    host: &'a str,
    service: &'a str,
    state: Option<&'a str>,
    output: &'a str,
    performance: &'a str,
}

pub(super) fn read(
    text: &str,
    wish: ExportSelection<'_>,
) -> Result<(Vec<Measurement>, Vec<String>), String> {
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1_u64..).filter(|(line, _)| !line.trim().is_empty()) {
        let Some(parts) = parts(line) else { continue };
        let at: i64 = parts
            .time
            .parse()
            .ok()
            .and_then(|seconds: i64| seconds.checked_mul(1_000_000))
            .ok_or_else(|| format!("row {number}: {:?} is not a time in seconds", parts.time))?;
        let state = parts.state.unwrap_or_else(|| state_in(parts.output));
        let outcome = match state.to_ascii_uppercase().as_str() {
            "OK" | "WARNING" | "0" | "1" => Some("ok"),
            "CRITICAL" | "2" => Some("lost"),
            "UNKNOWN" | "3" => Some("not_tested"),
            _ => None,
        };
        let failed = outcome.is_some_and(|outcome| outcome != "ok");
        found.push(Measurement {
            line: number,
            at,
            monitor: Some(id(&format!("{}-{}", parts.host, parts.service))),
            outcome,
            error: if failed { one_line(parts.output) } else { None },
            round_trip_us: seconds(parts.performance, wish.round_trip)
                .and_then(micros)
                .filter(|_| !failed),
            ..Measurement::default()
        });
    }
    if found.is_empty() {
        if let Some(reason) = other_export(text) {
            return Err(reason.to_owned());
        }
        return Err("it contains no service performance data of Nagios or PNP4Nagios".to_owned());
    }
    Ok((found, Vec::new()))
}

/// Returns why another format of Nagios can't be imported, if it is one.
fn other_export(text: &str) -> Option<&'static str> {
    const STATES: [&str; 3] =
        ["SERVICE ALERT: ", "CURRENT SERVICE STATE: ", "INITIAL SERVICE STATE: "];
    let mut lines = text.lines().take(10_000);
    let is_log = lines
        .clone()
        .any(|line| line.starts_with('[') && STATES.iter().any(|word| line.contains(word)));
    let is_total = lines.any(|line| line.to_ascii_uppercase().contains("TIME_OK_SCHEDULED"));
    if is_log {
        Some(
            "this is the log of Nagios, which contains only state changes, so availability can't be computed; \
             set process_performance_data=1 and service_perfdata_file, and import that file",
        )
    } else if is_total {
        Some(
            "this is an availability report of Nagios, which contains sums instead of single tests; import the \
             file of service_perfdata_file",
        )
    } else {
        None
    }
}

fn parts(line: &str) -> Option<Line<'_>> {
    let fields: Vec<&str> = line.split('\t').collect();
    if line.contains("::") && fields.iter().any(|field| field.starts_with("TIMET::")) {
        let get =
            |key: &str| fields.iter().find_map(|field| field.strip_prefix(key)?.strip_prefix("::"));
        return Some(Line {
            time: get("TIMET")?,
            host: get("HOSTNAME").unwrap_or_default(),
            service: get("SERVICEDESC")?,
            state: get("SERVICESTATE"),
            output: get("SERVICEOUTPUT").unwrap_or_default(),
            performance: get("SERVICEPERFDATA").unwrap_or_default(),
        });
    }
    match fields.as_slice() {
        ["[SERVICEPERFDATA]", time, host, service, _, _, output, performance] => {
            Some(Line { time, host, service, state: None, output, performance })
        }
        _ => None,
    }
}

/// Returns the state that most plugins put at the beginning of their output:
/// `EMAIL DELIVERY CRITICAL - …`.
fn state_in(output: &str) -> &str {
    output
        .split(|c: char| !c.is_ascii_alphabetic())
        .find(|word| matches!(*word, "OK" | "WARNING" | "CRITICAL" | "UNKNOWN"))
        .unwrap_or_default()
}

/// Returns the value of a label, in seconds.
fn seconds(performance: &str, wish: Option<&str>) -> Option<f64> {
    let values: Vec<(&str, f64)> = labels(performance)
        .filter_map(|(label, value)| Some((label, in_seconds(value)?)))
        .collect();
    let get = |name: &str| {
        values.iter().find(|(label, _)| label.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    };
    match wish {
        Some(name) => get(name),
        None => LIKELY.iter().find_map(|name| get(name)),
    }
}

/// Parses labels and values; labels with blanks are in apostrophes.
fn labels(performance: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = performance.trim();
    std::iter::from_fn(move || {
        let (label, after) = match rest.strip_prefix('\'') {
            Some(quoted) => {
                let (label, after) = quoted.split_once('\'')?;
                (label, after.strip_prefix('=')?)
            }
            None => rest.split_once('=')?,
        };
        let (value, after) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
        rest = after.trim_start();
        Some((label, value.split(';').next().unwrap_or_default()))
    })
}

fn in_seconds(value: &str) -> Option<f64> {
    let digits = value.trim_end_matches(|c: char| c.is_alphabetic() || c == '%');
    let number: f64 = digits.replace(',', ".").parse().ok()?;
    match &value[digits.len()..] {
        "s" | "" => Some(number),
        "ms" => Some(number / 1e3),
        "us" | "µs" => Some(number / 1e6),
        "ns" => Some(number / 1e9),
        "m" | "min" => Some(number * 60.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_read() {
        let text = "[SERVICEPERFDATA]\t1772366400\tmx1\tMail loop\t5.17\t0.1\tEMAIL DELIVERY OK - 2 seconds\tdelay=2s;95;300 elapsed=5.17s\n\
            [HOSTPERFDATA]\t1772366400\tmx1\t0.1\t0.2\tPING OK\trta=1ms\n\
            DATATYPE::SERVICEPERFDATA\tTIMET::1772366700\tHOSTNAME::mx1\tSERVICEDESC::Mail loop\tSERVICEPERFDATA::'my time'=250ms;; delay=0.5s\tSERVICESTATE::WARNING\n\
            DATATYPE::SERVICEPERFDATA\tTIMET::1772367000\tHOSTNAME::mx1\tSERVICEDESC::Mail loop\tSERVICEPERFDATA::\tSERVICEOUTPUT::no mail\tSERVICESTATE::CRITICAL\n";
        let (found, _) = read(text, ExportSelection::default()).expect("measurements");
        let brief: Vec<_> = found.iter().map(|one| (one.outcome, one.round_trip_us)).collect();
        assert_eq!(
            brief,
            [(Some("ok"), Some(2_000_000)), (Some("ok"), Some(500_000)), (Some("lost"), None)]
        );
        assert_eq!(found[0].monitor.as_deref(), Some("mx1-mail-loop"));
        assert_eq!(found[2].error.as_deref(), Some("no mail"));
        let wish = ExportSelection { round_trip: Some("my time"), ..ExportSelection::default() };
        assert_eq!(read(text, wish).expect("measurements").0[1].round_trip_us, Some(250_000));
        assert!(read("nothing\n", ExportSelection::default()).is_err());
    }

    #[test]
    fn what_holds_no_tests_is_refused_with_what_does() {
        let log = "[1772366400] CURRENT SERVICE STATE: mx1;Mail loop;OK;HARD;1;EMAIL DELIVERY OK - 2 seconds\n\
            [1772366700] SERVICE ALERT: mx1;Mail loop;CRITICAL;SOFT;1;no mail\n";
        let availability = "HOST_NAME, SERVICE_DESCRIPTION, TIME_OK_SCHEDULED, PERCENT_TIME_OK_SCHEDULED\nmx1, Mail loop, 3600, 99.1\n";
        for text in [log, availability] {
            let error = read(text, ExportSelection::default()).expect_err("no tests");
            assert!(error.contains("service_perfdata_file"), "{error}");
        }
        for (value, expected) in [
            ("250µs", Some(0.000_25)),
            ("1500000ns", Some(0.0015)),
            ("2m", Some(120.0)),
            ("U", None),
            ("5%", None),
            ("3KB", None),
        ] {
            assert_eq!(in_seconds(value), expected, "{value}");
        }
    }
}
