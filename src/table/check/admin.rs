//! `admin`: what servers of a service may ask for, and whether they could.
#![forbid(unsafe_code)]

use super::{Check, Draft};
use crate::admin::catalogue::Catalogue;
use crate::table::Grant;
use crate::table::complaint::{At, Fault};
use crate::table::isolation::{Family, Isolation};
use crate::table::schema::RawService;

impl Check<'_> {
    pub(super) fn admin(&mut self, draft: Draft<'_>, isolation: &Isolation) -> Vec<Grant> {
        let Some(given) = draft.pick(|k| &k.admin) else {
            return Vec::new();
        };
        let families = isolation.address_families.as_ref();
        let lacks_unix = families.is_some_and(|kept| !kept.contains(&Family::Unix));
        if lacks_unix && !given.value.is_empty() {
            let problem = "`admin` is asked for over a Unix socket, which its `isolation` forbids";
            let help = "add \"unix\" to isolation.address_families";
            self.complain(given.place, draft.fault(problem).help(help));
        }
        given.value.iter().map(|at| at.value.clone()).collect()
    }

    /// Whether the catalogue has what services are to ask for.
    pub(super) fn grants(&mut self, services: &[RawService], catalogue: &Catalogue) {
        for raw in services {
            for At { value, place } in raw.keys.admin.iter().flat_map(|at| &at.value) {
                let checked = catalogue
                    .for_services(&value.operation)
                    .and_then(|operation| {
                        let mut with = value.with.iter();
                        with.try_for_each(|(name, globs)| operation.can_narrow(name, globs))?;
                        Ok(operation)
                    });
                let whose = format!("service \"{}\"", raw.name.value);
                match checked {
                    Err(mut fault) => {
                        fault.problem = format!("{whose}: {}", fault.problem);
                        self.complain(*place, fault);
                    }
                    Ok(operation) if !operation.enabled && operation.unmet.is_none() => {
                        let problem = format!(
                            "{whose}: operation \"{}\" is switched off, and is refused",
                            operation.name
                        );
                        let help = "its entry in the catalogue has `enabled = false`";
                        self.warn(*place, Fault::new(problem).help(help));
                    }
                    Ok(_) => {}
                }
            }
        }
    }
}
