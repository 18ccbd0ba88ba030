use super::*;
use crate::clock::{Clock, OffsetClock, SystemClock};
use crate::seal::{RecipientSealer, Sealer};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn controller(dir: &Path) -> ControllerIdentity {
    ControllerIdentity::init(&dir.join("controller"), Arc::new(SystemClock)).unwrap()
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_controllers_files_are_private_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let made = controller(dir.path());
    let home = dir.path().join("controller");
    assert_eq!(std::fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
    let mut files = vec![];
    for entry in std::fs::read_dir(&home).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        files.push(entry.file_name().into_string().unwrap());
    }
    files.sort();
    assert_eq!(files, ["ca.crt", "ca.key", "nodes.json", "pivot.key", "seal.key", "server.crt", "server.key"]);

    let token = made.enroll(name("edge"), "net-1", Role::Sensor, Duration::from_secs(60)).unwrap();
    let serial = facts(&made.certified().unwrap().cert[0]).unwrap().serial;
    let again = ControllerIdentity::load(&home, Arc::new(SystemClock)).unwrap();
    assert_eq!((again.pin(), again.pivot_key()), (made.pin(), made.pivot_key()));
    assert_eq!(again.pending().len(), 1);
    assert_eq!(facts(&again.certified().unwrap().cert[0]).unwrap().serial, serial, "a valid certificate is kept");
    assert!(!std::fs::read_to_string(home.join("nodes.json")).unwrap().contains(token.to_string().rsplit('.').next().unwrap()));
    assert!(matches!(ControllerIdentity::init(&home, Arc::new(SystemClock)), Err(IdentityError::Exists(_))));
    assert!(matches!(ControllerIdentity::load(dir.path(), Arc::new(SystemClock)), Err(IdentityError::Missing { .. })));
}

#[test]
fn files_others_can_read_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    controller(dir.path());
    let home = dir.path().join("controller");
    for file in ["ca.key", "seal.key", "pivot.key", "nodes.json"] {
        let path = home.join(file);
        chmod(&path, 0o640);
        let error = ControllerIdentity::load(&home, Arc::new(SystemClock)).unwrap_err().to_string();
        assert_eq!(error, format!("{0} can be read by others (mode 0640): run chmod 600 {0}", path.display()));
        chmod(&path, 0o600);
    }
    chmod(&home, 0o750);
    let error = ControllerIdentity::load(&home, Arc::new(SystemClock)).unwrap_err().to_string();
    assert_eq!(error, format!("{0} can be read by others (mode 0750): run chmod 700 {0}", home.display()));
    chmod(&home, 0o700);
    std::fs::write(home.join("pivot.key"), "short").unwrap();
    assert!(matches!(ControllerIdentity::load(&home, Arc::new(SystemClock)), Err(IdentityError::Damaged { .. })));
}

#[test]
fn tokens_read_back_and_hide() {
    let dir = tempfile::tempdir().unwrap();
    let controller = controller(dir.path());
    let token = controller.enroll(name("edge-1"), "net-1", Role::Decoys, Duration::from_secs(60)).unwrap();
    let text = token.to_string();
    assert!(text.starts_with("gh1.edge-1.") && text.parse::<Token>().unwrap() == token);
    assert_eq!(token.pin, controller.pin());
    assert!(!format!("{token:?}").contains(text.rsplit('.').next().unwrap()));
    for bad in ["", "gh1", "gh2.edge.a.b", "gh1.edge.a.b", &text[..text.len() - 2], &format!("{text}.x"), &"gh1.".repeat(5000)] {
        assert!(bad.parse::<Token>().is_err(), "{bad}");
    }
}

