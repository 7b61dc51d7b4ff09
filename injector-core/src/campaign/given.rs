//! The cell that a command line names: what it leaves out is that of the campaign that is continued, or a default.

use crate::clock::Span;
use crate::model::{Direction, Flap, Neighbour, Percent, Scope, Shape, Traffic};
use crate::run::settings::Cell;

/// How long each cut lasts, if nothing is given.
pub const HOLD: Span = Span::secs(5);

/// A shape, and the settings that were given with it.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenCell {
    /// The shape that is cut.
    pub shape: Shape,
    /// The time for which the cut holds.
    pub hold: Option<Span>,
    /// The effect of the cuts on the packets of their links.
    pub traffic: GivenTraffic,
}

impl GivenCell {
    /// This cell, with the settings of `other` where none are given.
    pub fn over(self, other: &Cell) -> Cell {
        Cell {
            shape: self.shape,
            hold: self.hold.unwrap_or(other.hold),
            traffic: self.traffic.over(other.traffic.clone()),
        }
    }

    /// This cell, with a default where nothing is given.
    pub fn definite(self) -> Cell {
        let defaults = Cell::new(self.shape.clone(), HOLD);
        self.over(&defaults)
    }
}

/// The settings of [`Traffic`] that were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GivenTraffic {
    /// Which of the shape's directions are cut.
    pub direction: Option<Direction>,
    /// The scopes that are cut; empty where none are given.
    pub scopes: Vec<Scope>,
    /// The share of packets that is dropped.
    pub loss: Option<Percent>,
    /// The rhythm in which it drops.
    pub flap: Option<Flap>,
    /// What happens to ARP and neighbour discovery.
    pub neighbour: Option<Neighbour>,
}

impl GivenTraffic {
    /// These settings, and those of `other` where none are given.
    pub fn over(self, other: Traffic) -> Traffic {
        Traffic {
            direction: self.direction.unwrap_or(other.direction),
            scopes: if self.scopes.is_empty() { other.scopes } else { self.scopes },
            loss: self.loss.unwrap_or(other.loss),
            flap: self.flap.or(other.flap),
            neighbour: self.neighbour.unwrap_or(other.neighbour),
        }
    }
}
