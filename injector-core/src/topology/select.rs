//! Resolves a shape as asked: replaces presets, roles and draws by peers. Pure: the same seed gives the same
//! result.

use std::collections::{BTreeMap, BTreeSet};

use super::draw::Drawing;
use super::error::TopologyError;
use super::known::{Definitions, id};
use super::shapes;
use crate::model::{Direction, PeerName, PeerNames, Selector, Shape};

/// A shape whose peers are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The shape after drawing, roles and presets, in its one spelling.
    pub shape: Shape<PeerName>,
    /// Whether the seed had a say.
    pub drawn: bool,
}

/// Makes peers of everything in a shape that represents peers, and writes computed shapes as the groups or grudges that
/// they are. Whether the peers exist, and which links they have, is for [`links`](super::links).
pub fn select(
    shape: &Shape,
    direction: Direction,
    known: Definitions<'_>,
    seed: u64,
) -> Result<Selected, TopologyError> {
    let shape = meant(shape, known.presets)?;
    check_direction(shape, direction)?;
    let mut drawing = Drawing::new(known, shape, seed);
    let shape = shapes::select(shape, &mut drawing)?;
    Ok(Selected { shape, drawn: drawing.drawn })
}

/// The names of the roles in a shape.
pub fn roles(shape: &Shape, presets: &BTreeMap<String, Shape>) -> Result<BTreeSet<String>, TopologyError> {
    let shape = meant(shape, presets)?;
    let (_, arguments) = shape.written();
    let role = |selector: &Selector| match selector {
        Selector::Role(role) => Some(role.clone()),
        Selector::Name(_) => None,
    };
    Ok(arguments.selectors().into_iter().filter_map(role).collect())
}

/// Checks that a shape has a group that the direction is relative to. Presets must be resolved before.
pub fn check_direction(shape: &Shape, direction: Direction) -> Result<(), TopologyError> {
    if direction != Direction::Both && shape.first_group().is_none() {
        return Err(TopologyError::NoFirstGroup { shape: shape.word() });
    }
    Ok(())
}

/// Whether all peers that a shape names are configured: all that can be known of one before its roles are.
pub fn check_names(shape: &Shape, names: &PeerNames) -> Result<(), TopologyError> {
    let (_, arguments) = shape.written();
    for selector in arguments.selectors() {
        if let Selector::Name(name) = selector {
            id(&PeerName(name.clone()), names)?;
        }
    }
    Ok(())
}

/// The shape itself, or the shape of a preset.
fn meant<'a>(shape: &'a Shape, presets: &'a BTreeMap<String, Shape>) -> Result<&'a Shape, TopologyError> {
    match shape {
        Shape::Preset(name) => match presets.get(name) {
            Some(Shape::Preset(_)) => Err(TopologyError::NestedPreset { name: name.clone() }),
            Some(shape) => Ok(shape),
            None => {
                let known = presets.keys().cloned().collect();
                Err(TopologyError::UnknownPreset { name: name.clone(), known })
            }
        },
        shape => Ok(shape),
    }
}
