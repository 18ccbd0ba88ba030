//! Many visitors, many channels, and ends of all kinds.

use super::{Decoy, QUICK, of};
use glasshive_event::Kind;
use russh::client::{self, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::{ChannelMsg, Disconnect};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;
    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

async fn connect(decoy: &Decoy) -> Handle<Trusting> {
    client::connect(Arc::new(client::Config::default()), decoy.address, Trusting).await.unwrap()
}

async fn root(decoy: &Decoy) -> Handle<Trusting> {
    let mut handle = connect(decoy).await;
    assert!(handle.authenticate_password("root", "toor").await.unwrap().success());
    handle
}

async fn exec(handle: &Handle<Trusting>, command: &str) -> (String, Option<u32>) {
    let mut channel = handle.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    let (mut output, mut status) = (Vec::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => output.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    (String::from_utf8(output).unwrap(), status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_visitors_one_password_each() {
    let decoy = Decoy::start(QUICK).await;
    let decoy = Arc::new(decoy);
    let visits = (0..200).map(|n| {
        let decoy = Arc::clone(&decoy);
        tokio::spawn(async move {
            let mut handle = connect(&decoy).await;
            let accepted = handle.authenticate_password("www", format!("guess-{n}")).await.unwrap().success();
            assert!(!accepted);
            handle.disconnect(Disconnect::ByApplication, "", "").await.unwrap();
        })
    });
    for visit in visits.collect::<Vec<_>>() {
        visit.await.unwrap();
    }
    let seen = decoy.closed(200).await;
    let secrets: HashSet<_> = of(&seen, Kind::Login).iter().map(|l| l.detail["secret_sealed"].as_str().unwrap().to_owned()).collect();
    assert_eq!((secrets.len(), of(&seen, Kind::Login).len()), (200, 200));
    for kind in [Kind::SessionOpen, Kind::Hello, Kind::SessionClose] {
        assert_eq!(of(&seen, kind).len(), 200, "{kind:?}");
    }
    let sessions: HashSet<_> = seen.iter().map(|s| s.envelope.session.unwrap()).collect();
    assert_eq!(sessions.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_channels_in_sequence_and_ten_at_once() {
    let decoy = Decoy::start(QUICK).await;
    let handle = root(&decoy).await;
    for n in 0..50 {
        assert_eq!(exec(&handle, &format!("echo {n}")).await, (format!("{n}\n"), Some(0)));
    }
    let mut open = Vec::new();
    for _ in 0..10 {
        let channel = handle.channel_open_session().await.unwrap();
        channel.exec(true, "cat").await.unwrap();
        open.push(channel);
    }
    assert!(handle.channel_open_session().await.is_err(), "MaxSessions");
    for (n, channel) in open.iter_mut().enumerate() {
        channel.data_bytes(format!("through {n}\n").into_bytes()).await.unwrap();
        channel.eof().await.unwrap();
        let mut output = Vec::new();
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::Data { data } = message {
                output.extend_from_slice(&data);
            }
        }
        assert_eq!(output, format!("through {n}\n").into_bytes());
    }
    handle.disconnect(Disconnect::ByApplication, "", "").await.unwrap();
    let seen = decoy.closed(1).await;
    assert_eq!(of(&seen, Kind::Command).len(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_who_goes_leaves_no_task_behind() {
    let decoy = Decoy::start(QUICK).await;
    let handle = root(&decoy).await;
    let channel = handle.channel_open_session().await.unwrap();
    channel.request_pty(false, "xterm", 100, 30, 0, 0, &[]).await.unwrap();
    channel.request_shell(true).await.unwrap();
    let waiting = handle.channel_open_session().await.unwrap();
    waiting.exec(true, "cat").await.unwrap();
    decoy.kit.memory.wait(|seen| seen.iter().any(|s| s.kind == Kind::Stream)).await;
    drop((channel, waiting, handle));
    let seen = decoy.closed(1).await;
    assert_eq!(seen.last().unwrap().detail["reason"], "client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_sessions_of_every_stage() {
    let decoy = Decoy::start(QUICK).await;
    let handle = root(&decoy).await;
    let _silent = tokio::net::TcpStream::connect(decoy.address).await.unwrap();
    let mut greeted = tokio::net::TcpStream::connect(decoy.address).await.unwrap();
    greeted.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    decoy.kit.memory.wait(|seen| of(seen, Kind::SessionOpen).len() == 3).await;
    decoy.kit.cancel.cancel();
    let seen = decoy.closed(3).await;
    assert!(of(&seen, Kind::SessionClose).iter().all(|s| s.detail["reason"] == "shutdown"));
    drop(handle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_grace_time() {
    let decoy = Decoy::start("login_grace_time = 1").await;
    let mut silent = tokio::net::TcpStream::connect(decoy.address).await.unwrap();
    let mut greeted = tokio::net::TcpStream::connect(decoy.address).await.unwrap();
    greeted.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    let mut all = Vec::new();
    silent.read_to_end(&mut all).await.unwrap();
    greeted.read_to_end(&mut all).await.unwrap();
    let seen = decoy.closed(2).await;
    assert!(of(&seen, Kind::SessionClose).iter().all(|close| close.detail["reason"] == "timeout"));
    assert_eq!(of(&seen, Kind::Hello).len(), 1, "who sent a line is recorded without a KEXINIT too");
}
