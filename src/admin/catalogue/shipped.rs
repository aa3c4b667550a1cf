//! The operations that usherd brings along: `config/operations.d`, built in.
#![forbid(unsafe_code)]

/// File name and text of one.
macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../config/operations.d/", $name)))),+]
    };
}

/// File name and text of each, in the order in which they are read.
pub const SHIPPED: &[(&str, &str)] = shipped![
    "accounts.toml",
    "audit.toml",
    "authorisation.toml",
    "backup.toml",
    "configuration.toml",
    "drivers.toml",
    "files.toml",
    "firewall.toml",
    "licences.toml",
    "network.toml",
    "packages.toml",
    "remote_access.toml",
    "resources.toml",
    "security.toml",
    "services.toml",
    "spam.toml",
    "statistics.toml",
];

/// What a shipped file is called in complaints.
#[must_use]
pub fn shown_name(file: &str) -> String {
    format!("built-in operations.d/{file}")
}
