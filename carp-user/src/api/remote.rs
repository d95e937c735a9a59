//! The methods that another machine may call by XML-RPC: one table, from which `system.listMethods` and its like answer, by
//! which calls are checked and passed on, and from which `docs/xmlrpc.md` is printed. Does no IO.

mod fault;
mod reference;

pub use fault::{Code, Fault};
pub use reference::reference;

use super::xmlrpc::Call;
use dxr::Value;

/// A type of XML-RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `i4` or `int`.
    Int,
    /// `boolean`.
    Boolean,
    /// `string`.
    Text,
    /// `base64`.
    Bytes,
    /// `struct`.
    Struct,
    /// `array`.
    Array,
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Every account.
    Read,
    /// Accounts that may change something.
    Full,
}

/// What a method does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Names all methods.
    ListMethods,
    /// Says what one takes and gives.
    MethodSignature,
    /// Says what one does.
    MethodHelp,
    /// Versions of this node.
    Version,
    /// How things are.
    Status,
    /// The shared configuration.
    ConfigGet,
    /// Its digest.
    ConfigDigest,
    /// Checks one and keeps it for a while.
    ConfigStage,
    /// Goes on with a staged one.
    ConfigCommit,
    /// Forgets a staged one.
    ConfigAbort,
    /// What a node that is edited asks of one that follows.
    ConfigFollow,
    /// Revisions.
    ConfigHistory,
    /// How many connections are tracked.
    StatesCount,
    /// Forces a role.
    RoleSet,
    /// Hands over and stays out of the way, or no longer.
    Maintenance,
}

/// One way to call a method.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// What it gives.
    pub gives: Kind,
    /// What it takes: name and type of each.
    pub takes: &'static [(&'static str, Kind)],
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// As it is called.
    pub name: &'static str,
    /// Who may.
    pub access: Access,
    /// How it is called: one of these ways.
    pub signatures: &'static [Signature],
    /// What it does, for people.
    pub help: &'static str,
    /// What it does.
    pub deed: Deed,
}

const NO_PARAMS: &[(&str, Kind)] = &[];
const OF_METHOD: &[(&str, Kind)] = &[("method", Kind::Text)];
const OF_STAGED: &[(&str, Kind)] = &[("id", Kind::Text)];

/// All methods.
pub const METHODS: &[Method] = &[
    Method {
        name: "system.listMethods",
        access: Access::Read,
        signatures: &[Signature { gives: Kind::Array, takes: NO_PARAMS }],
        help: "The names of all methods.",
        deed: Deed::ListMethods,
    },
    Method {
        name: "system.methodSignature",
        access: Access::Read,
        signatures: &[Signature { gives: Kind::Array, takes: OF_METHOD }],
        help: "The ways to call a method: of each the type that it gives, and then those that it takes.",
        deed: Deed::MethodSignature,
    },
    Method {
        name: "system.methodHelp",
        access: Access::Read,
        signatures: &[Signature { gives: Kind::Text, takes: OF_METHOD }],
        help: "What a method does.",
        deed: Deed::MethodHelp,
    },
    Method {
        name: "carp.version",
        access: Access::Read,
        signatures: &[Signature { gives: Kind::Struct, takes: NO_PARAMS }],
        help: "Of this node: `node` (its name), `version` (of carpd), `maps`, `programs` (of the datapath), `api` (of \
               these methods: 1).",
        deed: Deed::Version,
    },
    Method {
        name: "carp.status",
        access: Access::Read,
        signatures: &[Signature { gives: Kind::Struct, takes: NO_PARAMS }],
        help: "What `carpctl status --json` says. A number beyond i4 is a double; what is not known is left out.",
        deed: Deed::Status,
    },
    Method {
        name: "carp.config.get",
        access: Access::Read,
        signatures: &[Signature { gives: Kind::Struct, takes: NO_PARAMS }],
        help: "The shared configuration that is in use: `text` (base64, byte for byte), `sha256` of it, `revision`, `at`, \
               `origin`. Of secrets it has the names of their files.",
        deed: Deed::ConfigGet,
    },
    Method {
        name: "carp.config.digest",
        access: Access::Read,
        signatures: &[Signature { gives: Kind::Struct, takes: NO_PARAMS }],
        help: "The same without `text`.",
        deed: Deed::ConfigDigest,
    },
    Method {
        name: "carp.config.stage",
        access: Access::Full,
        signatures: &[
            Signature { gives: Kind::Struct, takes: &[("text", Kind::Bytes)] },
            Signature { gives: Kind::Struct, takes: &[("text", Kind::Text)] },
        ],
        help: "Checks a shared configuration against this node and keeps it for five minutes: `id` to commit or abort it \
               by, `changes` (an array of lines: what it would change here), `new_start` (why the node would hand over and \
               start anew for it; left out if it would not). Nothing changes yet.",
        deed: Deed::ConfigStage,
    },
    Method {
        name: "carp.config.commit",
        access: Access::Full,
        signatures: &[Signature { gives: Kind::Struct, takes: OF_STAGED }],
        help: "Goes on with what was staged, as `carpctl apply` does: `changes`, `new_start` as for stage.",
        deed: Deed::ConfigCommit,
    },
    Method {
        name: "carp.config.abort",
        access: Access::Full,
        signatures: &[Signature { gives: Kind::Boolean, takes: OF_STAGED }],
        help: "Forgets what was staged; whether there was anything.",
        deed: Deed::ConfigAbort,
    },
    Method {
        name: "carp.config.follow",
        access: Access::Full,
        signatures: &[Signature { gives: Kind::Text, takes: &[("request", Kind::Text)] }],
        help: "What a node with `[config_sync]` asks of the one that follows, and is told: JSON. It is between two carpd, and \
               may change with a version.",
        deed: Deed::ConfigFollow,
    },
    Method {
        name: "carp.config.history",
        access: Access::Read,
        signatures: &[Signature { gives: Kind::Array, takes: NO_PARAMS }],
        help: "The last revisions of the shared configuration, the newest last: `number`, `at` (dateTime, UTC), `origin`.",
        deed: Deed::ConfigHistory,
    },
    Method {
        name: "carp.states.count",
        access: Access::Read,
        signatures: &[Signature { gives: Kind::Struct, takes: NO_PARAMS }],
        help: "Connections: `tracked` by this node's kernel; and where they are replicated, `local` and `replicated` (by \
               who changed them last), `shared` (that both nodes have), `waiting` (changes to be sent).",
        deed: Deed::StatesCount,
    },
    Method {
        name: "carp.role.set",
        access: Access::Full,
        signatures: &[Signature {
            gives: Kind::Boolean,
            takes: &[("interface", Kind::Text), ("vhid", Kind::Int), ("role", Kind::Text)],
        }],
        help: "Puts a virtual host into role `master` or `backup` until the protocol undoes it.",
        deed: Deed::RoleSet,
    },
    Method {
        name: "carp.maintenance",
        access: Access::Full,
        signatures: &[
            Signature { gives: Kind::Boolean, takes: &[("on", Kind::Boolean)] },
            Signature { gives: Kind::Boolean, takes: &[("on", Kind::Boolean), ("reason", Kind::Text)] },
        ],
        help: "Hands everything over and ranks the node last, over restarts, or ends that: as `carpctl maintenance`. Refused when the other node cannot take over.",
        deed: Deed::Maintenance,
    },
];

