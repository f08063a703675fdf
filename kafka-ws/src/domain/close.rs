//! Why a socket ends (dojot-connectors.md 1.3).

/// Code and text of a close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// The topic is not one of the tenant's.
    Forbidden,
    /// The time of the socket is over.
    Lifetime,
    /// Something that the socket needs is away.
    Unavailable,
    /// The process ends.
    GoingAway,
    /// More waits for the client than may wait.
    TooSlow,
    /// The client sent something that is no frame, or too large.
    BadFrame,
}

impl Close {
    /// The number on the wire.
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::BadFrame => 1008,
            Self::TooSlow => 1013,
            Self::Forbidden => 4403,
            Self::Lifetime => 4408,
            Self::Unavailable => 4503,
        }
    }

    /// The text on the wire.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "Server is shutting down",
            Self::BadFrame => "Unacceptable frame",
            Self::TooSlow => "Too slow",
            Self::Forbidden => "Tenant can't access this topic",
            Self::Lifetime => "Connection lifetime",
            Self::Unavailable => "Server unavailable at this moment",
        }
    }
}
