//! Bytes of the pretended programs: a valid ELF header for x86-64, then filler drawn from the name.

use super::facts::Rng;

/// A program of this size. Equal names and seeds give equal bytes, so hashes repeat.
pub(super) fn program(seed: &[u8], name: &str, size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(size);
    if name.starts_with("vmlinuz") {
        out.extend_from_slice(b"MZ");
    } else if !name.starts_with("initrd") && !name.starts_with("config") && !name.starts_with("System") {
        let sections = (size as u64).saturating_sub(31 * 64) & !7;
        // ELF-64, little endian, System V, position-independent executable, x86-64.
        out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0");
        out.extend((0x1000 + size as u64 / 9 & !0xf).to_le_bytes());
        out.extend(64u64.to_le_bytes());
        out.extend(sections.to_le_bytes());
        out.extend_from_slice(b"\0\0\0\0\x40\0\x38\0\x0d\0\x40\0\x1f\0\x1e\0");
        out.extend_from_slice(b"\x06\0\0\0\x04\0\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0");
        out.resize(0x318, 0);
        out.extend_from_slice(b"/lib64/ld-linux-x86-64.so.2\0");
    }
    let mut rng = Rng::new(seed, name.as_bytes());
    while out.len() < size {
        // Code is not noise: runs of zero bytes lie between.
        let n = (rng.next() % 480) as usize;
        out.extend(rng.bytes(n));
        let n = (rng.next() % 96) as usize;
        out.resize(out.len() + n, 0);
    }
    out.truncate(size);
    out
}
