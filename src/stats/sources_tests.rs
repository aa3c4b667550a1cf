#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn host(n: u32) -> IpAddr {
    IpAddr::V4(n.into())
}

impl Sources {
    fn assert_sound(&self) {
        assert_eq!(self.places.len(), self.entries.len());
        assert!(self.entries.len() <= usize::from(self.limit));
        for (place, entry) in (0_u16..).zip(&self.entries) {
            assert_eq!(self.places.get(&entry.key), Some(&place));
            assert!(entry.error <= entry.weight);
        }
        let weight = |rank: usize| self.entries[usize::from(self.heap[rank])].weight;
        for rank in 0..self.heap.len() {
            assert_eq!(
                usize::from(self.entries[usize::from(self.heap[rank])].rank),
                rank
            );
            assert!(weight(rank.saturating_sub(1) / 2) <= weight(rank));
        }
    }
}

#[test]
fn hosts_of_one_network_of_ipv6_are_one_source() {
    let (mut sources, now) = (Sources::default(), Instant::now());
    for ip in [
        "2001:db8::1",
        "2001:db8::ffff:2",
        "::ffff:192.0.2.1",
        "192.0.2.1",
    ] {
        sources.accept(ip.parse().unwrap(), now);
    }
    sources.refuse("2001:db8::3".parse().unwrap());
    sources.refuse("198.51.100.1".parse().unwrap());
    let busiest = sources.busiest(64);
    let counts: Vec<_> = busiest.iter().map(|c| (c.accepted, c.refused)).collect();
    assert_eq!(counts.len(), 2);
    assert!(counts.contains(&(2, 1)) && counts.contains(&(2, 0)));
}

#[test]
fn a_flood_of_sources_neither_grows_the_table_nor_pushes_out_who_comes_often() {
    let (mut sources, now) = (Sources::default(), Instant::now());
    for n in 0..16 {
        for _ in 0..2_000 {
            sources.accept(host(n), now);
        }
    }
    for n in 0..300_000 {
        sources.accept(host(1_000 + n), now);
    }
    assert_eq!(sources.entries.len(), usize::from(MAX_SOURCES));
    let busiest = sources.busiest(16);
    assert!(busiest.iter().all(|counted| counted.accepted == 2_000));
    let mut sources: Vec<_> = busiest.iter().map(|counted| counted.source).collect();
    sources.sort();
    assert_eq!(sources, (0..16).map(host).collect::<Vec<_>>());
}

#[test]
fn who_was_busy_long_ago_makes_room_for_who_is_busy_now() {
    let (mut sources, start) = (Sources::with_limit(4), Instant::now());
    for n in 0..4 {
        for _ in 0..1_000 {
            sources.accept(host(n), start);
        }
    }
    let later = start + HALF_LIFE * 12;
    for _ in 0..3 {
        sources.accept(host(9), later);
    }
    let first = sources.busiest(1)[0];
    assert_eq!((first.source, first.accepted), (host(9), 3));
    sources.accept(host(8), later + HALF_LIFE * 10_000);
    sources.assert_sound();
}

proptest! {
    #[test]
    fn nobody_is_told_busier_than_he_was_and_nobody_busy_is_missed(
        requests in prop::collection::vec((0_u32..40, 0_u64..4), 1..600),
    ) {
        let (mut sources, start) = (Sources::with_limit(8), Instant::now());
        let mut exact = HashMap::new();
        for (n, _) in &requests {
            sources.accept(host(*n), start);
            *exact.entry(host(*n)).or_insert(0_u64) += 1;
        }
        sources.assert_sound();
        for entry in &sources.entries {
            let true_weight = exact[&entry.key] * WEIGHT;
            prop_assert!(entry.weight - entry.error <= true_weight);
            prop_assert!(true_weight <= entry.weight);
            prop_assert!(entry.accepted <= exact[&entry.key]);
        }
        let share = requests.len() as u64 / 8;
        for (source, count) in exact {
            prop_assert!(count <= share || sources.places.contains_key(&source));
        }
    }

    #[test]
    fn the_heap_stays_one_whenever_weights_are_halved(
        requests in prop::collection::vec((0_u32..40, 0_u64..400), 1..600),
    ) {
        let (mut sources, mut now) = (Sources::with_limit(8), Instant::now());
        for (n, seconds) in requests {
            now += Duration::from_secs(seconds);
            sources.accept(host(n), now);
            sources.assert_sound();
        }
    }
}
