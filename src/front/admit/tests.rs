use super::*;
use crate::front::samples::{open_rules, per_second, prefix};
use crate::table::{Hours, SourcePrefix};

fn facts() -> Facts {
    Facts {
        now: Instant::now(),
        local: WeekTime::default(),
        load: 0.5,
    }
}

fn ip(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

#[test]
fn the_address_is_asked_before_the_hour_and_the_hour_before_any_count() {
    let mut rules = open_rules();
    rules.access.deny = vec![prefix("192.0.2.1/32")];
    rules.hours = vec![Hours {
        days: [true; 7],
        from: 60,
        until: 120,
    }];
    rules.per_source = Some(0);
    let tally = Tally::default();
    let mut facts = facts();
    let judge = |peer, facts: &Facts| tally.judge(&rules, peer, facts);
    assert_eq!(judge(ip(1), &facts), Err(Reason::AddressDenied));
    assert_eq!(judge(ip(2), &facts), Err(Reason::OutOfHours));
    assert_eq!(judge(None, &facts), Err(Reason::OutOfHours));
    facts.local.minute = 90;
    assert_eq!(judge(None, &facts), Ok(()));
}

#[test]
fn refused_peers_use_up_nothing() {
    let mut rules = open_rules();
    rules.access.deny = vec![prefix("192.0.2.0/25")];
    rules.rate = Some(per_second(1, 1));
    rules.rate_per_source = Some(per_second(1, 1));
    let (mut tally, facts) = (Tally::default(), facts());
    for _ in 0..1_000 {
        assert!(tally.judge(&rules, ip(1), &facts).is_err());
    }
    assert_eq!(tally.judge(&rules, ip(200), &facts), Ok(()));
    assert_eq!(tally.room(&rules, &facts), Ok(()));
    tally.begin(&rules, ip(200), facts.now);
    let room = tally.room(&rules, &facts);
    assert!(matches!(room, Err((Reason::ServiceRate, Some(_)))));
}

#[test]
fn one_source_does_not_take_the_place_of_another() {
    let mut rules = open_rules();
    rules.per_source = Some(2);
    rules.source_prefix = SourcePrefix { v4: 31, v6: 64 };
    let (mut tally, facts) = (Tally::default(), facts());
    tally.begin(&rules, ip(2), facts.now);
    tally.begin(&rules, ip(3), facts.now);
    let judge = |tally: &Tally, peer| tally.judge(&rules, peer, &facts);
    assert_eq!(judge(&tally, ip(2)), Err(Reason::SourceInstances));
    assert_eq!(judge(&tally, ip(4)), Ok(()));
    tally.end(&rules, ip(3));
    assert_eq!(judge(&tally, ip(2)), Ok(()));
}

#[test]
fn a_source_rate_is_per_source() {
    let mut rules = open_rules();
    rules.rate_per_source = Some(per_second(1, 2));
    let (mut tally, mut facts) = (Tally::default(), facts());
    tally.begin(&rules, ip(1), facts.now);
    tally.begin(&rules, ip(1), facts.now);
    let refused = Err(Reason::SourceRate);
    assert_eq!(tally.judge(&rules, ip(1), &facts), refused);
    assert_eq!(tally.judge(&rules, ip(2), &facts), Ok(()));
    facts.now += Duration::from_secs(1);
    assert_eq!(tally.judge(&rules, ip(1), &facts), Ok(()));
}

#[test]
fn a_full_service_says_when_to_ask_again() {
    let mut rules = open_rules();
    rules.instances = 1;
    rules.max_load = Some(2.0);
    let (mut tally, mut facts) = (Tally::default(), facts());
    assert_eq!(tally.room(&rules, &facts), Ok(()));
    tally.begin(&rules, None, facts.now);
    let until_exit = Err((Reason::Instances, None));
    assert_eq!(tally.room(&rules, &facts), until_exit);
    tally.end(&rules, None);
    facts.load = 2.0;
    let soon = facts.now + LOAD_INTERVAL;
    let loaded = Err((Reason::Load, Some(soon)));
    assert_eq!(tally.room(&rules, &facts), loaded);
}

#[test]
fn a_changed_prefix_counts_what_runs_again() {
    let mut rules = open_rules();
    rules.per_source = Some(1);
    let (mut tally, facts) = (Tally::default(), facts());
    tally.begin(&rules, ip(2), facts.now);
    rules.source_prefix.v4 = 24;
    tally.recount(&rules, [ip(2)].into_iter().flatten());
    let refused = Err(Reason::SourceInstances);
    assert_eq!(tally.judge(&rules, ip(9), &facts), refused);
    tally.end(&rules, ip(2));
    assert_eq!(tally.judge(&rules, ip(9), &facts), Ok(()));
}
