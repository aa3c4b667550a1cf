//! `pam`: a service of PAM, for an account that PAM can know.
#![forbid(unsafe_code)]

use std::path::Path;

use super::{Check, Draft};
use crate::table::host::Found;

/// Where PAM looks for its services.
const FOLDERS: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

impl Check<'_> {
    pub(super) fn pam(&mut self, draft: Draft<'_>) -> Option<String> {
        let pam = draft.pick(|k| &k.pam)?;
        if !self.host.root {
            let fault = draft.fault("to open a PAM session needs root");
            self.complain(pam.place, fault);
        }
        if pam.value.contains('/') {
            let problem = format!("\"{}\" can be no PAM service", pam.value);
            let help = format!("the name of a file in {}", FOLDERS[0]);
            self.complain(pam.place, draft.fault(&problem).help(help));
        }
        if draft
            .value(|k| &k.user)
            .is_some_and(|user| user == super::exec::DYNAMIC)
        {
            let problem = "PAM knows no dynamic user";
            let help = "name an account in `user`, or leave `pam` out";
            self.complain(pam.place, draft.fault(problem).help(help));
        }
        if draft.enabled() && self.host.root {
            self.session_can_open(draft, &pam);
        }
        Some(pam.value.clone())
    }

    fn session_can_open(&mut self, draft: Draft<'_>, pam: &super::Picked<'_, String>) {
        if let Some(why) = (self.host.lack_of_pam)() {
            let help =
                "install it (Debian: libpam0g); the service is blocked until a reload finds it";
            self.warn(pam.place, draft.fault(&why).help(help));
        }
        let mut files = FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join(pam.value));
        if !files.any(|file| self.look(&file) != Found::Nothing) {
            let problem = format!("there is no {}/{} now", FOLDERS[0], pam.value);
            let help =
                "PAM goes by its service \"other\" until it is there, which usually lets nobody in";
            self.warn(pam.place, draft.fault(&problem).help(help));
        }
    }
}
