//! When a test starts.
