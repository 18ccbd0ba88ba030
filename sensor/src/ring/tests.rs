use super::verify::verify;
use super::*;
use crate::capture::{Pool, Snapshot, testing};
use crate::frames;
use glasshive_journal::disk::used_bytes;
use glasshive_pcapng::{Block, BlockReader};
use proptest::prelude::*;
use std::path::Path;
use std::sync::mpsc::sync_channel;

/// A directory in memory where there is one: these tests write much and sync often.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A UDP packet with a number, padded.
pub(crate) fn numbered(number: u32, padding: usize) -> Vec<u8> {
    let payload = [&number.to_be_bytes()[..], &vec![0xa5; padding]].concat();
    frames::frame(17, [10, 0, 0, (number % 3) as u8 + 1], [10, 0, 1, 1], 0, &frames::udp(1000 + (number % 5) as u16, 53, &payload))
}

/// Writes chunks through a ring's threads, to their end.
pub(crate) fn write(settings: RingSettings, chunks: impl IntoIterator<Item = Vec<(i64, Vec<u8>)>>) -> (Recovered, Snapshot) {
    let counters = Arc::new(Counters::default());
    let ring = Ring::open(settings, Arc::clone(&counters)).unwrap();
    let recovered = ring.recovered().clone();
    let pool = Pool::new(4, 1 << 20);
    let (send, receive) = sync_channel(8);
    let handle = ring.start(receive).unwrap();
    for chunk in chunks {
        Counters::add(&counters.captured, chunk.len() as u64);
        send.send(To::Chunk(testing::chunk(&pool, &chunk))).unwrap();
    }
    drop(send);
    handle.finish();
    (recovered, counters.snapshot())
}

pub(crate) fn settings(dir: &Path) -> RingSettings {
    RingSettings::new(dir, "test0", 1)
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    let mut reader = BlockReader::new(bytes);
    let mut numbers = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        if let Block::Packet(packet) = block {
            numbers.push(u32::from_be_bytes(packet.data[42..46].try_into().unwrap()));
        }
    }
    numbers
}

#[test]
fn a_segment_is_published_hashed_indexed_and_readable() {
    let dir = scratch();
    let chunks: Vec<Vec<_>> =
        (0..4u32).map(|chunk| (0..100).map(|n| (i64::from(chunk * 100 + n) + 5, numbered(chunk * 100 + n, 30))).collect()).collect();
    let (_, counts) = write(settings(dir.path()), chunks);
    assert_eq!((counts.written, counts.ring_dropped), (400, 0));
    let ring = RingDir::new(dir.path());
    let segments = ring.segments().unwrap();
    assert_eq!(segments.len(), 1);
    assert!(!segments[0].hidden);
    let bytes = std::fs::read(ring.segment(1)).unwrap();
    assert_eq!(numbers(&bytes), (0..400).collect::<Vec<_>>());
    let mut reader = BlockReader::new(&bytes[..]);
    let mut last = None;
    while let Some(block) = reader.next_block().unwrap() {
        last = Some(matches!(block, Block::Statistics(_)));
    }
    assert_eq!(last, Some(true));
    let meta = ring.meta(1).unwrap();
    use sha2::Digest as _;
    assert_eq!(meta.sha256, glasshive_event::text::hex(&sha2::Sha256::digest(&bytes)));
    assert_eq!((meta.packets, meta.bytes, meta.recovered), (400, bytes.len() as u64, false));
    assert_eq!((meta.first.unwrap().0, meta.last.unwrap().0), (5, 404));
    assert_eq!(verify(&ring, 1).unwrap().unwrap().faults, Vec::<String>::new());
    // Changed anywhere, it is seen.
    for at in [50, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(ring.segment(1), &changed).unwrap();
        assert!(!verify(&ring, 1).unwrap().unwrap().faults.is_empty(), "{at}");
    }
    std::fs::write(ring.segment(1), &bytes).unwrap();
    // Without index and note, the next start makes them again.
    let index = std::fs::read(ring.index(1)).unwrap();
    std::fs::remove_file(ring.index(1)).unwrap();
    std::fs::remove_file(ring.meta_path(1)).unwrap();
    write(settings(dir.path()), []);
    assert_eq!(std::fs::read(ring.index(1)).unwrap(), index);
    assert_eq!(ring.meta(1).unwrap().sha256, meta.sha256);
}

