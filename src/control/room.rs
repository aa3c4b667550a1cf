//! Who has to go where there are too many callers. Pure.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::Instant;

use super::caller::Sees;

/// How many callers there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all,
    all: usize,
    /// and of one user.
    of_one: usize,
}

impl Limits {
    /// Where `files` may be open. Whoever lacks descriptors loses those that
    /// come with messages, and peers and servers need some too.
    #[must_use]
    pub fn of(files: u64) -> Self {
        let all = usize::try_from(files / 8).unwrap_or(usize::MAX);
        let all = all.clamp(8, 256);
        Self {
            all,
            of_one: all / 4,
        }
    }
}

/// A caller, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub place: usize,
    pub uid: u32,
    /// `None`: the kernel has not been asked yet.
    pub sees: Option<Sees>,
    /// A call of it is being answered.
    pub waits: bool,
    /// It has asked something. Who has just come may be about to.
    pub asked: bool,
    /// When bytes last moved.
    pub moved: Instant,
}

/// The place that one more caller of `uid` takes, if all `count` are too many.
///
/// A user that has its share gives up one of its own. Otherwise strangers go
/// first: whoever is root of a user namespace has as many users as he likes,
/// so their number says nothing. Among equals the user that has the most loses
/// the one that has been idle for the longest.
pub fn who_goes(
    callers: impl Iterator<Item = Standing>,
    count: usize,
    uid: u32,
    limits: Limits,
) -> Option<usize> {
    if count < limits.of_one {
        return None;
    }
    let callers: Vec<Standing> = callers.collect();
    let mut shares: HashMap<u32, usize> = HashMap::new();
    for caller in &callers {
        *shares.entry(caller.uid).or_default() += 1;
    }
    let share = |uid| shares.get(&uid).copied().unwrap_or(0);
    let has_its_share = share(uid) >= limits.of_one;
    if !has_its_share && callers.len() < limits.all {
        return None;
    }
    let theirs = callers
        .iter()
        .filter(|caller| !has_its_share || caller.uid == uid);
    let goes = theirs.max_by_key(|caller| {
        // A call that is being answered is worth more than one that may never come, and
        // the first one of somebody more than a further one.
        let idle = (!caller.waits, caller.asked, std::cmp::Reverse(caller.moved));
        (rank(caller.sees), share(caller.uid), idle)
    });
    goes.map(|caller| caller.place)
}

/// The higher, the sooner it goes.
fn rank(sees: Option<Sees>) -> u8 {
    match sees {
        Some(Sees::Nothing) => 3,
        None => 2,
        Some(Sees::Service(_) | Sees::Looks | Sees::Asks) => 1,
        // Those of operations are counted elsewhere.
        Some(Sees::Everything | Sees::Operation(_)) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::ServiceId;

    const LIMITS: Limits = Limits {
        all: 256,
        of_one: 64,
    };

    fn standing(place: usize, uid: u32, sees: Option<Sees>) -> Standing {
        Standing {
            place,
            uid,
            sees,
            waits: false,
            asked: true,
            moved: Instant::now(),
        }
    }

    fn goes(callers: &[Standing], uid: u32) -> Option<usize> {
        who_goes(callers.iter().copied(), callers.len(), uid, LIMITS)
    }

    #[test]
    fn where_files_are_few_so_are_callers() {
        let of = |files| {
            let Limits { all, of_one } = Limits::of(files);
            (all, of_one)
        };
        assert_eq!(of(u64::MAX), (256, 64));
        assert_eq!(of(1024), (128, 32));
        assert_eq!(of(128), (16, 4));
    }

    #[test]
    fn a_user_with_its_share_gives_up_its_idlest() {
        let mut own: Vec<Standing> = (0..LIMITS.of_one)
            .map(|place| standing(place, 7, Some(Sees::Everything)))
            .collect();
        own[5].moved += Duration::from_secs(9);
        own[6].waits = true;
        let soonest = own.iter().filter(|c| !c.waits).min_by_key(|c| c.moved);
        assert_eq!(goes(&own, 7), soonest.map(|c| c.place));
        assert_eq!(goes(&own, 8), None);
        assert_eq!(goes(&own[1..], 7), None);
        // Its call is on the way, even where it came before the others had their answers.
        if let Some(new) = soonest.map(|c| c.place) {
            own[new].asked = false;
            assert!(goes(&own, 7).is_some_and(|place| place != new && place != 6));
        }
    }

    #[test]
    fn strangers_of_many_users_drive_no_operator_out() {
        let mut all: Vec<Standing> = (0..10)
            .map(|place| standing(place, 0, Some(Sees::Everything)))
            .collect();
        all.extend((10..20).map(|place| standing(place, 33, Some(Sees::Service(ServiceId(1))))));
        for place in all.len()..LIMITS.all {
            let uid = u32::try_from(place).unwrap_or(0) + 100_000;
            all.push(standing(place, uid, Some(Sees::Nothing)));
        }
        assert!(goes(&all, 1).is_some_and(|place| place >= 20));
        for stranger in &mut all[20..] {
            stranger.sees = None;
        }
        assert!(goes(&all, 1).is_some_and(|place| place >= 20));
        all.truncate(20);
        for place in all.len()..LIMITS.all {
            all.push(standing(place, 33, Some(Sees::Service(ServiceId(1)))));
        }
        assert!(goes(&all, 1).is_some_and(|place| place >= 10));
    }
}
