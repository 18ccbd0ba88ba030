use super::*;
use glasshive_event::Envelope;
use glasshive_event::record::{Body, Header};
use proptest::prelude::*;

const LOG: LogId = LogId([7; 16]);

fn record(seq: u64, text: &str) -> Vec<u8> {
    let body = Body::encode(&Envelope { kind: 4, ..Envelope::default() }, &serde_json::json!({"input": text})).unwrap();
    body.with_header(&Header { log: LOG, seq, wall_ns: seq as i64, mono_ns: 0, boot: [0; 16] })
}

fn chain_to(last: u64) -> [u8; 32] {
    (1..=last).fold([0; 32], |chain, seq| chain_hash(&chain, &leaf_hash(&record(seq, "x"))))
}

fn batch(range: std::ops::RangeInclusive<u64>) -> NodeBatch {
    let mut bytes = Vec::new();
    for seq in range.clone() {
        value::push(&mut bytes, &record(seq, "x"));
    }
    let first = *range.start();
    NodeBatch { node: "n".into(), net: "lab".into(), log: LOG, first, chain_before: chain_to(first - 1), bytes, received_ns: 1 }
}

fn high(seq: u64) -> HighWater {
    HighWater { seq, chain: chain_to(seq), ..fresh("n".into(), "lab".into(), LOG) }
}

fn run(batch: &NodeBatch, high: Option<&HighWater>) -> Result<Checked, Refused> {
    check(batch, high, |seq| Ok(Some(leaf_hash(&record(seq, "x")))))
}

fn refused(batch: &NodeBatch, high: Option<&HighWater>) -> AppendError {
    match run(batch, high) {
        Err(Refused::Append(e)) => e,
        other => panic!("{other:?}"),
    }
}

#[test]
fn from_the_start_then_on() {
    let first = run(&batch(1..=5), None).unwrap();
    assert_eq!((first.records, first.high.seq, first.high.chain), (5, 5, chain_to(5)));
    let next = run(&batch(6..=7), Some(&first.high)).unwrap();
    assert_eq!((next.records, next.blocks[0].0, next.high.chain, next.wall), (2, 6, chain_to(7), Some((6, 7))));
}

#[test]
fn overlap_is_compared_and_dropped() {
    let next = run(&batch(3..=8), Some(&high(5))).unwrap();
    assert_eq!((next.records, next.blocks[0].0, next.high.chain), (3, 6, chain_to(8)));
    let again = run(&batch(1..=5), Some(&high(5))).unwrap();
    assert_eq!((again.records, again.blocks.len(), again.high), (0, 0, high(5)));
    // What retention deleted cannot be compared; the chain still has to lead to our head.
    let gone = check(&batch(3..=8), Some(&high(5)), |_| Ok(None)).unwrap();
    assert_eq!(gone.records, 3);
}

#[test]
fn refusals() {
    assert_eq!(refused(&batch(2..=3), None), AppendError::Expected(1));
    assert_eq!(refused(&batch(7..=8), Some(&high(5))), AppendError::Expected(6));
    assert_eq!(refused(&NodeBatch { first: 0, ..batch(1..=1) }, None), AppendError::Expected(1));
    assert_eq!(refused(&NodeBatch { chain_before: [1; 32], ..batch(6..=7) }, Some(&high(5))), AppendError::Chain { seq: 6 });
    assert_eq!(refused(&NodeBatch { chain_before: [1; 32], ..batch(1..=2) }, None), AppendError::Chain { seq: 1 });
    let odd = NodeBatch { chain_before: [1; 32], ..batch(4..=7) };
    assert!(matches!(check(&odd, Some(&high(5)), |_| Ok(None)), Err(Refused::Append(AppendError::Chain { seq: 4 }))));
    assert_eq!(refused(&NodeBatch { node: "m".into(), ..batch(6..=7) }, Some(&high(5))), AppendError::Foreign { owner: "n".into() });
    for damage in [
        NodeBatch { bytes: Vec::new(), ..batch(6..=6) },
        NodeBatch { bytes: vec![0; 4], ..batch(6..=6) },
        NodeBatch { first: 6, ..batch(5..=5) },
        NodeBatch { node: String::new(), ..batch(6..=6) },
        NodeBatch { bytes: batch(6..=6).bytes.iter().copied().chain([0]).collect(), ..batch(6..=6) },
    ] {
        let high = HighWater { chain_known: false, node: damage.node.clone(), ..high(5) };
        assert!(matches!(refused(&damage, Some(&high)), AppendError::Damaged(_)), "{damage:?}");
    }
    let other = NodeBatch { log: LogId([8; 16]), ..batch(1..=1) };
    assert!(matches!(refused(&other, None), AppendError::Damaged(_)));
}

#[test]
fn another_record_under_a_stored_number_is_tampering() {
    let mut forged = batch(4..=6);
    forged.bytes.clear();
    for seq in 4..=6 {
        value::push(&mut forged.bytes, &record(seq, if seq == 5 { "y" } else { "x" }));
    }
    let result = run(&forged, Some(&high(5)));
    let Err(Refused::Tamper { seq, stored, received }) = result else { panic!("{result:?}") };
    assert_eq!((seq, stored, received), (5, leaf_hash(&record(5, "x")), record(5, "y")));
}

#[test]
fn after_a_gap_the_next_batch_brings_the_chain() {
    let gap = HighWater { seq: 9, chain: [0; 32], chain_known: false, ..high(5) };
    let next = run(&batch(10..=11), Some(&gap)).unwrap();
    assert_eq!((next.high.chain, next.high.chain_known), (chain_to(11), true));
}

#[test]
fn later_versions_are_kept_as_they_are() {
    let mut bytes = Vec::new();
    value::push(&mut bytes, b"\x02whatever a later build writes");
    let taken = run(&NodeBatch { bytes, ..batch(6..=6) }, Some(&high(5))).unwrap();
    assert_eq!((taken.records, taken.high.seq, taken.wall), (1, 6, None));
}

#[test]
fn blocks_are_bounded_and_the_records_untouched() {
    let batch = batch(1..=500);
    let taken = run(&batch, None).unwrap();
    let mut joined = Vec::new();
    for (first, bytes) in &taken.blocks {
        let view = value::BlockView::parse(bytes).unwrap();
        assert!(view.records.len() <= BLOCK_BYTES);
        assert_eq!(view.chain_before, chain_to(first - 1));
        joined.extend_from_slice(view.records);
    }
    assert!(taken.blocks.len() > 2);
    assert_eq!(joined, batch.bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::store::fuzz_cases()))]
    /// A mutated batch is refused or is byte for byte what the chain says.
    #[test]
    fn mutations(at in 0usize..2_000, byte: u8, first in 4u64..8) {
        let mut batch = batch(first..=9);
        let at = at % batch.bytes.len();
        let same = batch.bytes[at] == byte;
        batch.bytes[at] = byte;
        match run(&batch, Some(&high(5))) {
            Ok(taken) => prop_assert!(first <= 6 && (same || taken.high.chain != chain_to(9) || taken.high.seq != 9)),
            Err(Refused::Tamper { seq, .. }) => prop_assert!(seq <= 5 && !same),
            Err(_) => prop_assert!(first > 6 || !same),
        }
    }
}