#[test]
fn the_quota_holds_and_the_oldest_goes_first() {
    let dir = scratch();
    let settings = RingSettings { quota: 40 << 20, segment_bytes: 4 << 20, ..settings(dir.path()) };
    let chunks = (0..80u32).map(|chunk| (0..900).map(|n| (i64::from(chunk * 1000 + n), numbered(chunk * 1000 + n, 1000))).collect());
    let mut most = 0;
    let (_, counts) = write(settings, chunks.inspect(|_: &Vec<_>| most = most.max(used_bytes(dir.path()).unwrap())));
    assert!(most <= 44 << 20, "{most}: a segment over the quota at most");
    assert_eq!((counts.written, counts.ring_dropped), (72_000, 0));
    let ring = RingDir::new(dir.path());
    let (segments, purged) = (ring.segments().unwrap(), ring.purged());
    assert!(purged.segments >= 10 && purged.segments == counts.purged_segments);
    assert_eq!(segments[0].serial, purged.segments + 1);
    assert!(segments.len() >= 6, "far more than needed was deleted: {}", segments.len());
    let last = numbers(&std::fs::read(ring.segment(segments.last().unwrap().serial)).unwrap());
    assert_eq!(last.last(), Some(&79_899));
}

#[test]
fn what_is_too_old_goes() {
    let dir = scratch();
    write(settings(dir.path()), [vec![(5, numbered(1, 0))]]);
    let ring = RingDir::new(dir.path());
    assert_eq!(ring.segments().unwrap().len(), 1);
    let counters = Arc::new(Counters::default());
    let (send, receive) = sync_channel(1);
    let handle =
        Ring::open(RingSettings { max_age: Duration::from_secs(1), ..settings(dir.path()) }, counters).unwrap().start(receive).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !ring.segments().unwrap().is_empty() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    // The writer ends with its channel: also when an assertion fails.
    drop(send);
    handle.finish();
    assert_eq!((ring.segments().unwrap().len(), ring.purged().segments), (0, 1));
}

/// What a kill leaves: hidden segments, some empty or garbage, indexes of nothing, files of a write cut short.
#[test]
fn leftovers_are_put_in_order() {
    let dir = scratch();
    let ring = RingDir::new(dir.path());
    write(settings(dir.path()), [(0..50).map(|n| (i64::from(n), numbered(n, 10))).collect()]);
    let whole = std::fs::read(ring.segment(1)).unwrap();
    std::fs::write(ring.hidden(2), &whole[..whole.len() - 200]).unwrap();
    std::fs::write(ring.hidden(3), &whole[..120]).unwrap();
    std::fs::write(ring.hidden(4), b"").unwrap();
    std::fs::write(ring.hidden(5), vec![0; 10_000]).unwrap();
    std::fs::write(ring.hidden(1), &whole[..500]).unwrap();
    std::fs::write(ring.index(9), b"x").unwrap();
    std::fs::write(ring.meta_path(8), b"{}").unwrap();
    std::fs::write(dir.path().join("00000000000000000001.json.tmp"), b"{").unwrap();
    let (recovered, counts) = write(settings(dir.path()), [vec![(99, numbered(777, 0))]]);
    assert_eq!((recovered.kept, recovered.next), (1, 6));
    assert_eq!(counts.cut_bytes, recovered.cut_bytes);
    assert!(recovered.cut_bytes >= 10_000);
    let names: Vec<u64> = ring.segments().unwrap().iter().map(|segment| segment.serial).collect();
    assert_eq!(names, [1, 2, 6]);
    assert!(ring.meta(2).unwrap().recovered && !ring.meta(1).unwrap().recovered);
    assert_eq!(ring.losses().iter().map(|span| span.cause.as_str()).collect::<Vec<_>>(), ["ring_cut"]);
    for serial in names {
        assert_eq!(verify(&ring, serial).unwrap().unwrap().faults, Vec::<String>::new(), "{serial}");
    }
    assert_eq!(std::fs::read(ring.segment(1)).unwrap(), whole);
    let stray = std::fs::read_dir(dir.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
        name.starts_with('.') || name.ends_with(".tmp")
    });
    assert_eq!(stray.count(), 0);
}

