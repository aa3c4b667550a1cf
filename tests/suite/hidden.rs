//! What a sandbox shows and hides, when the host replaces it.

use std::fs;

use crate::common::peer::hear;
use crate::common::*;
use crate::tests;

tests![
    a_hidden_file_that_is_replaced_stays_hidden,
    a_file_of_a_minimal_root_that_is_replaced_is_seen_anew,
];

/// As editors and passwd(1) do it.
fn replace(path: &str, content: &str) {
    let new = format!("{path}.new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, path).unwrap();
}

fn reader(port: u16, path: &str, isolation: &str) -> String {
    format!(
        "[service.reader]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\", \"{path}\"]\n\
         user = \"root\"\nisolation = {{ {isolation} }}\n"
    )
}

/// More often than sandboxes or parked children can have been made before.
const OFTEN: usize = 12;

fn a_hidden_file_that_is_replaced_stays_hidden() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let secret = dir.write("secret", "first");
    let isolation = format!("tmp = \"host\", hidden = [\"{secret}\"]");
    let _daemon = Daemon::start(&dir, &reader(port, &secret, &isolation));
    for round in 0..OFTEN {
        assert_eq!(hear(port), "", "round {round}");
        if round == OFTEN / 2 {
            replace(&secret, "second");
        }
    }
}

fn a_file_of_a_minimal_root_that_is_replaced_is_seen_anew() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let shown = dir.write("shown", "0");
    let isolation = format!("preset = \"strict\", visible = [\"{shown}\"]");
    let _daemon = Daemon::start(&dir, &reader(port, &shown, &isolation));
    for round in 0..OFTEN {
        assert_eq!(hear(port), round.to_string());
        replace(&shown, &(round + 1).to_string());
    }
}
