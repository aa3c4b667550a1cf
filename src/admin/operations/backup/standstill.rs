//! Servers that write to a state stand still: those of the service that was named, and
//! those of others that have the same.
#![forbid(unsafe_code)]

use serde_json::json;

use crate::admin::operations::{Failed, Usherd};

/// Has to be ended; usherd does that for who forgets it by its end.
#[must_use]
pub struct Standstill<'a> {
    services: &'a [String],
    /// Servers that stand still.
    pub running: u64,
}

impl<'a> Standstill<'a> {
    pub fn begin(services: &'a [String], usherd: &mut dyn Usherd) -> Result<Self, Failed> {
        let mut running = 0;
        for (at, service) in services.iter().enumerate() {
            match usherd.call("Freeze", json!({ "service": service })) {
                Ok(frozen) => running += frozen["instances"].as_u64().unwrap_or(0),
                Err(failed) => {
                    let begun = services.get(..at).unwrap_or_default();
                    let _ = thaw(begun, false, usherd);
                    return Err(failed);
                }
            }
        }
        Ok(Self { services, running })
    }

    /// Whether all stood still up to now. `renewed`: what starts from now on finds another state.
    pub fn end(self, renewed: bool, usherd: &mut dyn Usherd) -> Result<bool, Failed> {
        thaw(self.services, renewed, usherd)
    }
}

/// All of them, whatever becomes of one.
fn thaw(services: &[String], renewed: bool, usherd: &mut dyn Usherd) -> Result<bool, Failed> {
    let thawed: Vec<_> = services
        .iter()
        .map(|service| {
            let what = json!({ "service": service, "renewed": renewed });
            let thawed = usherd.call("Thaw", what)?;
            Ok(thawed["was_frozen"].as_bool() == Some(true))
        })
        .collect();
    let thawed: Result<Vec<bool>, Failed> = thawed.into_iter().collect();
    Ok(thawed?.into_iter().all(|one| one))
}
