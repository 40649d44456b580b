//! Which reports are due, and for which period.
