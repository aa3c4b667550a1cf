//! `status`: a page for people that shows what usherd does at this moment.
//!
//! [`snapshot`] is the figures and their JSON, [`page`] the same as HTML. Both
//! are pure: the front fills a [`Snapshot`] when somebody asks for one. The page
//! is whole without its script; with it, it keeps itself up to date.
#![forbid(unsafe_code)]

pub mod page;
pub mod snapshot;

pub use snapshot::Snapshot;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// What a browser may load and run for the page: the style and the script that
/// are in it, known by their SHA-256, and news from where it came from.
pub const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-ENbLzTKv/zzy5NGHPBxXsUZi207nD6/CFFb/sQ509hk='; \
    script-src 'sha256-H0lBRs3MKIRkYDFR9YH/9LKQzG6AteaE1fzqG0EY4rw='; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// SHA-256 in base64, by programs that every host has.
    fn hash(text: &str) -> String {
        let script =
            "sha256sum | cut -c 1-64 | tr -d '\\n' | tr a-f A-F | basenc --base16 -d | base64";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        let output = shell.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn the_policy_allows_the_style_and_the_script_as_they_are() {
        for (directive, text) in [("style-src", STYLE), ("script-src", SCRIPT)] {
            let wanted = format!("{directive} 'sha256-{}';", hash(text));
            assert!(POLICY.contains(&wanted), "write {wanted} into POLICY");
            // A browser would read another text than was hashed.
            assert!(!text.contains(['\r', '\0']) && !text.contains("</"));
        }
    }
}
