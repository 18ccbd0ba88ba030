//! Digests and encodings: `md5sum` and its kin, `cksum`, `base64`.

use base64::Engine as _;
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::{Cx, has, number, show, value};

fn digest(name: &str, data: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    match name {
        "md5sum" => hex(&Md5::digest(data)),
        "sha1sum" => hex(&Sha1::digest(data)),
        "sha224sum" => hex(&Sha224::digest(data)),
        "sha384sum" => hex(&Sha384::digest(data)),
        "sha512sum" => hex(&Sha512::digest(data)),
        _ => hex(&Sha256::digest(data)),
    }
}

pub(super) fn sum(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [("check", b'c'), ("binary", b'b'), ("text", b't'), ("quiet", b'q'), ("status", b's'), ("tag", b'T')];
    let Ok((options, mut rest)) = cx.options(args, "cbtwz", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    if rest.is_empty() {
        rest.push(b"-".to_vec());
    }
    let mut status = 0;
    for path in rest {
        let data = match cx.read(&path) {
            Ok(d) => d,
            Err(e) => {
                status = cx.fail(&format!("{}: {}", show(&path), e.text()));
                continue;
            }
        };
        if !cx.x.spend(data.len() as u64 / 256) {
            return 137;
        }
        if has(&options, b'c') {
            let mut bad = 0;
            for line in super::lines(&data) {
                let text = show(line);
                let Some((want, name)) = text.split_once("  ").or(text.split_once(" *")) else { continue };
                match cx.read(name.as_bytes()) {
                    Ok(d) if digest(cx.name, &d) == want => cx.say(&format!("{name}: OK\n")),
                    Ok(_) => {
                        cx.say(&format!("{name}: FAILED\n"));
                        bad += 1;
                    }
                    Err(e) => {
                        cx.fail(&format!("{name}: {}", e.text()));
                        cx.say(&format!("{name}: FAILED open or read\n"));
                        status = 1;
                    }
                }
            }
            if bad > 0 {
                status = cx.fail(&format!("WARNING: {bad} computed checksum{} did NOT match", if bad == 1 { "" } else { "s" }));
            }
            continue;
        }
        let text = digest(cx.name, &data);
        let mut line = format!("{text} {}", if has(&options, b'b') { '*' } else { ' ' }).into_bytes();
        line.extend_from_slice(&path);
        line.push(b'\n');
        cx.out(&line);
    }
    status
}

pub(super) fn cksum(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((_, mut rest)) = cx.options(args, "a:", &[]) else { return 1 };
    let unnamed = rest.is_empty();
    if unnamed {
        rest.push(b"-".to_vec());
    }
    for path in rest {
        match cx.read(&path) {
            Ok(data) => {
                if !cx.x.spend(data.len() as u64 / 64) {
                    return 137;
                }
                let mut crc = 0u32;
                let mut length = data.len();
                let mut feed = |byte: u8| {
                    crc ^= u32::from(byte) << 24;
                    for _ in 0..8 {
                        crc = if crc & 0x8000_0000 != 0 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
                    }
                };
                data.iter().for_each(|b| feed(*b));
                while length > 0 {
                    feed(length as u8);
                    length >>= 8;
                }
                let mut line = format!("{} {}", !crc, data.len());
                if !unnamed {
                    line.push_str(&format!(" {}", show(&path)));
                }
                cx.say(&format!("{line}\n"));
            }
            Err(e) => {
                cx.fail(&format!("{}: {}", show(&path), e.text()));
                return 1;
            }
        }
    }
    0
}

pub(super) fn base64(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "diw:", &[("decode", b'd'), ("ignore-garbage", b'i'), ("wrap=", b'w')]) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let path = rest.first().cloned().unwrap_or_else(|| b"-".to_vec());
    let data = match cx.read(&path) {
        Ok(d) => d,
        Err(e) => return cx.fail(&format!("{}: {}", show(&path), e.text())),
    };
    let engine = base64::engine::general_purpose::STANDARD;
    if has(&options, b'd') {
        let keep = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        let clean: Vec<u8> = data.iter().copied().filter(|b| if has(&options, b'i') { keep(b) } else { *b != b'\n' }).collect();
        // As much as is valid comes out before the complaint.
        let mut out = Vec::new();
        let mut bad = false;
        for block in clean.chunks(4) {
            match engine.decode(block) {
                Ok(part) => out.extend(part),
                Err(_) => {
                    let valid: Vec<u8> = block.iter().copied().take_while(|b| keep(b) && *b != b'=').collect();
                    if valid.len() >= 2 {
                        let lenient =
                            base64::engine::general_purpose::STANDARD_NO_PAD.decode(valid.get(..valid.len().min(4)).unwrap_or_default());
                        out.extend(lenient.unwrap_or_default());
                    }
                    bad = true;
                    break;
                }
            }
        }
        cx.out(&out);
        if bad {
            return cx.fail("invalid input");
        }
        return 0;
    }
    let width = value(&options, b'w').and_then(|w| number::<usize>(w)).unwrap_or(76);
    let text = engine.encode(data.as_slice());
    let mut out = Vec::new();
    if width == 0 {
        out.extend(text.into_bytes());
    } else {
        for row in text.as_bytes().chunks(width) {
            out.extend_from_slice(row);
            out.push(b'\n');
        }
    }
    cx.out(&out);
    0
}

pub(super) fn openssl(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let release = cx.x.machine.facts.release.openssl;
    match args.get(1).map(Vec::as_slice) {
        Some(b"version") => {
            cx.say(&format!("{release} (Library: {release})\n"));
            0
        }
        Some(b"rand") => {
            let count = args.last().and_then(|a| number::<usize>(a)).unwrap_or(0).min(65_536);
            let bytes = cx.st.random.bytes(count);
            if args.iter().any(|a| a == b"-hex") {
                let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                cx.say(&format!("{text}\n"));
            } else if args.iter().any(|a| a == b"-base64") {
                let text = base64::engine::general_purpose::STANDARD.encode(bytes);
                cx.say(&format!("{text}\n"));
            } else {
                cx.out(&bytes);
            }
            0
        }
        Some(b"passwd") => {
            const ALPHABET: &[u8] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
            let mut letters = |n: usize| (0..n).filter_map(|_| cx.st.random.pick(ALPHABET).map(|b| char::from(*b))).collect::<String>();
            let (salt, body) = if args.iter().any(|a| a == b"-6") {
                (format!("$6${}$", letters(16)), letters(86))
            } else {
                (format!("$1${}$", letters(8)), letters(22))
            };
            cx.say(&format!("{salt}{body}\n"));
            0
        }
        Some(other) => {
            let name = show(other);
            cx.err(&format!("Invalid command '{name}'; type \"help\" for a list.\n"));
            1
        }
        None => {
            cx.err("help:\n\nStandard commands\nasn1parse         ca                ciphers           cmp               \ncms               crl               crl2pkcs7         dgst              \n");
            1
        }
    }
}
