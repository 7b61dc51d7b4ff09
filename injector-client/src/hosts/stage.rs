//! How far a partition is on one host, and what takes it back from there.

/// How far a partition is on one host, as far as the client knows. Generations are the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was asked, or it was refused.
    #[default]
    Untouched,
    /// `prepare` was sent.
    Preparing,
    /// It is prepared, and owned by the connection.
    Prepared(u32),
    /// `enable` was sent: it may have taken effect.
    Enabling(u32),
    /// It is enabled, and owned by nobody.
    Enabled(u32),
}

/// What takes a partition back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Nothing has to be done.
    Nothing,
    /// The end of the connection, which owns what may be prepared.
    Disconnect,
    /// A heal of this generation.
    Heal(u32),
}

/// Whether the connection that prepared a partition is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It is, and waits for the next request.
    Open,
    /// It ended, or was closed in the middle of an answer.
    Closed,
}

impl Stage {
    /// What takes the partition back from here.
    pub fn undo(self, connection: Connection) -> Undo {
        match (self, connection) {
            (Self::Untouched, _) => Undo::Nothing,
            (Self::Preparing, _) | (Self::Prepared(_), Connection::Closed) => Undo::Disconnect,
            (Self::Prepared(generation), Connection::Open)
            | (Self::Enabling(generation) | Self::Enabled(generation), _) => Undo::Heal(generation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_cut_is_healed_and_what_is_owned_ends_with_its_connection() {
        for connection in [Connection::Open, Connection::Closed] {
            assert_eq!(Stage::Untouched.undo(connection), Undo::Nothing);
            assert_eq!(Stage::Preparing.undo(connection), Undo::Disconnect);
            // Sent and not answered: it may be in force, and nobody's.
            assert_eq!(Stage::Enabling(7).undo(connection), Undo::Heal(7));
            assert_eq!(Stage::Enabled(7).undo(connection), Undo::Heal(7));
        }
        assert_eq!(Stage::Prepared(7).undo(Connection::Open), Undo::Heal(7));
        assert_eq!(Stage::Prepared(7).undo(Connection::Closed), Undo::Disconnect);
    }
}
