//! Texts that appear under the pointer: a grid over the drawing with a text for each cell.

use serde::Serialize;

/// Texts to show under the pointer, taken from the data table or from texts of the cells.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Hover {
    /// Edges of the columns, in pixels from the left.
    x: Edges,
    /// Edges of the rows, in pixels from the top; without edges, a single row has the height of the
    /// plot.
    y: Edges,
    /// Name of each column. Without names, the texts come from the data table, which has a row for
    /// each column of the grid and, if there are several rows, a cell for each of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    /// Whether the names are those of edges: a column extends from its own edge to the next.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    between: bool,
    /// Texts of each row: columns are separated by `;`. The words that replace `{1}`, `{2}` … are
    /// separated by `|`. A count after `*` repeats the text for that many columns. Omitted words,
    /// except the first, are those of the previous column.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cells: Vec<String>,
    /// Sentence to fill in; `{0}` is the name of the column.
    #[serde(skip_serializing_if = "String::is_empty")]
    says: String,
}

/// Edges of columns or rows: the start of each, and the end of the last.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Edges {
    /// Equal widths, to the pixel: the first edge, the last edge, and the number of columns or
    /// rows.
    Even { from: i64, to: i64, count: usize },
    /// Every edge.
    Each(Vec<i64>),
}

impl Default for Edges {
    fn default() -> Self {
        Self::Each(Vec::new())
    }
}

impl Edges {
    fn of(edges: impl IntoIterator<Item = f64>) -> Self {
        let edges: Vec<f64> = edges.into_iter().collect();
        let count = edges.len().saturating_sub(1);
        let whole = |edge: &f64| edge.round() as i64;
        let (Some(first), Some(last)) = (edges.first(), edges.last()) else {
            return Self::default();
        };
        let at = |number: usize| first + (last - first) * number as f64 / count.max(1) as f64;
        if count > 2
            && edges.iter().enumerate().all(|(number, edge)| (edge - at(number)).abs() <= 1.0)
        {
            let (from, to) = (whole(first), whole(last));
            return Self::Even { from, to, count };
        }
        Self::Each(edges.iter().map(whole).collect())
    }
}

impl Hover {
    /// Returns a grid whose texts come from the data table.
    pub(crate) fn table(
        x: impl IntoIterator<Item = f64>,
        y: impl IntoIterator<Item = f64>,
    ) -> Self {
        Self { x: Edges::of(x), y: Edges::of(y), ..Self::default() }
    }

    /// Adds the names of the columns, the words of each cell, and the sentence to fill in.
    #[must_use]
    pub(crate) fn saying(
        mut self,
        names: Vec<String>,
        cells: Vec<Vec<String>>,
        says: impl Into<String>,
    ) -> Self {
        let joined = |row: Vec<String>| {
            let mut runs: Vec<(String, usize)> = Vec::new();
            for cell in row {
                match runs.last_mut() {
                    Some((last, count)) if *last == cell => *count += 1,
                    _ => runs.push((cell, 1)),
                }
            }
            let mut before: Vec<String> = Vec::new();
            let said = |(cell, count): (String, usize)| {
                let words: Vec<String> = cell.split('|').map(str::to_owned).collect();
                let short = words.iter().enumerate().map(|(place, word)| match before.get(place) {
                    Some(known) if place > 0 && known == word => "",
                    // An empty word would repeat the previous one.
                    _ if place > 0 && word.is_empty() => " ",
                    _ => word.as_str(),
                });
                let short = short.collect::<Vec<_>>().join("|");
                before = words;
                match count {
                    1 => short,
                    count => format!("{short}*{count}"),
                }
            };
            runs.into_iter().map(said).collect::<Vec<_>>().join(";")
        };
        (self.names, self.says) = (names, says.into());
        self.cells = cells.into_iter().map(joined).collect();
        self
    }

    /// Marks the names as those of edges; there is one more name than columns.
    #[must_use]
    pub(crate) fn between(mut self) -> Self {
        self.between = true;
        self
    }

    /// Returns the grid as JSON that is safe to embed in a page.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default().replace('<', "\\u003c")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hover_texts_omit_words_of_the_previous_text() {
        let cells =
            ["2|492", "3|492", "3|492", "maintenance", "1|492", "1|"].map(str::to_owned).to_vec();
        let names = (0..6).map(|name| name.to_string()).collect();
        let hover =
            Hover::table([0.0, 1.0], [0.0, 1.0]).saying(names, vec![cells], "{0}: {1} of {2}");
        assert_eq!(hover.cells, ["2|492;3|*2;maintenance;1|492;1| "]);
        assert!(
            !hover.json().contains("between")
                && hover.between().json().contains("\"between\":true")
        );
    }
}
