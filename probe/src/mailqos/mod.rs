//! The mail test, kind `mail-qos`: from its start to its sample.
