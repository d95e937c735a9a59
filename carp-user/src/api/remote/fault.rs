//! Why a call of XML-RPC has no answer.

/// Why a call has no answer; the numbers are stable. Those below zero are everybody's (fault code interoperability), the
/// others are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The document is not well-formed, or beyond the bounds.
    NotWellFormed,
    /// It is not UTF-8.
    Encoding,
    /// It is no `methodCall`.
    NotXmlRpc,
    /// There is no such method.
    NoSuchMethod,
    /// The method does not take these parameters.
    WrongParams,
    /// It is this node's own mistake.
    Internal,
    /// carpd refuses, and says why and what to do.
    Refused,
    /// The account may only read.
    ReadOnly,
    /// Nothing is staged by that name.
    NotStaged,
    /// Something else is staged or applied just now: try again.
    Busy,
    /// carpd stops, or starts anew: try again.
    Stopping,
}

/// An error as XML-RPC has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (fault {code})")]
pub struct Fault {
    /// The number of a [`Code`]; of another version's node it may be another one.
    pub code: i32,
    /// In words.
    pub message: String,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::NotWellFormed,
        Self::Encoding,
        Self::NotXmlRpc,
        Self::NoSuchMethod,
        Self::WrongParams,
        Self::Internal,
        Self::Refused,
        Self::ReadOnly,
        Self::NotStaged,
        Self::Busy,
        Self::Stopping,
    ];

    /// Its number, which never changes.
    pub const fn number(self) -> i32 {
        match self {
            Self::NotWellFormed => -32_700,
            Self::Encoding => -32_701,
            Self::NotXmlRpc => -32_600,
            Self::NoSuchMethod => -32_601,
            Self::WrongParams => -32_602,
            Self::Internal => -32_603,
            Self::Refused => 1,
            Self::ReadOnly => 2,
            Self::NotStaged => 3,
            Self::Busy => 4,
            Self::Stopping => 5,
        }
    }

    /// What it means.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::NotWellFormed => "the document is not well-formed, or beyond the bounds",
            Self::Encoding => "the document is not UTF-8",
            Self::NotXmlRpc => {
                "the document is no methodCall, or has types that the specification does not (nil, i8)"
            }
            Self::NoSuchMethod => "there is no such method",
            Self::WrongParams => "the method does not take these parameters",
            Self::Internal => "a mistake of this node: see its log",
            Self::Refused => "carpd refuses; the words say why, and what to do",
            Self::ReadOnly => "the account may only read",
            Self::NotStaged => {
                "nothing is staged by that id: it is committed, aborted, or was forgotten after five minutes"
            }
            Self::Busy => "another configuration is staged or applied just now: try again",
            Self::Stopping => "carpd stops, or starts anew: try again",
        }
    }
}

impl Fault {
    /// One of ours.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code.number(), message: message.into() }
    }

    /// Whether it is this one.
    pub fn is(&self, code: Code) -> bool {
        self.code == code.number()
    }
}
