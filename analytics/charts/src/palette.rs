//! Colours of all charts, for paper and for dark pages.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use plotters::style::RGBColor;

/// Purpose of a colour. Each has a distinct colour, from which its class can be derived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ink {
    /// Important text and lines.
    #[default]
    Ink,
    /// Secondary text, such as tick labels.
    Grey,
    /// Secondary marks, such as cells without tests.
    Mist,
    /// Grid lines.
    Hair,
    /// Background.
    Ground,
    /// The main line of the chart.
    Accent,
    /// Spread around the main line.
    Band,
    /// Success, as an area.
    Calm,
    /// Failed.
    Failed,
    /// Late.
    Late,
    /// Maintenance.
    Shade,
    /// Text on areas that are light on dark pages, too.
    Print,
    /// A step of the sequential scale, from low to high.
    Ramp(u8),
    /// A category, in the colours of Okabe and Ito.
    Category(u8),
}

/// Number of steps of the sequential scale.
pub const RAMP: u8 = 7;
/// Number of distinguishable categories.
pub const CATEGORIES: u8 = 6;

/// Class, colour on white, colour on dark.
type Entry = (&'static str, &'static str, &'static str);

const PLAIN: [Entry; 12] = [
    ("ink", "#16181D", "#ECEEF1"),
    ("grey", "#5B6068", "#A6ADB7"),
    ("mist", "#B4B9C0", "#59606A"),
    ("hair", "#DDE0E4", "#333942"),
    ("ground", "#FFFFFF", "#14171C"),
    ("accent", "#0A5FA8", "#6DB3EE"),
    ("band", "#CFE1F2", "#1F3E5A"),
    ("calm", "#A9C9E4", "#2F587B"),
    ("failed", "#C1350F", "#FF8A66"),
    ("late", "#E08E00", "#F2B544"),
    ("shade", "#EFF0F2", "#22262D"),
    ("print", "#101216", "#101216"),
];

const STEPS: [Entry; RAMP as usize] = [
    ("ramp0", "#F0F5FA", "#1A2530"),
    ("ramp1", "#D7E6F4", "#1F3549"),
    ("ramp2", "#B3D0E9", "#254661"),
    ("ramp3", "#86B5DB", "#2B5A80"),
    ("ramp4", "#5D9CCE", "#326F9A"),
    ("ramp5", "#2A6DAE", "#7DB5DE"),
    ("ramp6", "#124C8A", "#B5D8F2"),
];

const KINDS: [Entry; CATEGORIES as usize] = [
    ("cat0", "#0072B2", "#4FA8DC"),
    ("cat1", "#E69F00", "#E69F00"),
    ("cat2", "#009E73", "#2DBE95"),
    ("cat3", "#CC79A7", "#D892B8"),
    ("cat4", "#56B4E9", "#8CCDF2"),
    ("cat5", "#D55E00", "#F0803A"),
];

impl Ink {
    fn entry(self) -> Entry {
        match self {
            Self::Ink => PLAIN[0],
            Self::Grey => PLAIN[1],
            Self::Mist => PLAIN[2],
            Self::Hair => PLAIN[3],
            Self::Ground => PLAIN[4],
            Self::Accent => PLAIN[5],
            Self::Band => PLAIN[6],
            Self::Calm => PLAIN[7],
            Self::Failed => PLAIN[8],
            Self::Late => PLAIN[9],
            Self::Shade => PLAIN[10],
            Self::Print => PLAIN[11],
            Self::Ramp(step) => STEPS[usize::from(step.min(RAMP - 1))],
            Self::Category(kind) => KINDS[usize::from(kind % CATEGORIES)],
        }
    }

    /// Returns the colour on white, `#RRGGBB`.
    pub fn hex(self) -> &'static str {
        self.entry().1
    }

    /// Returns the ink for readable text on an area of this ink, on light and dark pages.
    pub fn text_on(self) -> Self {
        match self {
            Self::Ramp(5..)
            | Self::Category(0)
            | Self::Accent
            | Self::Failed
            | Self::Ink
            | Self::Grey => Self::Ground,
            Self::Category(_) | Self::Late => Self::Print,
            _ => Self::Ink,
        }
    }

    /// Returns the class of elements in this ink.
    pub(super) fn class(self) -> &'static str {
        self.entry().0
    }

    pub(super) fn rgb(self) -> RGBColor {
        let part = |at: usize| {
            let digits = self.hex().get(at..at + 2).unwrap_or("00");
            u8::from_str_radix(digits, 16).unwrap_or(0)
        };
        RGBColor(part(1), part(3), part(5))
    }
}

