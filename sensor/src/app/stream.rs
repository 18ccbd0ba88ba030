//! A TCP flow: what it speaks, by content of both sides, and the parser that reads it further.
//!
//! A side is `New` until its first bytes tell whose they are: they name a protocol, they answer the
//! one the other side speaks, or they are nobody's. Until then they wait, at most 4 KiB of them, so
//! that no parser complains of bytes that were never meant for it.

use super::pair::Pair;
use super::say::{Say, samples};
use super::side::Side;
use super::{Parser, Role, Speaker, Step, parser_of};
use glasshive_event::observation::{Carried, Fact, Identified};
use glasshive_proto::probe::{self, Fit, LOOKED_AT, ProbeDef, Verdict};

/// Bytes kept of each side to show.
const SAMPLE: usize = 64;
/// How deep protocols inside each other are followed.
const DEPTH: u8 = 4;
/// Bytes given to a parser at once, so that its window never overflows in one call.
const PIECE: usize = 4_096;

/// What is done with a side's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Course {
    /// Its first bytes wait to be told.
    #[default]
    New,
    /// The conversation's parser reads them.
    Shared,
    /// A parser of its own reads them: the other side speaks something else.
    Alone,
    /// Nobody needs them.
    Dropped,
}

/// State of one flow.
#[derive(Debug, Default)]
pub(super) struct Stream {
    sides: Pair<Side>,
    courses: Pair<Course>,
    samples: Pair<Vec<u8>>,
    /// How many first bytes of each side were looked at.
    looked: Pair<usize>,
    /// The protocol, once one side named it.
    speaks: Option<&'static ProbeDef>,
    both: bool,
    /// Which part the source plays.
    reversed: bool,
    parser: Option<Box<dyn Parser>>,
    /// Reads a side that goes [`Course::Alone`], and the name of what it speaks.
    alone: Option<Box<dyn Parser>>,
    alone_speaks: Option<&'static ProbeDef>,
    /// The protocol that carries this one.
    inside: Option<&'static str>,
    depth: u8,
}

