//! `driver.*`: modules of the kernel, by modprobe(8), which knows what they
//! need and what this host has been told about them (modprobe.d(5)).
#![forbid(unsafe_code)]

use std::fs;

use serde_json::{Value, json};

use super::tool::{Said, Tool};
use super::{Failed, Kind, Outcome, Request, Usherd, to};

const MODPROBE: Tool = Tool::new(&["/usr/sbin/modprobe", "/sbin/modprobe"], "kmod");

/// `driver.list`
pub fn list(_: &Request, _: &mut dyn Usherd) -> Outcome {
    Ok(json!({ "modules": modules()? }))
}

/// `driver.load`
pub fn load(request: &Request, _: &mut dyn Usherd) -> Outcome {
    change(request, &[], |is_there| is_there)
}

/// `driver.unload`
pub fn unload(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let module = request.parameters.text("module")?;
    let found = modules()?.into_iter().find(|known| is(known, module));
    let Some(found) = found else {
        let reason = format!("{module} is not loaded");
        return Err(Failed::new(Kind::NotFound, reason));
    };
    let uses = found["uses"].as_u64().unwrap_or(0);
    if uses > 0 {
        let reason = format!("{module} is in use ({uses}), by {}", found["used_by"]);
        return Err(Failed::new(Kind::Busy, reason));
    }
    change(request, &["--remove"], |is_there| !is_there)
}

fn change(request: &Request, options: &[&str], is_right: impl Fn(bool) -> bool) -> Outcome {
    let module = request.parameters.text("module")?;
    let before = modules()?;
    let mut args = options.to_vec();
    if request.dry_run {
        args.extend(["--dry-run", "--verbose"]);
    }
    args.extend(["--", module]);
    let said = MODPROBE.run(&args, b"")?;
    if said.code != 0 {
        return Err(tell(&said));
    }
    if request.dry_run {
        // "insmod /lib/modules/6.1.0/kernel/drivers/net/dummy.ko"
        let steps: Vec<&str> = said.out.lines().map(str::trim).collect();
        return Ok(json!({ "module": module, "would_run": steps }));
    }
    let after = modules()?;
    let is_there = after.iter().any(|known| is(known, module));
    // What is built into the kernel is not in the list, and modprobe is content.
    let is_built_in = !is_there && options.is_empty();
    if !is_right(is_there) && !is_built_in {
        let reason = format!("modprobe says that it is done, and {module} is as it was");
        return Err(Failed::new(Kind::Failed, reason));
    }
    let names = |all: &[Value], others: &[Value]| -> Vec<Value> {
        let new = all
            .iter()
            .filter(|one| !others.iter().any(|other| other["name"] == one["name"]));
        new.map(|one| one["name"].clone()).collect()
    };
    Ok(json!({
        "module": module,
        "loaded": names(&after, &before),
        "unloaded": names(&before, &after),
    }))
}

fn tell(said: &Said) -> Failed {
    let mut failed = MODPROBE.failed(said);
    let kinds = [
        ("not found", Kind::NotFound),
        ("in use", Kind::Busy),
        ("could not open moddep", Kind::Unavailable),
        ("Could not open moddep", Kind::Unavailable),
    ];
    // The last: a kernel without modules, or without those of its own version.
    let found = kinds
        .iter()
        .rev()
        .find(|(words, _)| said.err.contains(words));
    failed.kind = found.map_or(failed.kind, |(_, kind)| *kind);
    failed
}

/// `[{ name, size, uses, used_by: [NAME] }]`; none where the kernel has no modules.
fn modules() -> Result<Vec<Value>, Failed> {
    let text = match fs::read_to_string("/proc/modules") {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            let reason = "the kernel of this host is without modules";
            return Err(Failed::new(Kind::Unavailable, reason));
        }
        text => to("read /proc/modules", text)?,
    };
    Ok(text.lines().filter_map(parse).collect())
}

/// `dummy 16384 1 bonding,veth, Live 0x0000000000000000`
fn parse(line: &str) -> Option<Value> {
    let mut words = line.split_whitespace();
    let (name, size, uses, by) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let by = by
        .split(',')
        .filter(|name| !name.is_empty() && *name != "-");
    Some(json!({
        "name": name,
        "size": size.parse::<u64>().ok()?,
        // "-" where nothing can be unloaded.
        "uses": uses.parse::<u64>().unwrap_or(0),
        "used_by": by.collect::<Vec<_>>(),
    }))
}

/// To the kernel `-` and `_` are the same in names.
fn is(known: &Value, name: &str) -> bool {
    known["name"].as_str() == Some(&name.replace('-', "_"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_modules_is_read() {
        let module = parse("nf_tables 315392 2 nft_ct,nft_chain_nat, Live 0x0000000000000000");
        let wanted = json!({
            "name": "nf_tables", "size": 315_392, "uses": 2, "used_by": ["nft_ct", "nft_chain_nat"],
        });
        assert_eq!(module, Some(wanted));
        let alone = parse("dummy 16384 0 - Live 0xffffffffc0000000 (E)").unwrap();
        assert_eq!(alone["used_by"], json!([]));
        assert!(is(&module.unwrap(), "nf-tables"));
        assert_eq!(parse("odd"), None);
    }

    #[test]
    fn what_modprobe_complains_of_has_a_kind() {
        let kind = |err: &str| {
            let said = Said {
                code: 1,
                err: err.into(),
                ..Said::default()
            };
            tell(&said).kind
        };
        let missing = "modprobe: FATAL: Module x not found in directory /lib/modules/6.1.0";
        assert_eq!(kind(missing), Kind::NotFound);
        assert_eq!(kind("modprobe: FATAL: Module x is in use."), Kind::Busy);
        let none = "modprobe: ERROR: ../libkmod/libkmod.c:838 kmod_load_resources() could not open moddep file '/lib/modules/6.1.0/modules.dep.bin'\nmodprobe: FATAL: Module x not found";
        assert_eq!(kind(none), Kind::Unavailable);
        assert_eq!(
            kind("modprobe: ERROR: Operation not permitted"),
            Kind::Failed
        );
    }
}
