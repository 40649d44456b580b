//! `mailqos-analytics stats --explain`: explains how a figure of one monitor is calculated, down to
//! its samples.

use std::process::ExitCode;

use mailqos_figures::explain::{Explanation, explanations, figure::Figure};

use crate::commands::{
    Failure, print,
    source::{Source, lake_failure},
    table::{Cell, Format, Table, json},
};

/// Explains a figure of a monitor at each of its sites.
///
/// # Errors
/// The lake can't be read.
pub(super) fn run(source: &Source, figure: &Figure, all: bool) -> Result<ExitCode, Failure> {
    let base = source.query(&source.period);
    let explanations =
        explanations(&source.lake, base, (figure, &source.period), all).map_err(lake_failure)?;
    source.remarks(explanations.is_empty());
    match source.format {
        Format::Json => print(json(&explanations)?)?,
        Format::Table => {
            for explanation in &explanations {
                print(explanation.text(" (--all shows all)"))?;
                print(table(std::slice::from_ref(explanation), false).bytes(Format::Table)?)?;
            }
        }
        format @ (Format::Csv | Format::Parquet) => table(&explanations, true).print(format)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(explanations: &[Explanation], whose: bool) -> Table {
    let mut columns = vec!["started_at", "outcome", "value_ms", "role", "stage", "error"];
    if whose {
        columns.splice(0..0, ["site", "monitor"]);
        columns.push("skipped_files");
    }
    let mut table = Table::new(columns);
    for of in explanations {
        for sample in &of.samples {
            let mut cells = vec![
                Cell::Text(sample.started_at.clone()),
                Cell::Text(sample.outcome.clone()),
                Cell::number(sample.value, 3),
                Cell::Text(sample.role.to_owned()),
                Cell::text(sample.stage.clone()),
                Cell::text(sample.error.clone()),
            ];
            if whose {
                cells.splice(0..0, [Cell::Text(of.site.clone()), Cell::Text(of.monitor.clone())]);
                cells.push(Cell::Count(of.skipped_files.len() as u64));
            }
            table.push(cells);
        }
    }
    table
}
