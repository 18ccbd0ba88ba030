//! `glasshive replay ID`

use super::Shell;
use super::sessions::short;
use crate::ask::{Answer, Request};
use crate::fail::Failure;
use crate::screen::{number, plural, shown};
use crate::streams::{Channel, Piece, Streams};
use crate::terminal::{Filter, RESTORE, plain};
use glasshive_event::text::escape_bytes;
use serde_json::Value;
use std::time::Duration;

/// Replay a session's terminal as the visitor saw it
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive replay 3f9a01bc                 with the original timing, pauses at most 2 s
  glasshive replay 3f9a01bc --speed 4       four times as fast
  glasshive replay 3f9a01bc --channel 1     another channel of the session
  glasshive replay 3f9a01bc --follow        look over the visitor's shoulder
  glasshive replay 3f9a01bc | less          without timing, as plain text

Ctrl-C ends it. What reaches your terminal is text, colours and cursor movement; titles,
links, clipboard, device queries and the like are dropped. Channels without a terminal
are shown as lines: > from the visitor, < to the visitor.")]
pub(super) struct Args {
    /// Session id, or at least 4 digits of its start or end
    #[arg(value_name = "ID")]
    id: String,
    /// How many times as fast
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Longest pause kept
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = super::filters::seconds)]
    max_idle: u64,
    /// Which channel [default: the first with a terminal]
    #[arg(long, value_name = "N")]
    channel: Option<u32>,
    /// Go on with what comes, until the session ends
    #[arg(long)]
    follow: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|speed: &f64| (0.01..=1_000.0).contains(speed)).ok_or_else(|| "use a number from 0.01 to 1000".to_owned())
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    if args.follow {
        return follow(args, shell).await;
    }
    let (items, _) = shell.all(Request::Streams { id: args.id.clone(), follow: false }).await?;
    if shell.out.json {
        return items.iter().try_for_each(|item| shell.out.object(item));
    }
    let session = items.first().cloned().unwrap_or(Value::Null);
    let mut streams = Streams::default();
    items.iter().for_each(|item| streams.add(item));
    let channels: Vec<Channel> = streams.channels().cloned().collect();
    let Some(channel) = pick(&channels, args.channel) else {
        let numbers: Vec<_> = channels.iter().map(|channel| format!("{} ({})", channel.channel, channel.role)).collect();
        let there = if numbers.is_empty() {
            "it has none: nothing was typed or shown".to_owned()
        } else {
            format!("it has {}", numbers.join(", "))
        };
        return Err(Failure::not_found(format!("session {} has no such channel; {there}", short(&session))));
    };
    let others = channels.len().saturating_sub(1);
    if others > 0 {
        let rest: Vec<_> =
            channels.iter().filter(|other| other.channel != channel.channel).map(|other| other.channel.to_string()).collect();
        shell.out.note(&format!(
            "channel {}; {} more: --channel {}",
            channel.channel,
            plural(others as u64, "channel"),
            rest.join(" or ")
        ))?;
    }
    let mut screen = Screen::new(channel.is_terminal(), shell.out.tty);
    let mut before: Option<i64> = None;
    let played = async {
        for piece in &channel.pieces {
            if shell.out.tty {
                let idle = before.map_or(0, |before| u64::try_from(piece.at_ns.saturating_sub(before)).unwrap_or(0));
                let idle = Duration::from_nanos(idle).min(Duration::from_secs(args.max_idle)).div_f64(args.speed);
                if !pause(idle).await? {
                    return Ok(());
                }
            }
            before = Some(piece.at_ns);
            shell.out.raw(screen.show(piece).as_bytes())?;
        }
        Ok(())
    };
    let played: Result<(), Failure> = Box::pin(played).await;
    // Whatever happened, the analyst's terminal is as it was.
    shell.out.raw(screen.end().as_bytes())?;
    played
}

/// Waits; `false` when interrupted.
async fn pause(time: Duration) -> Result<bool, Failure> {
    if time.is_zero() {
        return Ok(true);
    }
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(true),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted.map(|()| false)?),
    }
}

