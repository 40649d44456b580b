//! Charts: data in, SVG out; a file each. Knows no report and no figure.
