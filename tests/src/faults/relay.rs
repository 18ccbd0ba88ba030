//! A wire between node and controller that does to the bytes whatever a wire can do: cuts them off in the middle,
//! holds them back, sends them twice, out of order or changed, keeps one side in the belief that the other is
//! there, and says everything again on a connection of its own. Each connection gets one fault, drawn from a seed.

use super::Random;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What is done to a connection, once, behind so many bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Both sides see an end.
    Cut,
    /// One side sees an end, the other nothing at all until it gives up.
    Partition,
    /// Nothing comes through any more, and nobody is told.
    Stall,
    /// A piece comes twice.
    Twice,
    /// A piece comes behind the one that follows it.
    Swap,
    /// One bit of a piece is another.
    Flip,
    /// A piece is missing.
    Skip,
    /// The connection is cut, and all the dialling side said is said again on a new one.
    Replay,
    /// Small pieces, one after the other, as from a controller that hardly keeps up; then an end.
    Slow,
}

/// All of them.
pub const FAULTS: [Fault; 9] =
    [Fault::Cut, Fault::Partition, Fault::Stall, Fault::Twice, Fault::Swap, Fault::Flip, Fault::Skip, Fault::Replay, Fault::Slow];

/// Bytes kept for a replay.
const KEPT: usize = 1 << 20;
/// A piece is at most this large; slow ones are much smaller.
const PIECE: usize = 4096;
const SLOW: usize = 600;

/// A running relay.
pub struct Relay {
    /// Where to dial instead of the other side.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    healed: AtomicBool,
    connections: AtomicU64,
    done: Mutex<Vec<Fault>>,
}

impl Shared {
    fn done(&self) -> u64 {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn did(&self, fault: Fault) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }
}

impl Relay {
    /// Forwards to `to`; every connection has its fault until [`Relay::heal`].
    pub async fn start(to: SocketAddr, mut random: Random) -> crate::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        let first = random.below(FAULTS.len() as u64);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                state.connections.fetch_add(1, Relaxed);
                // One after the other, so that each comes whatever the seed.
                let place = (state.done() + first) % FAULTS.len() as u64;
                let fault = FAULTS.get(place as usize).copied().filter(|_| !state.healed.load(Relaxed));
                // A handshake takes about 2000 bytes each way: some faults fall into it.
                let plan = fault.map(|fault| (fault, random.below(2) == 0, random.below(60_000), random.number()));
                tokio::spawn(connection(near, to, plan, Arc::clone(&state)));
            }
        });
        Ok(Self { address, shared, accepting })
    }

    /// From now on it is a good wire; connections made before keep their fault.
    pub fn heal(&self) {
        self.shared.healed.store(true, Relaxed);
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Relaxed)
    }

    /// The faults that were done, in order.
    pub fn done(&self) -> Vec<Fault> {
        self.shared.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The fault, whether it is done to what the dialling side says, behind how many bytes, and a number for details.
type Plan = Option<(Fault, bool, u64, u64)>;

async fn connection(near: TcpStream, to: SocketAddr, plan: Plan, shared: Arc<Shared>) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let mut said = Vec::new();
    // What the controller says is little, its part of the handshake among it: there the fault comes early.
    let forth = plan.filter(|(fault, forth, ..)| *forth || *fault == Fault::Replay);
    let back = plan.filter(|(fault, forth, ..)| !*forth && *fault != Fault::Replay).map(|(fault, _, at, n)| (fault, at % 2_600, n));
    let forth = forth.map(|(fault, _, at, n)| (fault, at, n));
    let ended = tokio::select! {
        ended = forward(&mut near_in, &mut far_out, forth, Some(&mut said), &shared) => ended,
        ended = forward(&mut far_in, &mut near_out, back, None, &shared) => ended,
    };
    match ended {
        Some(Fault::Stall) => drop(tokio::join!(near_in.readable_end(), far_in.readable_end())),
        Some(Fault::Partition) => {
            // The controller sees the end; the node does not until it gives up.
            drop((far_in, far_out));
            near_in.readable_end().await;
        }
        Some(Fault::Replay) => {
            drop((near_in, near_out, far_in, far_out));
            let Ok(mut again) = TcpStream::connect(to).await else { return };
            let _ = again.write_all(&said).await;
            let _ = again.shutdown().await;
            let mut answer = Vec::new();
            let _ = again.read_to_end(&mut answer).await;
        }
        _ => {}
    }
}

/// Reading until the other side ends, forwarding nothing.
trait UntilEnd {
    async fn readable_end(&mut self);
}

impl UntilEnd for OwnedReadHalf {
    async fn readable_end(&mut self) {
        let mut buffer = [0; PIECE];
        while self.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    }
}

/// Forwards until an end, or a fault that ends the connection, which it returns.
async fn forward(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut plan: Option<(Fault, u64, u64)>,
    mut said: Option<&mut Vec<u8>>,
    shared: &Shared,
) -> Option<Fault> {
    let mut buffer = [0; PIECE];
    let mut passed = 0u64;
    loop {
        let most = if plan.is_some_and(|(fault, ..)| fault == Fault::Slow) { SLOW } else { PIECE };
        let read = from.read(buffer.get_mut(..most)?).await.ok()?;
        let mut piece = buffer.get(..read)?.to_vec();
        if read == 0 {
            return None;
        }
        if let Some(said) = said.as_deref_mut().filter(|said| said.len() < KEPT) {
            said.extend(&piece);
        }
        if let Some((fault, at, number)) = plan
            && (fault == Fault::Slow || passed + read as u64 > at)
        {
            let place = usize::try_from(at.saturating_sub(passed)).ok()?.min(read - 1);
            if fault != Fault::Slow {
                plan = None;
                shared.did(fault);
            }
            match fault {
                Fault::Cut | Fault::Partition | Fault::Stall | Fault::Replay => {
                    to.write_all(piece.get(..place)?).await.ok()?;
                    return Some(fault);
                }
                Fault::Twice => piece.extend(piece.clone()),
                Fault::Swap => {
                    let read = from.read(&mut buffer).await.ok()?;
                    piece = [buffer.get(..read)?, &piece].concat();
                }
                Fault::Flip => *piece.get_mut(place)? ^= 1 << (number % 8),
                Fault::Skip => piece.truncate(place),
                Fault::Slow => {
                    if passed >= at {
                        shared.did(fault);
                        return Some(fault);
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        passed += read as u64;
        to.write_all(&piece).await.ok()?;
    }
}
