//! Joining with a token, being refused, being revoked, being renewed.

use super::lab::{Lab, MemSource, RunningNode, name, node_config, quick, soon};
use crate::client::{self, join};
use crate::error::LinkError;
use crate::frame::{MAX_UNPROVEN, Message, Ping};
use crate::identity::{ControllerIdentity, IdentityDir, Pin, Token};
use crate::ingest::Notice;
use crate::name::Role;
use crate::server::ServerConfig;
use crate::status::{LinkPhase, Problem};
use crate::tls::{self, Channel};
use crate::wire::Wire;
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn token(lab: &Lab, node: &str) -> Token {
    lab.identity.enroll(name(node), "net-1", Role::Decoys, HOUR).unwrap()
}

async fn refused(lab: &Lab, token: &Token, dir: &IdentityDir) -> (Problem, String) {
    let error = soon("an answer", join(&lab.addr.to_string(), token, dir, lab.clock.clone())).await.unwrap_err();
    assert!(!dir.exists());
    (error.problem(), error.to_string())
}

#[tokio::test]
async fn a_token_makes_a_node() {
    let lab = Lab::start().await;
    let dir = lab.node_dir("edge");
    let token: Token = token(&lab, "edge").to_string().parse().unwrap();
    let identity = soon("joining", join(&lab.addr.to_string(), &token, &dir, lab.clock.clone())).await.unwrap();
    assert_eq!((identity.node.as_str(), identity.net.as_str(), identity.role), ("edge", "net-1", Role::Decoys));
    lab.ingest.until_notice("enrolment", |notice| matches!(notice, Notice::Enrolled { renewed: false, .. })).await;
    let source = MemSource::new(1);
    source.push(100);
    let node = lab.node(&dir, source.clone());
    source.until_acked(100).await;
    node.stop().await;
}

#[tokio::test]
async fn wrong_used_and_expired_tokens_are_told_apart() {
    let lab = Lab::start().await;
    let good = token(&lab, "edge");
    let dir = |text: &str| lab.node_dir(text);
    let wrong = Token { secret: [1; 32], ..good.clone() };
    let (problem, text) = refused(&lab, &wrong, &dir("a")).await;
    assert_eq!((problem, text.contains("not one of this controller's")), (Problem::TokenRefused, true), "{text}");
    join(&lab.addr.to_string(), &good, &dir("b"), lab.clock.clone()).await.unwrap();
    let (problem, text) = refused(&lab, &good, &dir("c")).await;
    assert_eq!((problem, text.contains("it was used at")), (Problem::TokenRefused, true), "{text}");
    let late = token(&lab, "gate");
    lab.clock.set(2 * 3_600_000_000_000);
    let (problem, text) = refused(&lab, &late, &dir("d")).await;
    assert_eq!((problem, text.contains("it expired at")), (Problem::TokenRefused, true), "{text}");
    let other_pin = Token { pin: Pin([9; 32]), ..token(&lab, "gate") };
    let (problem, text) = refused(&lab, &other_pin, &dir("e")).await;
    assert_eq!((problem, text.contains("not of the expected CA")), (Problem::WrongAuthority, true), "{text}");
    assert_eq!(lab.identity.pending().len(), 1, "nothing was told to a controller with another CA");
    lab.ingest.until_notice("rejection", |notice| matches!(notice, Notice::Rejected { .. })).await;
}

#[tokio::test]
async fn joining_has_its_own_limit_and_speaks_only_join() {
    let lab = Lab::with(ServerConfig { joins_per_minute: 2, ..quick() }).await;
    let wrong = Token { secret: [1; 32], ..token(&lab, "edge") };
    for turn in 0..3 {
        let (problem, _) = refused(&lab, &wrong, &lab.node_dir("edge")).await;
        assert_eq!(problem, if turn < 2 { Problem::TokenRefused } else { Problem::Busy });
    }
    // A node that is enrolled is not affected.
    let source = MemSource::new(1);
    source.push(10);
    let node = lab.node(&lab.enrol("gate"), source.clone());
    source.until_acked(10).await;
    node.stop().await;

    let lab = Lab::start().await;
    let tls = tls::join_dials(lab.identity.pin(), &(lab.clock.clone() as Arc<dyn crate::Clock>)).unwrap();
    let stream = crate::common::connect(&lab.addr.to_string(), tls, HOUR).await.unwrap();
    let mut wire = Wire::new(stream, MAX_UNPROVEN);
    wire.send(&Message::Ping(Ping { id: 1, wall_ns: 0, next: 0 })).await.unwrap();
    let error = wire.message(HOUR).await.unwrap_err();
    assert_eq!(error.to_string(), "only JOIN is spoken here");
}

#[tokio::test]
async fn without_a_certificate_only_join_opens() {
    let lab = Lab::start().await;
    let clock: Arc<dyn crate::Clock> = lab.clock.clone();
    for channel in [Channel::Main, Channel::Bulk] {
        let mut config = (*tls::join_dials(lab.identity.pin(), &clock).unwrap()).clone();
        config.alpn_protocols = vec![channel.alpn().to_vec()];
        // TLS 1.3: the client is done before the server has judged it.
        let stream = crate::common::connect(&lab.addr.to_string(), Arc::new(config), HOUR).await.unwrap();
        let error = soon("a refusal", Wire::new(stream, MAX_UNPROVEN).message(HOUR)).await.unwrap_err();
        assert!(error.to_string().contains("wants a certificate"), "{error}");
    }
}

