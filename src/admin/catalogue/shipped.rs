//! The operations that usherd brings along: `config/operations.d`, built in.
#![forbid(unsafe_code)]

/// File name and text of each, in the order in which they are read.
pub const SHIPPED: &[(&str, &str)] = &[
    (
        "accounts.toml",
        include_str!("../../../config/operations.d/accounts.toml"),
    ),
    (
        "authorisation.toml",
        include_str!("../../../config/operations.d/authorisation.toml"),
    ),
    (
        "drivers.toml",
        include_str!("../../../config/operations.d/drivers.toml"),
    ),
    (
        "files.toml",
        include_str!("../../../config/operations.d/files.toml"),
    ),
    (
        "firewall.toml",
        include_str!("../../../config/operations.d/firewall.toml"),
    ),
    (
        "network.toml",
        include_str!("../../../config/operations.d/network.toml"),
    ),
    (
        "packages.toml",
        include_str!("../../../config/operations.d/packages.toml"),
    ),
    (
        "remote_access.toml",
        include_str!("../../../config/operations.d/remote_access.toml"),
    ),
    (
        "statistics.toml",
        include_str!("../../../config/operations.d/statistics.toml"),
    ),
];

/// What a shipped file is called in complaints.
#[must_use]
pub fn shown_name(file: &str) -> String {
    format!("built-in operations.d/{file}")
}