#[test]
fn offline_enrolment_and_what_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let controller = controller(dir.path());
    let node = IdentityDir::new(dir.path().join("node"));
    assert!(!node.exists());
    assert!(node.load().unwrap_err().to_string().contains("identity request"));
    let csr = node.request(&name("edge")).unwrap();
    let bundle = controller.sign_csr(&csr, "net-1", Role::Sensor).unwrap();
    let identity = node.install(bundle.to_json().as_bytes()).unwrap();
    assert_eq!((identity.node.as_str(), identity.net.as_str(), identity.role), ("edge", "net-1", Role::Sensor));
    assert_eq!(identity.days_left(SystemClock.wall_ns()), 29);
    assert_eq!(identity.pin().unwrap(), controller.pin());
    assert!(!node.path().join("request.key").exists());
    // Installing the same bundle again is harmless (Ansible runs twice).
    node.install(bundle.to_json().as_bytes()).unwrap();
    assert_eq!(node.load().unwrap().certificate, identity.certificate);

    let sealer = RecipientSealer::from_identity(&identity).unwrap();
    assert_eq!(controller.unsealer().open(&sealer.seal(b"secret")).unwrap(), b"secret");

    // A bundle for another key, another controller's, one that was changed.
    let other = IdentityDir::new(dir.path().join("other"));
    other.request(&name("edge")).unwrap();
    assert!(other.install(bundle.to_json().as_bytes()).unwrap_err().to_string().contains("not for the key"));
    let mut renamed = bundle.clone();
    renamed.node = name("gate");
    assert!(node.install(renamed.to_json().as_bytes()).unwrap_err().to_string().contains("another node"));
    let foreign = ControllerIdentity::init(&dir.path().join("foreign"), Arc::new(SystemClock)).unwrap();
    let mut mixed = bundle.clone();
    mixed.ca = foreign.sign_csr(&csr, "n", Role::Sensor).unwrap().ca;
    assert!(node.install(mixed.to_json().as_bytes()).is_err());
    for bad in [&b"{}"[..], b"", &[b'['; 70_000]] {
        assert!(node.install(bad).is_err());
    }

    let path = node.path().join("identity.json");
    chmod(&path, 0o644);
    assert!(node.load().unwrap_err().to_string().contains("run chmod 600"));
}

#[test]
fn requests_that_are_not_ours_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let controller = controller(dir.path());
    let sign = |csr: &str| controller.sign_csr(csr, "net-1", Role::Decoys).map(|_| ()).unwrap_err().to_string();
    let good = IdentityDir::new(dir.path().join("n")).request(&name("edge")).unwrap();
    let mut broken = good.clone().into_bytes();
    let at = good.len() / 2;
    broken[at] = if broken[at] == b'A' { b'B' } else { b'A' };
    for bad in ["", "-----BEGIN", &String::from_utf8(broken).unwrap(), &"x".repeat(20_000)] {
        assert!(sign(bad).starts_with("signing request refused"), "{bad}");
    }
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    assert!(sign(&cert::request(&key, &name("edge")).unwrap()).contains("P-256"));
    let key = cert::new_key().unwrap();
    let bare = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    assert!(sign(&bare).contains("names no node"));
    // Asking to be a CA changes nothing: only key and name of a request count.
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.subject_alt_names = vec![rcgen::SanType::URI("glasshive://node/edge".try_into().unwrap())];
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    if let Ok(bundle) = controller.sign_csr(&csr, "net-1", Role::Decoys) {
        let der = cert::certificate_from_pem(&bundle.certificate).unwrap();
        assert!(!x509_parser::parse_x509_certificate(&der).unwrap().1.is_ca());
    }
    assert!(controller.sign_csr(&good, "Bad Net", Role::Decoys).is_err());
}

#[test]
fn tokens_work_once_for_their_node_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(OffsetClock::default());
    let controller = ControllerIdentity::init(&dir.path().join("c"), clock.clone()).unwrap();
    let csr = |dir_name: &str, node: &str| IdentityDir::new(dir.path().join(dir_name)).request(&name(node)).unwrap();
    let enroll = || controller.enroll(name("edge"), "net-1", Role::Decoys, Duration::from_secs(60)).unwrap();
    let refused = |token: &Token, node: &str, csr: &str| controller.redeem(&token.secret, &name(node), csr).unwrap_err().to_string();

    let void = enroll();
    let token = enroll();
    let edge = csr("a", "edge");
    assert!(refused(&void, "edge", &edge).contains("not one of this controller's"), "a newer token voids the older");
    assert!(refused(&token, "gate", &csr("g", "gate")).contains("made for node edge"));
    assert!(refused(&token, "edge", &csr("g", "gate")).contains("it is for node gate"));
    let bundle = controller.redeem(&token.secret, &name("edge"), &edge).unwrap();
    assert_eq!(bundle.net, "net-1");
    assert!(controller.redeem(&token.secret, &name("edge"), &edge).is_ok(), "the answer may have got lost");
    assert!(refused(&token, "edge", &csr("b", "edge")).contains("it was used at"), "but not for another key");

    let token = enroll();
    clock.set(61_000_000_000);
    assert!(refused(&token, "edge", &edge).contains("it expired at"));
    assert!(controller.pending().is_empty());
}

