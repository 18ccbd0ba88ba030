//! PROXY protocol v1 and v2 from allow-listed peers (HAProxy's specification).

use bytes::{Bytes, BytesMut};
use glasshive_event::Endpoint;
use glasshive_proto::proxy;
use glasshive_proto::reader::Parsed;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// How long a trusted peer may take.
const WAIT: Duration = Duration::from_secs(5);

/// What a trusted peer sent first.
pub(super) enum Header {
    /// The source it claims (`None` for LOCAL and UNKNOWN), and the visitor's bytes that came along.
    Claims(Option<Endpoint>, Bytes),
    /// Not a header: the bytes, the offset of the first wrong one, and what is wrong.
    Damaged(Bytes, u64, &'static str),
}

pub(super) async fn read(stream: &mut TcpStream) -> Header {
    let mut buf = BytesMut::with_capacity(proxy::MAX_HEADER);
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        match proxy::header(&buf) {
            Parsed::Done { value, used } => {
                let rest = buf.split_off(used.min(buf.len())).freeze();
                let source = if value.local { None } else { value.source };
                return Header::Claims(source.map(Endpoint::from), rest);
            }
            Parsed::Malformed { offset, what } => return Header::Damaged(buf.freeze(), offset as u64, what),
            Parsed::Incomplete { .. } if buf.len() >= proxy::MAX_HEADER => {
                return Header::Damaged(buf.freeze(), proxy::MAX_HEADER as u64, "header too long");
            }
            Parsed::Incomplete { .. } => {}
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
