//! JOIN and RENEW at the controller. A JOIN connection has no certificate: one frame in, one out.

use super::{Proof, Shared};
use crate::common::blocking;
use crate::error::LinkError;
use crate::frame::{GoAwayWhy, MAX_UNPROVEN, Message};
use crate::identity::{Bundle, IdentityError};
use crate::ingest::{Ingest, Notice};
use crate::name::NodeName;
use crate::wire::{Stream, Wire, linger};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::Instant;

pub(super) async fn join<I: Ingest, T: Stream>(shared: &Arc<Shared<I>>, stream: T, remote: SocketAddr) -> Result<(), LinkError> {
    let mut wire = Wire::new(stream, MAX_UNPROVEN);
    if !shared.admission.may_join(remote.ip(), Instant::now()) {
        let text = "too many attempts to join from this address: wait a minute";
        wire.goodbye(GoAwayWhy::Busy, text.into(), 60_000).await;
        return Err(LinkError::Violation(text.into()));
    }
    let join = match wire.message(shared.config.handshake).await {
        Ok(Message::Join(join)) => join,
        Ok(_) => {
            let text = "only JOIN is spoken here";
            wire.goodbye(GoAwayWhy::Protocol, text.into(), 60_000).await;
            return Err(LinkError::Violation(text.into()));
        }
        Err(error) => return Err(error),
    };
    let (identity, node) = (shared.identity.clone(), join.node.clone());
    match blocking(move || identity.redeem(&join.secret, &join.node, &join.csr)).await {
        Ok(bundle) => {
            shared.ingest.notice(Notice::Enrolled { node, renewed: false });
            wire.send(&Message::Joined(json(&bundle))).await?;
            linger(wire.into_stream()).await;
            Ok(())
        }
        Err(error) => {
            let token = matches!(error, LinkError::Identity(IdentityError::Token(_)));
            wire.goodbye(if token { GoAwayWhy::Token } else { GoAwayWhy::Identity }, error.to_string(), 60_000).await;
            Err(error)
        }
    }
}

/// A new certificate for a node that proved itself; `None` when it cannot have one (it keeps the old one and asks again).
pub(super) async fn renew<I: Ingest>(shared: &Arc<Shared<I>>, node: &NodeName, csr: Bytes) -> Option<Message> {
    let csr = String::from_utf8(csr.into()).ok()?;
    let (identity, name) = (shared.identity.clone(), node.clone());
    match blocking(move || identity.renew(&name, &csr)).await {
        Ok(bundle) => {
            shared.ingest.notice(Notice::Enrolled { node: node.clone(), renewed: true });
            Some(Message::Renewed(json(&bundle)))
        }
        Err(error) => {
            tracing::warn!(%node, %error, "renewal refused");
            None
        }
    }
}

/// RENEWED for a node whose roots are not the present ones, and nothing for others.
pub(super) async fn push<I: Ingest>(shared: &Arc<Shared<I>>, proof: &Proof) -> Option<Message> {
    let (identity, proof) = (shared.identity.clone(), proof.clone());
    let node = proof.peer.node.clone();
    match blocking(move || identity.renewal_of(&proof.peer.node, &proof.serial, &proof.public_key)).await {
        Ok(bundle) => bundle.map(|bundle| {
            shared.ingest.notice(Notice::Enrolled { node, renewed: true });
            Message::Renewed(json(&bundle))
        }),
        Err(error) => {
            tracing::warn!(%node, %error, "new roots were not handed out");
            None
        }
    }
}

fn json(bundle: &Bundle) -> Bytes {
    Bytes::from(bundle.to_json())
}
