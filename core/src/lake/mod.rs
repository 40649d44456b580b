//! The sample lake: its layout, the Parquet schema of a sample, and how day files are written and read.