fn entries() -> impl Iterator<Item = Entry> {
    PLAIN.into_iter().chain(STEPS).chain(KINDS)
}

/// Colours in which some are replaced by those of a theme.
#[derive(Debug, Clone, Default)]
pub struct Palette {
    /// Class, default colour on white, theme colour on white, theme colour on dark.
    own: Vec<(&'static str, &'static str, String, String)>,
}

impl Palette {
    /// Creates a palette from colours by class (`accent`, `ramp3`), each on white and on dark,
    /// `#rrggbb`; other classes keep their defaults.
    pub fn new(colours: &BTreeMap<String, (String, String)>) -> Self {
        let own = entries()
            .filter_map(|(class, light, _)| {
                let (own_light, own_dark) = colours.get(class)?;
                Some((class, light, own_light.clone(), own_dark.clone()))
            })
            .collect();
        Self { own }
    }

    /// Recolours a drawing.
    pub fn recolour<'a>(&self, svg: &'a str) -> Cow<'a, str> {
        if self.own.is_empty() {
            return Cow::Borrowed(svg);
        }
        // Only complete attribute values are colours: a text may look like one.
        let mut out = String::with_capacity(svg.len());
        let mut rest = svg;
        while let Some(at) = rest.find("=\"#") {
            let (before, value) = rest.split_at(at + 2);
            out.push_str(before);
            let own = (value.as_bytes().get(7) == Some(&b'"'))
                .then(|| self.own.iter().find(|(_, usual, ..)| value.get(..7) == Some(*usual)))
                .flatten();
            match own {
                Some((_, _, light, _)) => {
                    out.push_str(light);
                    rest = &value[7..];
                }
                None => rest = value,
            }
        }
        out.push_str(rest);
        Cow::Owned(out)
    }

    /// Returns [`dark_rules`] in these colours.
    pub fn dark_rules(&self, scope: &str) -> String {
        let mut rules = dark_rules(scope);
        for (class, _, _, dark) in &self.own {
            // Writing to a `String` can't fail.
            let _ = writeln!(
                rules,
                "{scope} .{class} {{ fill: {dark}; }} {scope} .{class}-line {{ stroke: {dark}; }}"
            );
        }
        rules
    }
}

/// Returns style rules that recolour charts on dark pages: areas and texts have the class of their
/// ink (`accent`), lines the same class with `-line` (`accent-line`). Each selector starts with
/// `scope`, such as `figure`.
pub fn dark_rules(scope: &str) -> String {
    let mut rules = String::new();
    for (class, _, dark) in entries() {
        // Writing to a `String` can't fail.
        let _ = writeln!(
            rules,
            "{scope} .{class} {{ fill: {dark}; }} {scope} .{class}-line {{ stroke: {dark}; }}"
        );
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_inks_share_a_colour() {
        let mut colours: Vec<_> = entries().map(|entry| entry.1).collect();
        let all = colours.len();
        colours.sort_unstable();
        colours.dedup();
        assert_eq!(colours.len(), all);
    }

    fn luminance(hex: &str) -> f64 {
        let part = |at: usize| {
            let value =
                f64::from(u8::from_str_radix(&hex[at..at + 2], 16).expect("our own colours"))
                    / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// Contrast ratio as defined by WCAG 2.2, 1.4.3.
    #[test]
    fn text_has_enough_contrast_on_light_and_dark_pages() {
        let areas = (0..RAMP).map(Ink::Ramp).chain((0..CATEGORIES).map(Ink::Category)).chain([
            Ink::Ground,
            Ink::Band,
            Ink::Calm,
            Ink::Shade,
            Ink::Late,
            Ink::Failed,
            Ink::Accent,
        ]);
        for area in areas {
            let (_, light, dark) = area.entry();
            let (_, text_light, text_dark) = area.text_on().entry();
            for (area_colour, text_colour) in [(light, text_light), (dark, text_dark)] {
                let contrast = contrast(area_colour, text_colour);
                assert!(contrast >= 4.5, "{text_colour} on {area_colour}, {area:?}: {contrast}");
            }
        }
        for text in [Ink::Ink, Ink::Grey, Ink::Accent, Ink::Failed] {
            for (ground_light, ground_dark) in
                [(PLAIN[4].1, PLAIN[4].2), (PLAIN[10].1, PLAIN[10].2)]
            {
                let (_, light, dark) = text.entry();
                assert!(contrast(light, ground_light) >= 4.5, "{text:?} by day");
                assert!(contrast(dark, ground_dark) >= 4.5, "{text:?} by night");
            }
        }
    }
}
