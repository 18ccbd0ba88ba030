//! What the parser makes of a command line.

use std::sync::Arc;

/// A word before expansion.
pub(in crate::system) type Word = Vec<Part>;

/// One piece of a word.
#[derive(Clone, Debug)]
pub(in crate::system) enum Part {
    /// Unquoted text; may hold glob characters, braces and a tilde.
    Lit(Vec<u8>),
    /// Quoted text, taken as it is.
    Quoted(Vec<u8>),
    /// The inside of double quotes.
    Double(Vec<Part>),
    /// `$name`, `${…}`.
    Param(Box<Param>),
    /// `$(…)` or backquotes.
    Cmd(Arc<Node>),
    /// `$((…))`.
    Arith(Word),
    /// `<(…)`.
    Process(Arc<Node>),
}

/// A parameter expansion.
#[derive(Clone, Debug)]
pub(in crate::system) struct Param {
    pub name: Vec<u8>,
    pub index: Option<Word>,
    pub length: bool,
    pub indirect: bool,
    pub op: Op,
}

/// What a parameter expansion does with the value.
#[derive(Clone, Debug)]
pub(in crate::system) enum Op {
    None,
    /// `-` `=` `?` `+`, with a colon or not.
    Test {
        kind: u8,
        colon: bool,
        word: Word,
    },
    /// `#` `##` `%` `%%`.
    Trim {
        end: bool,
        long: bool,
        pattern: Word,
    },
    /// `/` `//` `/#` `/%`.
    Replace {
        kind: u8,
        pattern: Word,
        with: Word,
    },
    /// `:offset:length`.
    Slice {
        from: Word,
        len: Option<Word>,
    },
    /// `^` `^^` `,` `,,`.
    Case {
        upper: bool,
        all: bool,
    },
    /// `${!prefix*}`.
    Names,
}

/// One redirection.
#[derive(Clone, Debug)]
pub(in crate::system) struct Redir {
    pub fd: Option<u32>,
    pub kind: RedirKind,
    pub target: Word,
}

/// The redirection operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::system) enum RedirKind {
    In,
    Out,
    Append,
    ReadWrite,
    DupIn,
    DupOut,
    Both,
    BothAppend,
    /// Here-document or here-string: the target is the text.
    Text,
}

/// `name=value`, `name+=value`, `name[index]=value`, `name=(…)`.
#[derive(Clone, Debug)]
pub(in crate::system) struct Assign {
    pub name: Vec<u8>,
    pub index: Option<Word>,
    pub append: bool,
    pub value: AssignValue,
}

/// The right side of an assignment.
#[derive(Clone, Debug)]
pub(in crate::system) enum AssignValue {
    Word(Word),
    Array(Vec<(Option<Word>, Word)>),
}

/// A `[[ … ]]` expression.
#[derive(Clone, Debug)]
pub(in crate::system) enum Cond {
    Unary(u8, Word),
    Binary(Word, Vec<u8>, Word),
    Word(Word),
    Not(Box<Cond>),
    And(Box<Cond>, Box<Cond>),
    Or(Box<Cond>, Box<Cond>),
}

/// How a `case` arm ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::system) enum Fall {
    Stop,
    Through,
    Retest,
}

/// A command.
#[derive(Clone, Debug)]
pub(in crate::system) enum Node {
    Simple { assigns: Vec<Assign>, words: Vec<Word>, redirs: Vec<Redir>, line: u32 },
    Pipeline { stages: Vec<(Node, bool)>, negate: bool, timed: bool },
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    List(Vec<Node>),
    Background(Arc<Node>, Vec<u8>),
    Group(Box<Node>, Vec<Redir>),
    Subshell(Box<Node>, Vec<Redir>),
    If { arms: Vec<(Node, Node)>, otherwise: Option<Box<Node>>, redirs: Vec<Redir> },
    For { name: Vec<u8>, words: Option<Vec<Word>>, body: Box<Node>, redirs: Vec<Redir> },
    CFor { init: Word, cond: Word, step: Word, body: Box<Node>, redirs: Vec<Redir> },
    While { cond: Box<Node>, body: Box<Node>, until: bool, redirs: Vec<Redir> },
    Case { word: Word, arms: Vec<(Vec<Word>, Node, Fall)>, redirs: Vec<Redir> },
    Function { name: Vec<u8>, body: Arc<Node>, source: Arc<Vec<u8>> },
    Cond(Cond, Vec<Redir>),
    Arith(Word, Vec<Redir>),
}