impl Stream {
    /// Takes bytes; says whether more can be learned.
    pub(super) fn bytes(&mut self, from: Speaker, offset: u64, mut bytes: &[u8], say: &mut Say<'_>) -> bool {
        let side = self.sides.of_mut(from);
        side.begin_at(offset);
        let expected = side.end();
        if offset > expected && !self.gap(from, offset - expected, say) {
            return false;
        }
        let seen = usize::try_from(expected.saturating_sub(offset)).unwrap_or(usize::MAX);
        bytes = bytes.get(seen..).unwrap_or_default();
        while !bytes.is_empty() {
            let piece = bytes.get(..PIECE).unwrap_or(bytes);
            self.sample(from, piece);
            let side = self.sides.of_mut(from);
            let taken = side.push(piece);
            if !self.run(from, say) {
                return false;
            }
            if taken < piece.len() {
                // A parser that takes nothing of a full window has lost its way.
                return self.over(say);
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        true
    }

    /// Notes missing bytes; says whether more can be learned.
    pub(super) fn gap(&mut self, from: Speaker, missing: u64, say: &mut Say<'_>) -> bool {
        let side = self.sides.of_mut(from);
        side.begin_at(0);
        if side.gap(missing) {
            return true;
        }
        let role = self.role(from);
        let step = match self.courses.of(from) {
            Course::Shared => self.parser.as_mut().map_or(Step::SideDone, |parser| parser.gap(role)),
            // Bytes from the middle are nobody's first bytes.
            _ => Step::SideDone,
        };
        let next = self.obey(from, step, say);
        self.sides.of_mut(from).jump(missing);
        self.goes_on(next, say)
    }

    /// Says what was kept back.
    pub(super) fn finish(&mut self, say: &mut Say<'_>) {
        for from in [Speaker::Source, Speaker::Destination] {
            *self.looked.of_mut(from) = 0;
            if self.speaks.is_none() && !self.sides.of(from).peek().is_empty() && !self.run(from, say) {
                self.over(say);
                return;
            }
        }
        for from in [Speaker::Source, Speaker::Destination] {
            if *self.courses.of(from) == Course::New && !self.sides.of(from).peek().is_empty() && self.speaks.is_some() {
                // Too few bytes to tell, but the only ones: the parser may still know them.
                *self.courses.of_mut(from) = Course::Shared;
                if !self.feed(from, say) {
                    break;
                }
            }
            let role = self.role(from);
            let side = self.sides.of_mut(from);
            let parser = if *self.courses.of(from) == Course::Alone { &mut self.alone } else { &mut self.parser };
            let reading = matches!(self.courses.of(from), Course::Shared | Course::Alone) && !side.peek().is_empty();
            if let Some(parser) = parser.as_mut().filter(|_| reading) {
                let step = parser.last(role, side);
                if !self.obey(from, step, say) {
                    break;
                }
            }
        }
        self.over(say);
    }

    pub(super) fn held(&self) -> usize {
        self.sides.of(Speaker::Source).held() + self.sides.of(Speaker::Destination).held()
    }

    fn sample(&mut self, from: Speaker, bytes: &[u8]) {
        if !self.both {
            let sample = self.samples.of_mut(from);
            let room = SAMPLE.saturating_sub(sample.len()).min(bytes.len());
            sample.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
    }

    /// Looks at new bytes of one side; says whether more can be learned.
    fn run(&mut self, from: Speaker, say: &mut Say<'_>) -> bool {
        let depth = self.depth;
        let going = match self.courses.of(from) {
            Course::New => self.identify(from, say),
            Course::Shared | Course::Alone => self.feed(from, say),
            Course::Dropped => {
                self.sides.of_mut(from).forget();
                true
            }
        };
        // What waited behind the outer protocol may tell at once what is inside.
        if going && self.depth > depth {
            for side in [from.other(), from] {
                if !self.sides.of(side).peek().is_empty() && !self.run(side, say) {
                    return false;
                }
            }
        }
        self.goes_on(going, say)
    }

    /// Ends what is kept back when no byte of either side can tell anything any more.
    fn goes_on(&mut self, going: bool, say: &mut Say<'_>) -> bool {
        if going && self.courses.all(|course| *course == Course::Dropped) { self.over(say) } else { going }
    }

    /// Tries to tell whose the first bytes of a side are.
    fn identify(&mut self, from: Speaker, say: &mut Say<'_>) -> bool {
        if let Some(speaks) = self.speaks {
            return self.settle(from, speaks, say);
        }
        if !self.worth_a_look(from) {
            return true;
        }
        let head = self.sides.of(from).peek();
        let other = self.sides.of(from.other()).peek();
        if let (Some(def), verdict) = named_by(head) {
            return self.named(from, def, verdict == Verdict::Certain, say);
        }
        if let Some(def) = probe::pair(head, other).filter(|_| !other.is_empty()) {
            return self.paired(from, def, say);
        }
        if let Some(def) = probe::pair(other, head).filter(|_| !other.is_empty()) {
            return self.paired(from.other(), def, say);
        }
        if head.len() >= LOOKED_AT {
            *self.courses.of_mut(from) = Course::Dropped;
            self.sides.of_mut(from).forget();
        }
        true
    }

    /// Whether enough came since the last look: many tiny segments must not cost their square.
    fn worth_a_look(&mut self, from: Speaker) -> bool {
        let head = self.sides.of(from).peek();
        let looked = self.looked.of_mut(from);
        let new = head.get(*looked..).unwrap_or_default();
        let worth = head.len() <= SAMPLE || head.len() >= LOOKED_AT || new.len() >= head.len() / 16 || new.contains(&b'\n');
        if worth {
            *looked = head.len();
        }
        worth
    }

    /// One side's bytes name the protocol.
    fn named(&mut self, from: Speaker, def: &'static ProbeDef, asks: bool, say: &mut Say<'_>) -> bool {
        let head = self.sides.of(from).peek();
        let told = parser_of(def).and_then(|parser| (parser.role)(head));
        let role = told.unwrap_or(if asks { Role::by(from) } else { Role::Server });
        self.speak(from, role, def);
        self.say_identified(def, false, say);
        if !self.follow(from, say) {
            return false;
        }
        let other = from.other();
        self.sides.of(other).peek().is_empty() || *self.courses.of(other) != Course::New || self.settle(other, def, say)
    }

    /// The two sides together name the protocol, which neither does alone.
    fn paired(&mut self, client: Speaker, def: &'static ProbeDef, say: &mut Say<'_>) -> bool {
        self.speak(client, Role::Client, def);
        self.both = true;
        self.say_identified(def, true, say);
        self.follow(client, say) && (*self.courses.of(client.other()) != Course::New || self.follow(client.other(), say))
    }

    fn speak(&mut self, from: Speaker, role: Role, def: &'static ProbeDef) {
        self.speaks = Some(def);
        self.reversed = role != Role::by(from);
        self.parser = parser_of(def).map(|parser| (parser.new)());
    }

    /// The other side's protocol is known: do these first bytes speak it too?
    fn settle(&mut self, from: Speaker, def: &'static ProbeDef, say: &mut Say<'_>) -> bool {
        let head = self.sides.of(from).peek();
        let fit = match self.role(from) {
            Role::Server => (def.answer)(head),
            Role::Client if def.may_ask(head) => Fit::Fits,
            Role::Client if (def.check)(head) == Verdict::NotForUs => Fit::No,
            Role::Client => Fit::More,
        };
        match fit {
            Fit::Fits | Fit::Names => {
                self.both = true;
                self.say_identified(def, true, say);
                self.follow(from, say)
            }
            Fit::More if head.len() < LOOKED_AT => true,
            Fit::More => self.follow(from, say),
            Fit::No => {
                let (other, verdict) = named_by(head);
                match other {
                    Some(other) if other.name != def.name => self.go_alone(from, other, say),
                    // It may yet become something else.
                    None if verdict == Verdict::Unsure && head.len() < LOOKED_AT.min(512) => true,
                    _ => self.follow(from, say),
                }
            }
        }
    }

    /// A side that speaks something else than the one before it.
    fn go_alone(&mut self, from: Speaker, def: &'static ProbeDef, say: &mut Say<'_>) -> bool {
        if self.inside.is_none() {
            say.fact(Fact::Identified(Identified { protocol: def.name, both: false, samples: samples(&self.samples) }));
        }
        self.alone_speaks = Some(def);
        self.alone = parser_of(def).map(|parser| (parser.new)());
        *self.courses.of_mut(from) = if self.alone.is_some() { Course::Alone } else { Course::Dropped };
        self.run(from, say)
    }

    /// Lets the conversation's parser, if there is one, read a side from here on.
    fn follow(&mut self, from: Speaker, say: &mut Say<'_>) -> bool {
        *self.courses.of_mut(from) = if self.parser.is_some() { Course::Shared } else { Course::Dropped };
        self.feed(from, say)
    }

    fn say_identified(&mut self, def: &'static ProbeDef, both: bool, say: &mut Say<'_>) {
        let (protocol, samples) = (def.name, samples(&self.samples));
        if both {
            self.samples = Pair::default();
        }
        match self.inside {
            None => {
                say.application.protocol = protocol.to_owned();
                say.application.both = both;
                say.fact(Fact::Identified(Identified { protocol, both, samples }));
            }
            Some(inside) => say.fact(Fact::Carried(Carried { inside, protocol, both, samples })),
        }
    }

    /// Gives a side's waiting bytes to its parser.
    fn feed(&mut self, from: Speaker, say: &mut Say<'_>) -> bool {
        let mut other_may_go_on = false;
        loop {
            let role = self.role(from);
            let side = self.sides.of_mut(from);
            let parser = match self.courses.of(from) {
                Course::Shared => &mut self.parser,
                Course::Alone => &mut self.alone,
                Course::New | Course::Dropped => return true,
            };
            let Some(parser) = parser else { return self.obey(from, Step::SideDone, say) };
            let step = if side.skipping() || !side.ready() { Step::More } else { parser.advance(role, side, say) };
            match step {
                Step::Other => other_may_go_on = true,
                Step::More if other_may_go_on && *self.courses.of(from.other()) == Course::Shared => {
                    return self.feed(from.other(), say);
                }
                step => return self.obey(from, step, say),
            }
        }
    }

    /// Does what a parser said of a side; says whether more can be learned.
    fn obey(&mut self, from: Speaker, step: Step, say: &mut Say<'_>) -> bool {
        match step {
            Step::More | Step::Other => true,
            Step::SideDone => {
                *self.courses.of_mut(from) = Course::Dropped;
                self.sides.of_mut(from).forget();
                true
            }
            Step::Done if *self.courses.of(from) == Course::Alone => {
                self.alone = None;
                self.obey(from, Step::SideDone, say)
            }
            Step::Done => {
                if let Some(mut parser) = self.parser.take() {
                    parser.finish(say);
                }
                for side in [Speaker::Source, Speaker::Destination] {
                    if *self.courses.of(side) == Course::Shared {
                        *self.courses.of_mut(side) = Course::Dropped;
                        self.sides.of_mut(side).forget();
                    }
                }
                true
            }
            Step::Inside(name) => self.enter(name, say),
            Step::Malformed { offset, what, bytes } => {
                let speaks = if *self.courses.of(from) == Course::Alone { self.alone_speaks } else { self.speaks };
                let protocol = speaks.map_or("stream", |def| def.name);
                self.over(say);
                say.malformed(protocol, what, offset, &bytes);
                false
            }
        }
    }

    /// Starts anew with the bytes that follow, inside `name`.
    fn enter(&mut self, name: &'static str, say: &mut Say<'_>) -> bool {
        if self.depth >= DEPTH {
            return self.over(say);
        }
        if let Some(mut parser) = self.parser.take() {
            parser.finish(say);
        }
        *self = Self { sides: std::mem::take(&mut self.sides), inside: Some(name), depth: self.depth + 1, ..Self::default() };
        for side in [Speaker::Source, Speaker::Destination] {
            let rest = self.sides.of(side).peek();
            *self.samples.of_mut(side) = rest.get(..SAMPLE).unwrap_or(rest).to_vec();
            self.sides.of_mut(side).want(0);
        }
        true
    }

    /// Nothing more is read.
    fn over(&mut self, say: &mut Say<'_>) -> bool {
        for parser in [&mut self.parser, &mut self.alone] {
            if let Some(mut parser) = parser.take() {
                parser.finish(say);
            }
        }
        false
    }

    fn role(&self, from: Speaker) -> Role {
        let role = Role::by(from);
        if self.reversed { role.other() } else { role }
    }
}

/// The protocol that one side's bytes name alone, and what the probe of a client's bytes says of them.
fn named_by(head: &[u8]) -> (Option<&'static ProbeDef>, Verdict) {
    let probe = probe::probe(head);
    let def = match (probe.verdict, probe.protocol) {
        (Verdict::Certain, Some(name)) => probe::definition(name),
        _ => probe::answer(head),
    };
    (def, probe.verdict)
}
