//! Options of a block (§3.5): code, length, value, padding.

use crate::padded;
use std::borrow::Cow;

/// Option codes used here.
pub mod code {
    /// End of the list.
    pub const END: u16 = 0;
    /// `opt_comment`.
    pub const COMMENT: u16 = 1;
    /// `shb_hardware`.
    pub const SHB_HARDWARE: u16 = 2;
    /// `shb_os`.
    pub const SHB_OS: u16 = 3;
    /// `shb_userappl`.
    pub const SHB_APPLICATION: u16 = 4;
    /// `if_name`.
    pub const IF_NAME: u16 = 2;
    /// `if_description`.
    pub const IF_DESCRIPTION: u16 = 3;
    /// `if_tsresol`.
    pub const IF_TSRESOL: u16 = 9;
    /// `if_filter`.
    pub const IF_FILTER: u16 = 11;
    /// `if_tsoffset`.
    pub const IF_TSOFFSET: u16 = 14;
    /// `epb_flags`.
    pub const PACKET_FLAGS: u16 = 2;
    /// `isb_ifrecv`.
    pub const ISB_RECEIVED: u16 = 4;
    /// `isb_ifdrop`.
    pub const ISB_DROPPED: u16 = 5;
}

/// Options read of one block; more are damage.
const MAX_OPTIONS: usize = 4096;

/// Options in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OptionList<'a> {
    list: Vec<(u16, Cow<'a, [u8]>)>,
}

impl<'a> OptionList<'a> {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an option; a value over 65 535 bytes is cut to that.
    pub fn push(&mut self, code: u16, value: impl Into<Cow<'a, [u8]>>) {
        let value = value.into();
        let value = match value.get(..usize::from(u16::MAX)) {
            Some(cut) => Cow::Owned(cut.to_vec()),
            None => value,
        };
        self.list.push((code, value));
    }

    /// Adds a text; one over 65 535 bytes is cut at a character.
    pub fn push_text(&mut self, code: u16, text: impl Into<Cow<'a, str>>) {
        let text = text.into();
        let most = text.len().min(usize::from(u16::MAX));
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        match text {
            Cow::Borrowed(text) => self.push(code, text.as_bytes().get(..end).unwrap_or_default()),
            Cow::Owned(mut text) => {
                text.truncate(end);
                self.push(code, text.into_bytes());
            }
        }
    }

    /// All options in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.list.iter().map(|(code, value)| (*code, value.as_ref()))
    }

    /// The first value of a code.
    pub fn get(&self, code: u16) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == code).map(|(_, value)| value)
    }

    /// The first text of a code, when it is UTF-8.
    pub fn text(&self, code: u16) -> Option<&str> {
        std::str::from_utf8(self.get(code)?).ok()
    }

    /// The comments.
    pub fn comments(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.iter().filter(|(found, _)| *found == code::COMMENT).map(|(_, value)| String::from_utf8_lossy(value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Removes and returns the first value of a code.
    pub(crate) fn take(&mut self, code: u16) -> Option<Cow<'a, [u8]>> {
        let index = self.list.iter().position(|(found, _)| *found == code)?;
        Some(self.list.remove(index).1)
    }

    /// Reads a list; `None` on damage. Bytes after the end mark are not looked at.
    pub(crate) fn parse(mut bytes: &'a [u8], big: bool) -> Option<Self> {
        let mut list = Vec::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_first_chunk::<4>()?;
            let half = |pair: [u8; 2]| if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) };
            let [a, b, c, d] = *head;
            let (code, length) = (half([a, b]), usize::from(half([c, d])));
            if code == code::END {
                break;
            }
            if list.len() >= MAX_OPTIONS {
                return None;
            }
            list.push((code, Cow::Borrowed(rest.get(..length)?)));
            bytes = rest.get(padded(length)?..)?;
        }
        Some(Self { list })
    }

    /// Writes the list, little-endian, with its end mark when it is not empty.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for (code, value) in self.iter() {
            put_option(out, code, value);
        }
        if !self.is_empty() {
            out.extend_from_slice(&[0; 4]);
        }
    }
}

fn put_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut options = OptionList::new();
        options.push_text(code::COMMENT, "é".repeat(40_000));
        options.push_text(code::COMMENT, "");
        options.push(9, vec![1; 70_000]);
        let lengths: Vec<_> = options.iter().map(|(_, value)| value.len()).collect();
        assert_eq!(lengths, [65_534, 0, 65_535]);
        assert!(options.text(code::COMMENT).is_some());
    }

    #[test]
    fn lists_with_and_without_end_mark() {
        let one = [1, 0, 2, 0, b'h', b'i', 0, 0];
        for bytes in [one.to_vec(), [&one[..], &[0; 4], &[0xff; 3]].concat()] {
            let list = OptionList::parse(&bytes, false).unwrap();
            assert_eq!(list.comments().collect::<Vec<_>>(), ["hi"]);
        }
        assert_eq!(OptionList::parse(&[0, 1, 0, 2, b'h', b'i', 0, 0], true).unwrap().text(1), Some("hi"));
        for bad in [&one[..3], &one[..6], &[1, 0, 255, 255, 0]] {
            assert_eq!(OptionList::parse(bad, false), None);
        }
    }
}
