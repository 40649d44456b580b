//! The figures of the contracts, exact; a file a family. Knows no report.