#[tokio::test]
async fn revoking_closes_at_once_and_keeps_out() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    source.push(100);
    let node = lab.node(&dir, source.clone());
    source.until_acked(100).await;
    lab.identity.revoke(&name("edge")).unwrap();
    // From here on nothing more is stored, whatever is still on its way.
    source.push(100);
    let status = node.until("revoked", |status| status.problem == Some(Problem::Revoked)).await;
    assert_ne!(status.phase, LinkPhase::Connected);
    node.until("kept out", |status| status.last_error.as_deref().is_some_and(|text| text.contains("controller revoked this node"))).await;
    assert_eq!(lab.ingest.held("edge", source.log()).records.len(), 100);
    lab.ingest.until_notice("disconnect", |notice| matches!(notice, Notice::Disconnected { why, .. } if why.contains("revoked"))).await;
    // Enrolled anew in the same directory, the running node comes back without a restart.
    lab.enrol("edge");
    source.until_acked(200).await;
    lab.ingest.assert_whole("edge", &source);
    node.stop().await;
}

#[tokio::test]
async fn revoking_closes_a_dialled_node_and_ends_dialling() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let source = MemSource::new(1);
    source.push(100);
    let (node, addr) = lab.dialled(&dir, source.clone()).await;
    lab.server.dial(name("edge"), addr.to_string());
    source.until_acked(100).await;
    lab.identity.revoke(&name("edge")).unwrap();
    source.push(100);
    node.until("revoked", |status| status.problem == Some(Problem::Revoked)).await;
    assert_eq!(lab.ingest.held("edge", source.log()).records.len(), 100);
    node.stop().await;
}

#[tokio::test]
async fn certificates_renew_over_the_link() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let before = dir.load().unwrap().certificate.serial;
    lab.clock.set(21 * 86_400_000_000_000);
    let source = MemSource::new(1);
    let node = lab.node(&dir, source.clone());
    let status = node.until("renewal", |status| status.serial.as_ref().is_some_and(|serial| *serial != before)).await;
    assert_eq!(status.certificate_days, Some(29));
    assert_ne!(dir.load().unwrap().certificate.serial, before);
    lab.ingest.until_notice("renewal", |notice| matches!(notice, Notice::Enrolled { renewed: true, .. })).await;
    node.stop().await;
    source.push(10);
    let node = lab.node(&dir, source.clone());
    source.until_acked(10).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_without_identity_waits_for_one() {
    let lab = Lab::start().await;
    let dir = lab.node_dir("edge");
    let source = MemSource::new(1);
    source.push(10);
    let node = lab.node(&dir, source.clone());
    let status = node.until("standalone", |status| status.last_error.is_some()).await;
    assert_eq!((status.phase, status.problem), (LinkPhase::Standalone, Some(Problem::Identity)));
    lab.enrol("edge");
    source.until_acked(10).await;
    node.stop().await;
}

#[tokio::test]
async fn another_controllers_node_and_another_nodes_address() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let foreign = ControllerIdentity::init(&lab.dir.path().join("foreign"), lab.clock.clone()).unwrap();
    let stranger = lab.node_dir("stranger");
    let bundle = foreign.sign_csr(&stranger.request(&name("edge")).unwrap(), "net-1", Role::Decoys).unwrap();
    stranger.install(bundle.to_json().as_bytes()).unwrap();
    let node = lab.node(&stranger, MemSource::new(1));
    let status = node.until("refusal", |status| status.problem == Some(Problem::WrongAuthority)).await;
    assert!(status.last_error.unwrap().contains("not of the expected CA"));
    node.stop().await;

    // The foreign controller dials our node.
    let (node, addr) = lab.dialled(&dir, MemSource::new(1)).await;
    let ingest = lab.ingest.clone();
    let theirs = crate::server::Server::new(quick(), Arc::new(foreign), ingest.clone(), lab.clock.clone());
    theirs.dial(name("edge"), addr.to_string());
    node.until("refusal", |status| status.problem == Some(Problem::WrongAuthority)).await;
    theirs.shutdown().await;

    // Our controller dials the address of edge and believes it is gate.
    lab.enrol("gate");
    lab.server.dial(name("gate"), addr.to_string());
    let wrong = async {
        while !lab.server.status().iter().any(|node| node.last_error.as_deref().is_some_and(|text| text.contains("of another node"))) {
            tokio::task::yield_now().await;
        }
    };
    soon("refusal", wrong).await;
    assert!(ingest.logs().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn nobody_at_the_address_and_no_tls_there() {
    let lab = Lab::start().await;
    let dir = lab.enrol("edge");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let run = |config| RunningNode::start(|status, stop| client::run(config, MemSource::new(1), lab.clock.clone(), status, stop));
    let node = run(node_config(&dir, vec![addr.to_string()]));
    let answer = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut tcp, b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
        tcp
    };
    let _tcp = soon("a connection", answer).await;
    let status = node.until("an error", |status| status.last_error.is_some()).await;
    assert_eq!(status.last_error.as_deref(), Some("the other side does not speak TLS"));
    drop(listener);
    let status = node.until("an error", |status| status.problem == Some(Problem::Unreachable)).await;
    assert!(status.last_error.unwrap().starts_with(&format!("{addr} is not reachable")));
    node.stop().await;
    let node = run(node_config(&dir, vec![]));
    let status = node.until("an error", |status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("no controller address"));
    node.stop().await;
    assert!(matches!(LinkError::Stopping.problem(), Problem::Broken));
}
