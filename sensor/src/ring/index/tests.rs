use super::*;
use crate::frames as packets;
use glasshive_event::Timestamp;
use glasshive_proto::layers::layers;
use proptest::prelude::*;
use std::collections::BTreeMap;

struct Made {
    dir: tempfile::TempDir,
    /// By key number: offsets.
    truth: BTreeMap<u64, Vec<u64>>,
    bytes: Vec<u8>,
}

/// An index in `parts` parts over packets between few hosts, and what must be found in it.
fn made(count: u64, parts: u64) -> Made {
    let mut truth: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let (mut bytes, mut builder, mut offset) = (Vec::new(), Builder::new(200), 200);
    for index in 0..count {
        let (a, b) = ([10, 0, 0, (index % 7) as u8], [10, 0, 1, (index % 5) as u8]);
        let (from, to) = (1000 + (index % 11) as u16, 53);
        let frame = packets::frame(17, a, b, 0, &packets::udp(from, to, &[0; 9]));
        let end = offset + 32 + (frame.len() as u64).next_multiple_of(4);
        builder.add(offset, end, Timestamp(index as i64), &layers(1, &frame));
        let id = glasshive_proto::community_id::community_id(17, a.into(), from, b.into(), to).unwrap();
        for key in [Key::Flow(&id), Key::Address(a.into()), Key::Address(b.into()), Key::Port(from), Key::Port(to)] {
            truth.entry(key.number()).or_default().push(offset);
        }
        offset = end;
        if parts > 0 && (index + 1) % count.div_ceil(parts) == 0 {
            bytes.extend(builder.finish());
        }
    }
    bytes.extend(builder.finish());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index"), &bytes).unwrap();
    Made { dir, truth, bytes }
}

fn all(index: &Index, key: &Key<'_>) -> Result<Vec<u64>, IndexDamage> {
    let mut found = Vec::new();
    for part in &index.parts {
        found.extend(index.find(part, key)?);
    }
    Ok(found)
}

#[test]
fn everything_is_found_and_nothing_else() {
    for parts in [1, 3] {
        let made = made(3000, parts);
        let index = Index::open(&made.dir.path().join("index")).unwrap().unwrap();
        assert_eq!((index.whole, index.length), (made.bytes.len() as u64, made.bytes.len() as u64));
        let mut looked_up = 0;
        for last in 0..7u8 {
            let key = Key::Address([10, 0, 0, last].into());
            assert_eq!(&all(&index, &key).unwrap(), made.truth.get(&key.number()).unwrap());
            for other in 0..5u8 {
                for port in 1000..1011 {
                    let id = glasshive_proto::community_id::community_id(17, [10, 0, 1, other].into(), 53, [10, 0, 0, last].into(), port)
                        .unwrap();
                    let expected = made.truth.get(&Key::Flow(&id).number()).cloned().unwrap_or_default();
                    assert_eq!(all(&index, &Key::Flow(&id)).unwrap(), expected);
                    looked_up += expected.len();
                }
            }
        }
        assert_eq!(looked_up, 3000);
        assert_eq!(all(&index, &Key::Port(53)).unwrap().len(), 3000);
        assert_eq!(all(&index, &Key::Port(54)).unwrap(), Vec::<u64>::new());
        assert_eq!(all(&index, &Key::Arp).unwrap(), Vec::<u64>::new());
        let times: Vec<Stretch> = index.parts.iter().flat_map(|part| index.times(part).unwrap()).collect();
        assert_eq!((times[0].offset, times[0].earliest), (200, Timestamp(0)));
        assert_eq!(times.last().unwrap().latest, Timestamp(2999));
        assert!(times.len() >= 4);
    }
}

#[test]
fn a_torn_index_keeps_its_whole_parts() {
    let made = made(600, 3);
    let path = made.dir.path().join("index");
    for cut in (0..made.bytes.len()).step_by(997) {
        std::fs::write(&path, &made.bytes[..cut]).unwrap();
        let index = Index::open(&path).unwrap().unwrap();
        assert!(index.whole <= cut as u64 && index.parts.len() < 4);
        for part in &index.parts {
            assert!(!index.find(part, &Key::Port(53)).unwrap().is_empty());
        }
    }
    assert!(Index::open(&made.dir.path().join("none")).unwrap().is_none());
}

#[test]
fn it_is_small() {
    // 5 % of the bytes for packets of 512.
    let (mut builder, mut offset) = (Builder::new(0), 0);
    for index in 0..20_000u64 {
        let frame = packets::frame(
            6,
            [10, 0, 0, (index % 31) as u8],
            [10, 0, 1, (index % 3) as u8],
            0,
            &[&[4, (index % 200) as u8, 0, 80][..], &[0; 474]].concat(),
        );
        let end = offset + 32 + frame.len() as u64;
        builder.add(offset, end, Timestamp(index as i64), &layers(1, &frame));
        offset = end;
    }
    let part = builder.finish();
    assert!(part.len() as u64 * 20 <= offset, "{} of {offset}", part.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases().min(20_000)))]
    /// A changed byte anywhere: found as before, or said to be damaged; never something else.
    #[test]
    fn a_changed_index_never_lies(at in any::<prop::sample::Index>(), flip in 1u8..=255, cut in any::<prop::sample::Index>(), whole in any::<bool>()) {
        thread_local! { static MADE: Made = made(300, 2); }
        MADE.with(|made| {
            let mut bytes = made.bytes.clone();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if !whole { bytes.truncate(cut.index(bytes.len())); }
            let path = made.dir.path().join("changed");
            std::fs::write(&path, &bytes).unwrap();
            let index = Index::open(&path).unwrap().unwrap();
            let key = Key::Address([10, 0, 0, 3].into());
            let truth = made.truth.get(&key.number()).unwrap();
            for part in &index.parts {
                let expected: Vec<u64> = truth.iter().copied().filter(|offset| *offset >= part.from && *offset < part.to).collect();
                if let Ok(found) = index.find(part, &key) {
                    prop_assert_eq!(found, expected);
                }
                let _ = index.times(part);
            }
            Ok(())
        })?;
    }
}
