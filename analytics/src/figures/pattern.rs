//! Patterns, said in words: each finding is one plain sentence with its figures and its strength.

/// Something found in the samples that is more than chance.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What was found, in one sentence, for a reader.
    pub sentence: String,
    /// From 0 to 1: how far it stands out; findings are shown strongest first.
    pub strength: f64,
    /// Probability of seeing it by chance; always below the significance level of the search.
    pub p_value: f64,
    /// The figures in the sentence, by name.
    pub figures: Vec<(&'static str, f64)>,
}