#[test]
fn a_directory_that_cannot_be_written_costs_packets_and_is_counted() {
    let dir = scratch();
    let counters = Arc::new(Counters::default());
    let path = dir.path().join("ring");
    let ring = Ring::open(settings(&path), Arc::clone(&counters)).unwrap();
    let (send, receive) = sync_channel(8);
    let handle = ring.start(receive).unwrap();
    std::fs::remove_dir(&path).unwrap();
    let pool = Pool::new(4, 1 << 20);
    send.send(To::Chunk(testing::chunk(&pool, &[(1, numbered(1, 0)), (2, numbered(2, 0))]))).unwrap();
    drop(send);
    let watch = handle.watch();
    handle.finish();
    assert_eq!((counters.snapshot().ring_dropped, counters.snapshot().written), (2, 0));
    let lost = watch.losses().take();
    assert_eq!(lost.iter().map(|(cause, span)| (cause.name(), span.count)).collect::<Vec<_>>(), [("ring", 2)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases().min(1_000)))]
    /// Cut anywhere, or changed anywhere: the whole packets before it are kept, byte for byte.
    #[test]
    fn an_unfinished_segment_keeps_its_whole_packets(cut in any::<prop::sample::Index>(), change in prop::option::of((any::<prop::sample::Index>(), 1u8..=255))) {
        thread_local! { static WHOLE: (tempfile::TempDir, Vec<u8>) = {
            let dir = scratch();
            write(settings(dir.path()), [(0..40).map(|n| (i64::from(n), numbered(n, (n * 7 % 50) as usize))).collect()]);
            let bytes = std::fs::read(RingDir::new(dir.path()).segment(1)).unwrap();
            (scratch(), bytes)
        }; }
        WHOLE.with(|(dir, whole)| {
            let ring = RingDir::new(dir.path());
            let mut bytes = whole[..cut.index(whole.len() + 1)].to_vec();
            if let (Some((at, flip)), false) = (change, bytes.is_empty()) {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            std::fs::write(ring.hidden(1), &bytes).unwrap();
            let found = recover::recover(&ring).unwrap();
            let kept = std::fs::read(ring.segment(1)).unwrap_or_default();
            let _ = std::fs::remove_file(ring.segment(1));
            prop_assert!(bytes.starts_with(&kept));
            prop_assert_eq!(found.kept, u64::from(!kept.is_empty()));
            // Every byte is kept or counted, but for a head without packets.
            prop_assert!(kept.len() as u64 + found.cut_bytes == bytes.len() as u64 || found.packets == 0);
            if change.is_none() {
                let expected = walk::packets(bytes.get(kept_head(whole)..).unwrap_or_default()).count();
                prop_assert_eq!(found.packets as usize, expected);
            }
            Ok(())
        })?;
    }
}

/// Bytes before the first packet.
fn kept_head(whole: &[u8]) -> usize {
    let mut at = 0;
    while let walk::Step::Block { kind, length } = walk::step(&whole[at..]) {
        if kind == glasshive_pcapng::block_type::PACKET {
            break;
        }
        at += length;
    }
    at
}
