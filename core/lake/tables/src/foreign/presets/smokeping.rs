//! SmokePing: the output of `rrdtool fetch TARGET.rrd AVERAGE --start … --end …`, of
//! `rrdtool xport` (XML or JSON) with the legends `median` and `loss`, or of `rrdtool dump`.
//!
//! A header of data sources (`uptime loss median ping1 …`), then `SECONDS: value value …`; times
//! are UTC seconds at the end of each step, medians are seconds, and `nan` is unknown. `loss`
//! counts lost pings: if there is no median, all were lost.

use serde_json::Value;

use super::{
    Measurement,
    markup::{Piece, Pieces},
    micros,
};

/// Note on every export.
const NOTE: &str =
    "rows are medians over a step of the RRD, so percentiles are percentiles of medians";

pub(super) fn read(text: &str) -> Result<(Vec<Measurement>, Vec<String>), String> {
    let begin = text.trim_start();
    let found = if begin.starts_with('{') {
        exported_json(text)?
    } else if begin.starts_with('<')
        && Pieces::new(text).any(|(_, piece)| piece == Piece::Open("xport", ""))
    {
        exported(text)?
    } else if begin.starts_with('<') {
        dumped(text)?
    } else {
        fetched(text)?
    };
    Ok((found, vec![NOTE.to_owned()]))
}

/// Converts a step: its end in seconds since 1970, the median in seconds, and the number of lost
/// pings.
fn step(line: u64, at: i64, median: Option<f64>, loss: Option<f64>) -> Option<Measurement> {
    let number = |value: Option<f64>| value.filter(|value| value.is_finite());
    let round_trip_us = number(median).and_then(micros);
    let outcome = match (round_trip_us, number(loss)) {
        (Some(_), _) => Some("ok"),
        (None, Some(loss)) if loss > 0.0 => Some("lost"),
        _ => None,
    };
    Some(Measurement {
        line,
        at: at.checked_mul(1_000_000)?,
        outcome,
        error: (outcome == Some("lost")).then(|| "all pings lost in SmokePing".to_owned()),
        round_trip_us,
        ..Measurement::default()
    })
}

/// Parses a number of RRDtool: `1.25e-01`, `1,25e-01` in some locales, `nan`, `-nan`, `NaN`.
fn number(text: &str) -> Option<f64> {
    text.trim().replace(',', ".").parse().ok()
}

fn places<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> Result<(usize, usize), String> {
    let median = names.clone().position(|name| name.trim() == "median");
    let loss = names.position(|name| name.trim() == "loss");
    median.zip(loss).ok_or_else(|| {
        "not an RRD of SmokePing: columns median and loss are missing; export with: rrdtool fetch TARGET.rrd \
         AVERAGE"
            .to_owned()
    })
}