#[test]
fn revoking_and_enrolling_anew() {
    let dir = tempfile::tempdir().unwrap();
    let controller = controller(dir.path());
    let node = IdentityDir::new(dir.path().join("n"));
    let first =
        node.install(controller.sign_csr(&node.request(&name("edge")).unwrap(), "net-1", Role::Decoys).unwrap().to_json().as_bytes());
    let first = first.unwrap().certificate.serial;
    assert_eq!(controller.admit(&name("edge"), &first).unwrap().net, "net-1");
    assert!(matches!(controller.admit(&name("gate"), &first), Err(IdentityError::UnknownNode(_))));
    assert!(matches!(controller.revoke(&name("gate")), Err(IdentityError::UnknownNode(_))));

    let token = controller.enroll(name("edge"), "net-2", Role::Sensor, Duration::from_secs(60)).unwrap();
    let denied = controller.denied();
    controller.revoke(&name("edge")).unwrap();
    assert!(denied.has_changed().unwrap());
    assert!(matches!(controller.admit(&name("edge"), &first), Err(IdentityError::Revoked(_))));
    assert!(controller.renew(&name("edge"), &node.request(&name("edge")).unwrap()).is_err());
    assert!(controller.redeem(&token.secret, &name("edge"), &node.request(&name("edge")).unwrap()).is_err(), "its token is void, too");

    let bundle = controller.sign_csr(&node.request(&name("edge")).unwrap(), "net-2", Role::Sensor).unwrap();
    let second = node.install(bundle.to_json().as_bytes()).unwrap().certificate.serial;
    assert_eq!(controller.admit(&name("edge"), &second).unwrap().role, Role::Sensor);
    assert!(controller.admit(&name("edge"), &first).is_err(), "the old certificate stays void");
    let again = ControllerIdentity::load(&dir.path().join("controller"), Arc::new(SystemClock)).unwrap();
    assert!(again.admit(&name("edge"), &first).is_err(), "after a restart, too");
}

#[test]
fn certificates_are_renewed_at_two_thirds() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(OffsetClock::default());
    let controller = ControllerIdentity::init(&dir.path().join("c"), clock.clone()).unwrap();
    let node = IdentityDir::new(dir.path().join("n"));
    let bundle = controller.sign_csr(&node.request(&name("edge")).unwrap(), "net-1", Role::Decoys).unwrap();
    let identity = node.install(bundle.to_json().as_bytes()).unwrap();
    let serial = |controller: &ControllerIdentity| facts(&controller.certified().unwrap().cert[0]).unwrap().serial;
    let first = serial(&controller);
    clock.set(19 * cert::DAY_NS);
    assert!(!identity.renewal_due(clock.wall_ns()));
    assert_eq!(serial(&controller), first);
    clock.set(20 * cert::DAY_NS + 60_000_000_000);
    assert!(identity.renewal_due(clock.wall_ns()));
    assert_ne!(serial(&controller), first);
    let renewed = controller.renew(&name("edge"), &node.request(&name("edge")).unwrap()).unwrap();
    let renewed = node.install(renewed.to_json().as_bytes()).unwrap();
    assert_eq!(renewed.days_left(clock.wall_ns()), 29);
    assert!(controller.admit(&name("edge"), &identity.certificate.serial).is_ok(), "both are good until the old one ends");
    assert_eq!(controller.nodes()[&name("edge")].issued.len(), 2);
}
