//! The only unsafe code of the project: system calls no safe crate wraps, each with the reason why
//! the call is sound. Nothing here interprets what it reads.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest saved SYN: 60 bytes of IPv4 or 40 of IPv6 with extension headers, and 60 of TCP.
const MAX_SYN: usize = 512;

/// Control data of one received datagram.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Control {
    bytes: [u8; 128],
    len: usize,
}

impl Control {
    /// What the kernel wrote.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

/// One received datagram.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) len: usize,
    pub(crate) truncated: bool,
    pub(crate) source: SocketAddr,
    pub(crate) control: Control,
}

/// Arenas of the allocator at most, and the size from which a block is mapped for itself and given back when it is
/// freed. Nothing where the allocator is not glibc's.
pub(crate) fn set_allocator(arenas: libc::c_int, mapped: libc::c_int) {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two numbers and changes the allocator's own settings; a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
        libc::mallopt(libc::M_MMAP_THRESHOLD, mapped);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = (arenas, mapped);
}

/// Has the allocator release every free page. Nothing where it is not glibc's.
pub(crate) fn trim_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, touches only what is free, and locks as any other call of the allocator does.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes the allocator has given out: blocks in its arenas and mapped ones. `None` where it is not glibc's.
pub(crate) fn allocated() -> Option<u64> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes nothing, reads the allocator's own counts under its locks and returns them by value.
        let counts = unsafe { libc::mallinfo2() };
        u64::try_from(counts.uordblks.saturating_add(counts.hblkhd)).ok()
    }
    #[cfg(not(target_env = "gnu"))]
    None
}

/// `setsockopt` with an `int`.
pub(crate) fn set_int(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the pointer and length
    // describe `value`, which lives across the call and is only read.
    let done = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `getsockopt` of an `int`.
pub(crate) fn get_int(socket: &impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the kernel writes at most
    // `len` bytes, the size of `value`, which lives across the call.
    let done = unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// First descriptor a service manager hands over (sd_listen_fds(3)).
const FIRST_PASSED: libc::c_int = 3;

/// Takes the `count` descriptors a service manager handed to this process. Once: afterwards they
/// have an owner. The caller has seen from `LISTEN_PID` that this process is meant.
pub(crate) fn passed(count: u32) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the service manager's sockets were taken before"));
    }
    let end = FIRST_PASSED.saturating_add(libc::c_int::try_from(count).unwrap_or(libc::c_int::MAX));
    let mut all = Vec::new();
    for descriptor in FIRST_PASSED..end {
        // SAFETY: plain calls on an integer; one that is no open descriptor is an error. Programs
        // started later must not inherit it.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is open, as the call above has shown. By the protocol it was opened before this
        // process began and belongs to it; nobody else here made an owner of it, as this runs once.
        all.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
    }
    Ok(all)
}

/// The saved SYN of an accepted connection (`TCP_SAVED_SYN`); the kernel gives it once.
pub(crate) fn saved_syn(socket: &impl AsFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0u8; MAX_SYN];
    let mut len = MAX_SYN as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the kernel writes at most
    // `len` bytes, which is the length of `bytes`, and stores how many it wrote in `len`.
    let done = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_SAVED_SYN, bytes.as_mut_ptr().cast(), &raw mut len)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    bytes.truncate(len as usize);
    Ok(bytes)
}

/// `recvmsg` of one datagram with its control data.
pub(crate) fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Message> {
    let mut control = Control { bytes: [0; 128], len: 0 };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut name = socket2::SockAddrStorage::zeroed();
    // SAFETY: all-zero is a valid msghdr (null pointers with zero lengths); some of its fields are
    // private padding on some C libraries, so it cannot be written out.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_namelen = name.size_of();
    header.msg_name = (&raw mut name).cast();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes.as_mut_ptr().cast();
    header.msg_controllen = control.bytes.len() as _;
    // SAFETY: every pointer in `header` is to a local or to `buffer`, all alive across the call,
    // with the true length beside it; the kernel writes within those lengths only.
    let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let len = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // A 32-bit number on some C libraries.
    #[allow(clippy::unnecessary_cast)]
    let control_len = header.msg_controllen as usize;
    control.len = control_len;
    // SAFETY: the storage was zeroed and then filled by the kernel with `msg_namelen` bytes of a
    // socket address, which is what `SockAddr::new` asks for.
    let source = unsafe { socket2::SockAddr::new(name, header.msg_namelen) };
    let source = source.as_socket().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "datagram without an IP source"))?;
    Ok(Message { len, truncated: header.msg_flags & libc::MSG_TRUNC != 0, source, control })
}

/// Gives up the process's groups, group and user, in that order, in every thread.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: plain calls on integers; `setgroups` gets a length of one and a pointer to one group
    // that lives across the call. The C library applies each to all threads of the process.
    unsafe {
        if libc::setgroups(1, &raw const gid) != 0 || libc::setresgid(gid, gid, gid) != 0 || libc::setresuid(uid, uid, uid) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
