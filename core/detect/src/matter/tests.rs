use super::*;
use crate::testing::{at, opened, opening, wire};
use proptest::prelude::*;

fn contact(seconds: f64, port: u16) -> Contact {
    let wire = wire("10.0.0.1:1000", &format!("10.0.0.2:{port}"));
    Contact::of(&opened(at(seconds), wire, opening(6)), 6).unwrap()
}

fn add(matters: &mut Matters<u8>, seconds: f64, port: u16, rule: &Rule) -> Option<Told> {
    matters.add(&1, Value::Port(port), contact(seconds, port), rule)
}

#[test]
fn it_opens_at_its_threshold_and_is_told_at_each_tenfold() {
    let rule = Rule::new(3, Duration::from_secs(60));
    let mut matters = Matters::new(16, Duration::from_secs(60));
    let told: Vec<Told> = (0..40).filter_map(|n| add(&mut matters, f64::from(n), n as u16, &rule)).collect();
    assert_eq!(told.iter().map(|one| (one.count, one.at, one.first)).collect::<Vec<_>>(), [(3, at(2.0), at(0.0)), (30, at(29.0), at(0.0))]);
    assert_eq!(told[0].scope(PacketMatch::default()).0.len(), 3);
    // What follows is one part, from where it opened.
    let scope = told[1].scope(PacketMatch::default());
    assert_eq!((scope.0.len(), scope.0[3].since, scope.0[3].until), (4, Some(at(2.0)), Some(at(29.0))));
    assert_eq!((told[1].flows.len(), told[1].flow_count, told[1].samples.len()), (30, 30, 30));
}

#[test]
fn only_the_latest_contact_of_a_value_counts_and_what_left_the_window_does_not() {
    let rule = Rule::new(3, Duration::from_secs(60));
    let mut matters = Matters::new(16, Duration::from_secs(60));
    assert!(add(&mut matters, 0.0, 1, &rule).is_none() && add(&mut matters, 30.0, 2, &rule).is_none());
    assert!(add(&mut matters, 70.0, 3, &rule).is_none(), "the first has left");
    assert!(add(&mut matters, 71.0, 2, &rule).is_none(), "the same value again");
    let told = add(&mut matters, 80.0, 4, &rule).unwrap();
    assert_eq!((told.first, told.count), (at(70.0), 3));
}

#[test]
fn the_first_window_that_holds_opens_it() {
    let rule = Rule { opens: vec![(3, Duration::from_secs(60)), (5, Duration::from_secs(86_400))], again: 3 };
    let mut matters = Matters::new(16, Duration::from_secs(86_400));
    let told: Vec<Told> = (0..6).filter_map(|n| add(&mut matters, f64::from(n) * 3_000.0, n as u16, &rule)).collect();
    assert_eq!((told.len(), told[0].count, told[0].window.as_secs()), (1, 5, 86_400));
}

#[test]
fn a_withdrawn_contact_does_not_count() {
    let rule = Rule::new(2, Duration::from_secs(60));
    let mut matters = Matters::new(16, Duration::from_secs(60));
    add(&mut matters, 0.0, 1, &rule);
    matters.withdraw(&1, &Value::Port(1), contact(5.0, 1).flow);
    matters.withdraw(&2, &Value::Port(1), None);
    assert!(matters.pending.get(&1).is_some(), "another flow's");
    matters.withdraw(&1, &Value::Port(1), contact(0.0, 1).flow);
    assert!(matters.pending.is_empty() && add(&mut matters, 1.0, 2, &rule).is_none());
}

#[test]
fn after_an_hour_of_silence_another_begins() {
    let rule = Rule::at_once();
    let mut matters = Matters::new(16, Duration::from_secs(60));
    assert!(add(&mut matters, 0.0, 1, &rule).is_some());
    assert!(add(&mut matters, 3_600.0, 2, &rule).is_none());
    let told = add(&mut matters, 7_200.5, 3, &rule).unwrap();
    assert_eq!((told.first, told.count), (at(7_200.5), 1));
    matters.tick(at(20_000.0));
    assert!(matters.open.is_empty() && matters.evicted() == 0);
}

#[test]
fn what_is_forgotten_for_want_of_room_is_counted() {
    let rule = Rule::new(2, Duration::from_secs(60));
    let mut matters: Matters<u16> = Matters::new(16, Duration::from_secs(60));
    for key in 0..20 {
        assert!(matters.add(&key, Value::Port(1), contact(0.1, 1), &rule).is_none());
    }
    assert_eq!((matters.pending.len(), matters.evicted()), (16, 4));
    for key in 0..20 {
        matters.add(&key, Value::Port(1), contact(0.2, 1), &Rule::at_once());
    }
    assert_eq!(matters.open.len(), 16);
    assert!(matters.evicted() >= 8);
}

#[test]
fn values_beyond_the_bound_are_at_least() {
    let rule = Rule::at_once();
    let mut matters = Matters::new(16, Duration::from_secs(60));
    let told: Vec<Told> = (0..u16::MAX).filter_map(|port| add(&mut matters, 1.0, port, &rule)).collect();
    assert_eq!(told.iter().map(|one| one.count).collect::<Vec<_>>(), [1, 10, 100, 1_000]);
    let open = matters.open.get(&1).unwrap();
    assert_eq!((open.count, open.told.at_least, open.told.flow_count), (MAX_VALUES, true, u64::from(u16::MAX)));
    assert_eq!(open.seen.capacity(), 0, "what is not counted any more takes no memory");
    assert_eq!(Told { at_least: true, count: 9, ..Told::none(at(0.0)) }.number(), "at least 9");
}

#[test]
fn parts_of_the_same_ends_are_one() {
    let wire = wire("10.0.0.1:1000", "10.0.0.2:80");
    let part = |since: f64| PacketMatch::tuple(6, wire, at(since), at(since));
    let all = merged([part(5.0), part(3.0), part(4.0)].into_iter(), at(9.0));
    assert_eq!(all, [PacketMatch::tuple(6, wire, at(3.0), at(9.0))]);
    assert_eq!(cut(&"ä".repeat(100)).len(), 128);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::testing::cases()))]

    #[test]
    fn any_order_is_answered_and_opens_only_with_enough_in_the_window(
        steps in proptest::collection::vec((0u32..200, 0u16..6, any::<bool>()), 0..60),
    ) {
        let rule = Rule::new(4, Duration::from_secs(60));
        let mut matters = Matters::new(16, Duration::from_secs(60));
        for (seconds, port, withdrawn) in steps {
            if let Some(told) = add(&mut matters, f64::from(seconds), port, &rule) {
                prop_assert!(told.count >= 4 && told.first <= told.at);
                if told.opens {
                    prop_assert!(told.at.0 - told.first.0 <= 60_000_000_000);
                    prop_assert_eq!(told.count, 4);
                }
            }
            if withdrawn {
                matters.withdraw(&1, &Value::Port(port), contact(f64::from(seconds), port).flow);
            }
            if let Some(pending) = matters.pending.get(&1) {
                prop_assert!(pending.contacts.len() < 4);
            }
        }
    }
}