/// The method of this name.
///
/// # Errors
/// [`Code::NoSuchMethod`].
pub fn find(name: &str) -> Result<&'static Method, Fault> {
    let found = METHODS.iter().find(|method| method.name == name);
    found.ok_or_else(|| Fault::new(Code::NoSuchMethod, "no such method: see system.listMethods"))
}

/// The method that is called, when this account may call it so.
///
/// # Errors
/// [`Code::NoSuchMethod`], [`Code::ReadOnly`], [`Code::WrongParams`].
pub fn admit(call: &Call, access: Access) -> Result<&'static Method, Fault> {
    let method = find(&call.method)?;
    if method.access > access {
        return Err(Fault::new(
            Code::ReadOnly,
            format!("{} changes something, and this account may only read", method.name),
        ));
    }
    let given: Vec<Option<Kind>> = call.params.iter().map(Kind::of).collect();
    if method.signatures.iter().any(|signature| signature.fits(&given)) {
        return Ok(method);
    }
    let ways: Vec<String> = method.signatures.iter().map(|way| method.shown(way)).collect();
    Err(Fault::new(Code::WrongParams, format!("call it as {}", ways.join(" or "))))
}

impl Method {
    /// One way to call it, in words: `name(param: type) -> type`.
    fn shown(&self, signature: &Signature) -> String {
        let takes = signature.takes.iter().map(|(name, kind)| format!("{name}: {}", kind.name()));
        format!("{}({}) -> {}", self.name, takes.collect::<Vec<_>>().join(", "), signature.gives.name())
    }

    /// As `system.methodSignature` has it.
    pub fn signature(&self) -> Value {
        let kind = |kind: &Kind| Value::String(kind.name().to_owned());
        let way = |way: &Signature| {
            let takes = way.takes.iter().map(|(_, takes)| kind(takes));
            Value::Array([kind(&way.gives)].into_iter().chain(takes).collect())
        };
        Value::Array(self.signatures.iter().map(way).collect())
    }
}

impl Signature {
    fn fits(&self, given: &[Option<Kind>]) -> bool {
        self.takes.len() == given.len()
            && self.takes.iter().zip(given).all(|((_, takes), given)| Some(*takes) == *given)
    }
}

impl Kind {
    /// None for types that no method takes.
    #[expect(clippy::wildcard_enum_match_arm, reason = "another crate's, which may grow")]
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(_) => Some(Self::Int),
            Value::Boolean(_) => Some(Self::Boolean),
            Value::String(_) => Some(Self::Text),
            Value::Base64(_) => Some(Self::Bytes),
            Value::Struct(_) => Some(Self::Struct),
            Value::Array(_) => Some(Self::Array),
            _ => None,
        }
    }

    /// XML-RPC's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Boolean => "boolean",
            Self::Text => "string",
            Self::Bytes => "base64",
            Self::Struct => "struct",
            Self::Array => "array",
        }
    }
}
