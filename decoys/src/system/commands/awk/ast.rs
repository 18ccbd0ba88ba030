//! What an `awk` program is.

use crate::system::regex::Regex;

pub(super) type Name = String;

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Number(f64),
    Text(Vec<u8>),
    Regex(Box<Regex>),
    Field(Box<Expr>),
    Var(Name),
    Index(Name, Vec<Expr>),
    Assign(Box<Expr>, u8, Box<Expr>),
    Cond(Box<Expr>, Box<Expr>, Box<Expr>),
    Binary(Op, Box<Expr>, Box<Expr>),
    Match(bool, Box<Expr>, Box<Expr>),
    In(Vec<Expr>, Name),
    Not(Box<Expr>),
    Minus(Box<Expr>),
    Plus(Box<Expr>),
    /// Target, step, and whether the old value is the result.
    Step(Box<Expr>, f64, bool),
    Call(Name, Vec<Expr>),
    Getline(Option<Box<Expr>>, Option<(bool, Box<Expr>)>),
    Group(Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Or,
    And,
    Less,
    LessEq,
    Equal,
    NotEqual,
    Greater,
    GreaterEq,
    Concat,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

#[derive(Clone, Debug)]
pub(super) enum Stmt {
    Expr(Expr),
    /// Arguments, whether it is `printf`, and where to: `>`, `a` for `>>`, `|`.
    Print(Vec<Expr>, bool, Option<(u8, Expr)>),
    If(Expr, Box<Stmt>, Option<Box<Stmt>>),
    While(Expr, Box<Stmt>),
    Do(Box<Stmt>, Expr),
    For(Option<Box<Stmt>>, Option<Expr>, Option<Box<Stmt>>, Box<Stmt>),
    ForIn(Name, Name, Box<Stmt>),
    Block(Vec<Stmt>),
    Next,
    Exit(Option<Expr>),
    Return(Option<Expr>),
    Break,
    Continue,
    Delete(Name, Option<Vec<Expr>>),
}

#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Begin,
    End,
    Always,
    When(Expr),
    Range(Expr, Expr),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub rules: Vec<(Pattern, Option<Stmt>)>,
    pub functions: Vec<(Name, Vec<Name>, Stmt)>,
}
