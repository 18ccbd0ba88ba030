//! The link's own process: the only one of a daemon that may connect.

use super::{Host, HostError};
use crate::client::{self, ClientConfig};
use crate::clock::SystemClock;
use crate::identity::IdentityDir;
use crate::pipe::RemoteSource;
use crate::status::LinkStatus;
use glasshive_daemon::lockdown::{Calls, Files, Lockdown};
use glasshive_daemon::net::{TcpOptions, listen_tcp};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

impl Host {
    /// The link's process's own main: proves the identity to the controller, sends what the journal
    /// holds, answers what the controller asks. Before any runtime: it locks itself down.
    ///
    /// # Errors
    /// One line.
    pub fn child_main(&self) -> Result<(), HostError> {
        let io = |what| move |error| HostError::Io(what, error);
        let stream = glasshive_daemon::reexec::inherited().map_err(io("the pipe to the daemon"))?;
        let listener = match &self.link.listen {
            Some(listen) => Some(listen_tcp(listen.0, &TcpOptions::default())?),
            None => None,
        };
        if self.isolation.lockdown {
            let files = Files {
                read: ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/lib", "/usr/lib"]
                    .map(PathBuf::from)
                    .to_vec(),
                write: vec![self.state_dir.join("identity")],
                no_connect: false,
            };
            Lockdown { user: self.isolation.user()?, calls: Calls::Connecting, files: Some(files), ..Lockdown::default() }.apply()?;
        }
        glasshive_daemon::reexec::die_with_parent().map_err(io("the daemon has ended"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.map_err(io("starting the runtime"))?.block_on(self.link(stream, listener)).map_err(io("handing sockets to the runtime"))
    }

    async fn link(&self, stream: std::os::unix::net::UnixStream, listener: Option<std::net::TcpListener>) -> std::io::Result<()> {
        stream.set_nonblocking(true)?;
        let source = RemoteSource::new(UnixStream::from_std(stream)?);
        let listener = listener.map(TcpListener::from_std).transpose()?;
        let identity = IdentityDir::new(self.state_dir.join("identity"));
        let controllers = self.link.controller.iter().map(ToString::to_string).collect();
        let mut config = ClientConfig::new(identity.clone(), controllers);
        config.product = self.product.clone();
        let (status, seen) = watch::channel(LinkStatus::default());
        let (stop, clock) = (CancellationToken::new(), Arc::new(SystemClock));
        let report = source.report(seen, identity);
        let work = async {
            match listener {
                Some(listener) => client::serve_dialled(config, listener, source.clone(), clock, status, stop.clone()).await,
                None => client::run(config, source.clone(), clock, status, stop.clone()).await,
            }
        };
        tokio::select! {
            () = source.closed() => {}
            () = async { tokio::join!(work, report); } => {}
        }
        Ok(())
    }
}
