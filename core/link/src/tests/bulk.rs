//! Parts of blobs over the bulk connection.

use super::lab::{Lab, MemSource, Random, RunningNode, name, soon};
use crate::common::connect;
use crate::frame::{BulkRequest, MAX_FRAME, Message, Refused, RefusedWhy};
use crate::name::BlobName;
use crate::server::{FileError, FileStream, Range};
use crate::tls::{self, Channel};
use crate::wire::Wire;
use std::sync::Arc;
use std::time::Duration;

async fn connected(lab: &Lab) -> (RunningNode, MemSource, BlobName, Vec<u8>) {
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    let blob = Random(3).bytes(1_000_000);
    let blob_name: BlobName = "ab".repeat(32).parse().unwrap();
    source.put_blob(blob_name.as_str(), blob.clone());
    let node = lab.node(&dir, source.clone());
    until_bulk(lab).await;
    (node, source, blob_name, blob)
}

pub(super) async fn until_bulk(lab: &Lab) {
    let bulk = async {
        while !lab.server.status().iter().any(|node| node.bulk) {
            tokio::task::yield_now().await;
        }
    };
    soon("a bulk connection", bulk).await;
}

async fn get(lab: &Lab, blob: &BlobName, range: Range) -> Result<FileStream, FileError> {
    soon("an answer", lab.server.request_file(&name("edge"), blob, range)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_whole_in_part_and_several_at_once() {
    let lab = Lab::start().await;
    let (node, source, blob_name, blob) = connected(&lab).await;
    let all = async |range| soon("a file", get(&lab, &blob_name, range).await.unwrap().collect(2_000_000)).await;
    assert_eq!(all(Range::ALL).await.unwrap(), blob);
    assert_eq!(all(Range { offset: 999_990, len: None }).await.unwrap(), blob[999_990..]);
    assert_eq!(all(Range { offset: 10, len: Some(100_000) }).await.unwrap(), blob[10..100_010]);
    assert_eq!(all(Range { offset: 2_000_000, len: None }).await.unwrap(), b"");
    assert_eq!(all(Range { offset: 0, len: Some(0) }).await.unwrap(), b"");
    let too_much = get(&lab, &blob_name, Range::ALL).await.unwrap().collect(1_000);
    assert!(soon("a refusal", too_much).await.is_err());

    // Two at once, one of them held back: the other is not.
    let mut held = get(&lab, &blob_name, Range::ALL).await.unwrap();
    assert_eq!(all(Range::ALL).await.unwrap(), blob);
    let mut bytes = held.next().await.unwrap().unwrap().to_vec();
    while let Some(part) = held.next().await {
        bytes.extend_from_slice(&part.unwrap());
    }
    assert_eq!(bytes, blob);
    assert_eq!(held.total(), Some(1_000_000));

    // Records flow meanwhile, on their own connection.
    source.push(100);
    source.until_acked(100).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let lab = Lab::start().await;
    let (node, _source, blob_name, _) = connected(&lab).await;
    let missing: BlobName = "cd".repeat(32).parse().unwrap();
    let error = get(&lab, &missing, Range::ALL).await.unwrap().collect(1).await.unwrap_err();
    assert_eq!(error, FileError::Refused(name("edge"), RefusedWhy::NotFound));
    let error = lab.server.request_file(&name("gate"), &missing, Range::ALL).await.unwrap_err();
    assert_eq!(error.to_string(), "node gate is not connected");

    // Many under way: the next is refused, and dropping them makes room again.
    let mut open = vec![];
    loop {
        match get(&lab, &blob_name, Range::ALL).await {
            Ok(stream) => open.push(stream),
            Err(error) => {
                assert_eq!(error, FileError::Busy(name("edge")));
                break;
            }
        }
    }
    assert_eq!(open.len(), crate::common::REQUESTS);
    open.clear();
    let again = get(&lab, &blob_name, Range { offset: 0, len: Some(10) }).await.unwrap();
    assert_eq!(soon("a file", again.collect(10)).await.unwrap().len(), 10);

    // The node goes away in the middle.
    let mut stream = get(&lab, &blob_name, Range::ALL).await.unwrap();
    stream.next().await.unwrap().unwrap();
    node.stop().await;
    let end = async {
        loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("a file that broke off must not look whole"),
            }
        }
    };
    assert_eq!(soon("an end", end).await, FileError::Broken(name("edge")));
}

#[tokio::test]
async fn the_controller_dials_bulk_too_and_carve_is_not_supported() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    let blob: BlobName = "ab".repeat(32).parse().unwrap();
    source.put_blob(blob.as_str(), vec![5; 100_000]);
    let (node, addr) = lab.dialled(&dir, source).await;
    lab.server.dial(name("edge"), addr.to_string());
    until_bulk(&lab).await;
    let file = get(&lab, &blob, Range::ALL).await.unwrap();
    assert_eq!(soon("a file", file.collect(200_000)).await.unwrap(), vec![5; 100_000]);
    lab.server.shutdown().await;

    let clock: Arc<dyn crate::Clock> = lab.clock.clone();
    let tls = tls::controller_dials(&lab.identity, &name("edge"), Channel::Bulk, &clock).unwrap();
    let mut wire = Wire::new(connect(&addr.to_string(), tls, Duration::from_secs(60)).await.unwrap(), MAX_FRAME);
    let long = Duration::from_secs(60);
    assert!(matches!(wire.message(long).await.unwrap(), Message::Hello(_)));
    wire.send(&Message::Welcome(crate::frame::Welcome { version: 1, durable: 0, credit: 0, max_frame: 0, wall_ns: 0 })).await.unwrap();
    let query = bytes::Bytes::from_static(br#"{"scope":[],"max_bytes":1}"#);
    wire.send(&Message::Carve(BulkRequest { request: 9, query })).await.unwrap();
    loop {
        if let Message::Refused(Refused { request, why }) = soon("REFUSED", wire.message(long)).await.unwrap() {
            assert_eq!((request, why.to_string().as_str()), (9, "not supported by this node"));
            break;
        }
    }
    node.stop().await;
}
