//! One event a line.
