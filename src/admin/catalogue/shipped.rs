//! The operations that usherd brings along: `config/operations.d`, built in.
#![forbid(unsafe_code)]

/// File name and text of each, in the order in which they are read.
pub const SHIPPED: &[(&str, &str)] = &[(
    "statistics.toml",
    include_str!("../../../config/operations.d/statistics.toml"),
)];

/// What a shipped file is called in complaints.
#[must_use]
pub fn shown_name(file: &str) -> String {
    format!("built-in operations.d/{file}")
}