/// Parses `rrdtool xport --showtime`, or output without times, which then follow from start and
/// step.
fn exported(text: &str) -> Result<Vec<Measurement>, String> {
    let (mut legend, mut rows) = (Vec::new(), Vec::<(u64, Option<i64>, Vec<f64>)>::new());
    let (mut start, mut every) = (None, None);
    let mut element = "";
    for (line, piece) in Pieces::new(text) {
        match piece {
            Piece::Open("row", _) => rows.push((line, None, Vec::new())),
            Piece::Open(name, _) => element = name,
            Piece::Text(text) => {
                let wrong = || format!("row {line}: {text:?} is not a number of rrdtool xport");
                match (element, rows.last_mut()) {
                    ("entry", _) => legend.push(text),
                    ("start", None) => start = text.parse::<i64>().ok(),
                    ("step", None) => every = text.parse::<i64>().ok(),
                    ("t", Some(row)) => row.1 = Some(text.parse().map_err(|_| wrong())?),
                    (name, Some(row)) if name.starts_with('v') => {
                        row.2.push(number(text).ok_or_else(wrong)?)
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let (median, loss) = places(legend.iter().copied())?;
    let steps = rows.into_iter().zip(0_i64..).map(|((line, at, values), index)| {
        let at = at.or_else(|| index.checked_mul(every?)?.checked_add(start?));
        at.and_then(|at| step(line, at, values.get(median).copied(), values.get(loss).copied()))
            .ok_or_else(|| format!("row {line}: no time; export with --showtime"))
    });
    steps.collect()
}

/// Parses `rrdtool xport --json`: start, step, and a list of values for each step.
fn exported_json(text: &str) -> Result<Vec<Measurement>, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| {
        format!("not JSON ({error}); old versions of RRDtool write invalid JSON, so export XML")
    })?;
    let whole = |name: &str| json.pointer(name).and_then(Value::as_i64);
    let (start, every) = whole("/meta/start")
        .zip(whole("/meta/step"))
        .ok_or("not an export from RRDtool: start or step is missing")?;
    let list =
        |name: &str| json.pointer(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let legend = list("/meta/legend");
    let (median, loss) = places(legend.iter().map(|name| name.as_str().unwrap_or_default()))?;
    let steps = list("/data").into_iter().zip(0_i64..).map(|(row, index)| {
        let value = |at: usize| row.get(at).and_then(Value::as_f64);
        let at = index.checked_mul(every).and_then(|span| span.checked_add(start));
        at.and_then(|at| step(index.unsigned_abs() + 1, at, value(median), value(loss)))
            .ok_or_else(|| "a time of the export is too large".to_owned())
    });
    steps.collect()
}

/// One step of an archive: its line, its end, and the values of all sources.
type Step = (u64, i64, Vec<f64>);

/// An archive of `rrdtool dump`.
#[derive(Default)]
struct Archive {
    /// Its consolidation function: `AVERAGE`, `MIN`, `MAX`.
    function: String,
    /// Number of RRD steps in one step of the archive.
    steps: u64,
    rows: Vec<Step>,
}

/// Parses `rrdtool dump`: the archive of averages with the shortest step. Its times are in
/// comments.
fn dumped(text: &str) -> Result<Vec<Measurement>, String> {
    let mut names = Vec::new();
    let mut archives: Vec<Archive> = Vec::new();
    let (mut element, mut within, mut at) = ("", "", None);
    for (line, piece) in Pieces::new(text) {
        match piece {
            Piece::Open(name, _) => {
                if matches!(name, "ds" | "cdp_prep" | "database") {
                    within = name;
                }
                match (name, archives.last_mut()) {
                    ("rra", _) => archives.push(Archive::default()),
                    ("row", Some(archive)) if within == "database" => {
                        let at =
                            at.take().ok_or_else(|| format!("row {line}: no preceding time"))?;
                        archive.rows.push((line, at, Vec::new()));
                    }
                    _ => {}
                }
                element = name;
            }
            // `2026-03-01 12:00:00 UTC / 1772366400`
            Piece::Comment(text) => {
                at = text.rsplit_once('/').and_then(|(_, at)| at.trim().parse().ok())
            }
            Piece::Text(text) => match (element, archives.last_mut()) {
                ("name", None) => names.push(text),
                ("cf", Some(archive)) => text.clone_into(&mut archive.function),
                ("pdp_per_row", Some(archive)) => archive.steps = text.parse().unwrap_or(1),
                ("v", Some(archive)) if within == "database" => {
                    let value = number(text)
                        .ok_or_else(|| format!("row {line}: {text:?} is not a number"))?;
                    if let Some(row) = archive.rows.last_mut() {
                        row.2.push(value);
                    }
                }
                _ => {}
            },
            Piece::Close(_) => {}
        }
    }
    let (median, loss) = places(names.iter().copied())?;
    let averages = archives.into_iter().filter(|archive| archive.function == "AVERAGE");
    let finest =
        averages.min_by_key(|archive| archive.steps).ok_or("it contains no archive of averages")?;
    let steps = finest.rows.into_iter().map(|(line, at, values)| {
        step(line, at, values.get(median).copied(), values.get(loss).copied())
            .ok_or_else(|| format!("row {line}: the time is too large"))
    });
    steps.collect()
}

/// Parses the output of `rrdtool fetch`.
fn fetched(text: &str) -> Result<Vec<Measurement>, String> {
    let mut lines = text.lines().zip(1_u64..).filter(|(line, _)| !line.trim().is_empty());
    let head: Vec<&str> =
        lines.next().map(|(head, _)| head.split_whitespace().collect()).unwrap_or_default();
    let (median, loss) = places(head.iter().copied())?;
    let mut found = Vec::new();
    for (line, row) in lines {
        let wrong = || format!("row {row}: {line:?} is not a line of rrdtool fetch");
        let (at, values) = line.split_once(':').ok_or_else(wrong)?;
        let at: i64 = at.trim().parse().map_err(|_| wrong())?;
        let values: Vec<f64> =
            values.split_whitespace().map(number).collect::<Option<_>>().ok_or_else(wrong)?;
        let value = |index: usize| values.get(index).copied();
        found.push(step(row, at, value(median), value(loss)).ok_or_else(wrong)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_losses_and_unknown_steps_are_distinguished() {
        let text = "                         uptime                loss              median               ping1\n\n\
            1772366400: -nan 0.0000000000e+00 1.2500000000e-01 1.2400000000e-01\n\
            1772366700: -nan 2.0000000000e+01 -nan -nan\n\
            1772367000: nan nan nan nan\n\
            1772367300: nan 3,0000000000e+00 2,5000000000e-02 nan\n";
        let (found, _) = read(text).expect("measurements");
        let brief: Vec<_> = found.iter().map(|one| (one.outcome, one.round_trip_us)).collect();
        assert_eq!(
            brief,
            [
                (Some("ok"), Some(125_000)),
                (Some("lost"), None),
                (None, None),
                (Some("ok"), Some(25_000))
            ]
        );
        assert_eq!(found[0].at, 1_772_366_400_000_000);
        assert!(read("a b\n1: 2 3\n").is_err());
        assert!(read("loss median\nx: 2 3\n").is_err());
    }

    /// Returns outcome and round trip of each step.
    fn brief(text: &str) -> Vec<(i64, Option<&'static str>, Option<i64>)> {
        let (found, _) = read(text).expect("measurements");
        let steps = found.iter();
        steps.map(|one| (one.at / 1_000_000, one.outcome, one.round_trip_us)).collect()
    }

    #[test]
    fn exports_and_dumps_of_rrdtool_give_the_same_samples() {
        let expected = [
            (1_772_366_400, Some("ok"), Some(125_000)),
            (1_772_366_700, Some("lost"), None),
            (1_772_367_000, None, None),
        ];
        let with_times = "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n\n<xport>\n <meta>\n  <start>1772366400</start>\n  <end>1772367000</end>\n\
            <step>300</step>\n<rows>3</rows>\n<columns>2</columns>\n<legend>\n<entry>median</entry>\n<entry>loss</entry>\n</legend>\n</meta>\n<data>\n\
            <row><t>1772366400</t><v>1.2500000000e-01</v><v>0.0000000000e+00</v></row>\n\
            <row><t>1772366700</t><v>NaN</v><v>2.0000000000e+01</v></row>\n<row><t>1772367000</t><v>NaN</v><v>-nan</v></row>\n</data>\n</xport>\n";
        assert_eq!(brief(with_times), expected);
        let mut without = with_times.to_owned();
        for (at, ..) in expected {
            without = without.replace(&format!("<t>{at}</t>"), "");
        }
        assert_eq!(brief(&without), expected);
        // `--enumds`
        let numbered = with_times.replace("<v>1", "<v0>1").replace("<v>0", "<v1>0");
        assert_eq!(brief(&numbered)[0], expected[0]);
        let json = r#"{"about": "RRDtool graph JSON output", "meta": {"start": 1772366400, "end": 1772367000, "step": 300,
            "legend": ["loss", "median"]}, "data": [[0.0, 1.25e-01], [20, null], [null, null]]}"#;
        assert_eq!(brief(json), expected);
        let rows = "<database>\n<!-- 2026-03-01 12:00:00 UTC / 1772366400 --> <row><v>NaN</v><v>0.0000000000e+00</v><v>1.2500000000e-01</v></row>\n\
            <!-- 2026-03-01 12:05:00 UTC / 1772366700 --> <row><v>NaN</v><v>2.0000000000e+01</v><v>NaN</v></row>\n\
            <!-- 2026-03-01 12:10:00 UTC / 1772367000 --> <row><v>NaN</v><v>NaN</v><v>NaN</v></row>\n</database>";
        let source = |name: &str| {
            format!(
                "<ds><name> {name} </name><type> GAUGE </type><last_ds>U</last_ds><value>0.0</value></ds>\n"
            )
        };
        let dump = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!DOCTYPE rrd SYSTEM \"https://oss.oetiker.ch/rrdtool/rrdtool.dtd\">\n\
             <!-- Round Robin Database Dump -->\n<rrd>\n<version>0003</version>\n<step>300</step> <!-- Seconds -->\n\
             <lastupdate>1772367001</lastupdate> <!-- 2026-03-01 12:10:01 UTC -->\n{}{}{}\
             <rra><cf>AVERAGE</cf><pdp_per_row>12</pdp_per_row> <!-- 3600 seconds --><cdp_prep><ds><value>0.0</value></ds></cdp_prep>\
             <database><!-- 2026-03-01 12:00:00 UTC / 1772366400 --> <row><v>1</v><v>1</v><v>1</v></row></database></rra>\n\
             <rra><cf>AVERAGE</cf><pdp_per_row>1</pdp_per_row>{rows}</rra>\n\
             <rra><cf>MIN</cf><pdp_per_row>1</pdp_per_row><database></database></rra>\n</rrd>\n",
            source("uptime"),
            source("loss"),
            source("median"),
        );
        assert_eq!(brief(&dump), expected);
        for wrong in [
            "{}",
            "{meta: {start: 1}}",
            "<xport></xport>",
            "<rrd><ds><name>x</name></ds></rrd>",
            "<html>",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
