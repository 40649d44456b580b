//! Brings files to their targets. Knows nothing but files.