async fn follow(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let mut answers = shell.client().await?.ask(Request::Streams { id: args.id, follow: true }).await?;
    let mut screen: Option<(u32, Screen)> = None;
    let result = loop {
        let answer = tokio::select! {
            answer = answers.recv() => answer,
            interrupted = tokio::signal::ctrl_c() => break interrupted.map_err(Failure::from),
        };
        match answer {
            Some(Answer::Item(item)) if shell.out.json => shell.out.object(&item)?,
            Some(Answer::Item(item)) if shown(&item, "type") == "missed" => {
                shell.out.note(&format!("{} went by too fast; glasshive replay has them", plural(number(&item, "count"), "event")))?;
            }
            Some(Answer::Item(item)) => {
                let Some((detail, pieces)) = crate::streams::pieces(&item) else { continue };
                let wanted = args.channel.or(screen.as_ref().map(|(channel, _)| *channel)).unwrap_or(detail.channel);
                if detail.channel != wanted {
                    continue;
                }
                let terminal = Channel { role: detail.role, terminal: detail.terminal, ..Channel::default() }.is_terminal();
                let tty = shell.out.tty;
                let (_, screen) = screen.get_or_insert_with(|| (wanted, Screen::new(terminal, tty)));
                for piece in &pieces {
                    shell.out.raw(screen.show(piece).as_bytes())?;
                }
            }
            Some(Answer::End(_)) => break Ok(()),
            Some(Answer::Error(failure)) => break Err(failure),
            None => break Err(Failure::failed("the answer broke off")),
        }
    };
    if let Some((_, mut screen)) = screen {
        shell.out.raw(screen.end().as_bytes())?;
    }
    result
}

fn pick(channels: &[Channel], wanted: Option<u32>) -> Option<&Channel> {
    match wanted {
        Some(number) => channels.iter().find(|channel| channel.channel == number),
        None => {
            let first = |test: fn(&Channel) -> bool| channels.iter().find(|channel| test(channel));
            first(|channel| channel.terminal.is_some()).or_else(|| first(Channel::is_terminal)).or_else(|| channels.first())
        }
    }
}

/// Turns pieces into what may reach the analyst's terminal.
struct Screen {
    filter: Filter,
    terminal: bool,
    tty: bool,
}

impl Screen {
    fn new(terminal: bool, tty: bool) -> Self {
        Self { filter: Filter::default(), terminal, tty }
    }

    fn show(&mut self, piece: &Piece) -> String {
        if !self.terminal {
            let mark = if piece.inbound { '>' } else { '<' };
            let lines = piece.bytes.split_inclusive(|byte| *byte == b'\n');
            return lines.map(|line| format!("{mark} {}\n", escape_bytes(line))).collect();
        }
        // A terminal shows what came back; what was typed is in there as its echo.
        if piece.inbound {
            return String::new();
        }
        let inert = self.filter.push(&piece.bytes);
        if self.tty { inert } else { plain(&inert) }
    }

    fn end(&mut self) -> String {
        let rest = self.filter.finish();
        if self.tty && self.terminal { format!("{rest}{RESTORE}\r\n") } else { format!("{}\n", plain(&rest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_restored_and_a_pipe_is_plain() {
        let piece = |inbound, bytes: &[u8]| Piece { at_ns: 0, inbound, bytes: bytes.to_vec() };
        let mut tty = Screen::new(true, true);
        assert_eq!(tty.show(&piece(false, b"\x1b[31mred\x1b]0;t\x07\r\n")), "\x1b[31mred\r\n");
        assert_eq!(tty.show(&piece(true, b"typed")), "");
        assert_eq!(tty.end(), "\x1b[0m\r\n");
        let mut pipe = Screen::new(true, false);
        assert_eq!(pipe.show(&piece(false, b"\x1b[31mred\r\n")), "red\n");
        let mut lines = Screen::new(false, true);
        assert_eq!(lines.show(&piece(true, b"USER a\r\n\x1b[2J")), "> USER a\\r\\n\n> \\x1b[2J\n");
    }
}
