//! PROXY protocol v1 and v2 from allow-listed peers (HAProxy's specification).

use bytes::{Bytes, BytesMut};
use glasshive_event::Endpoint;
use glasshive_proto::proxy::{self, Incomplete};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// How long a trusted peer may take.
const WAIT: Duration = Duration::from_secs(5);
/// Longest header of either version.
const MAX: usize = 536;

/// What a trusted peer sent first.
pub(super) enum Header {
    /// The source it claims (`None` for LOCAL and UNKNOWN), and the visitor's bytes that came along.
    Claims(Option<Endpoint>, Bytes),
    /// Not a header: the bytes, the offset of the first wrong one, and what is wrong.
    Damaged(Bytes, u64, &'static str),
}

pub(super) async fn read(stream: &mut TcpStream) -> Header {
    let mut buf = BytesMut::with_capacity(MAX);
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        match proxy::parse(&buf) {
            Ok(header) => {
                let rest = buf.split_off(header.len.min(buf.len())).freeze();
                return Header::Claims(header.source.map(Endpoint::from), rest);
            }
            Err(Incomplete::Malformed { offset, what }) => return Header::Damaged(buf.freeze(), offset as u64, what),
            Err(Incomplete::Needed(_)) if buf.len() >= MAX => return Header::Damaged(buf.freeze(), MAX as u64, "header too long"),
            Err(Incomplete::Needed(_)) => {}
        }
        match tokio::time::timeout_at(deadline, stream.read_buf(&mut buf)).await {
            Ok(Ok(n)) if n > 0 => {}
            _ => {
                let at = buf.len() as u64;
                return Header::Damaged(buf.freeze(), at, "header cut off");
            }
        }
    }
}
