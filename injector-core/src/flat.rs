//! Structs that are one field of another and are written side by side with its other fields.
//!
//! `#[serde(flatten)]` writes them so. It is no good for reading: it buffers what it reads, so that an error does not say
//! in which field and on which line it is, and `deny_unknown_fields` does not work beside it. A struct with such parts is
//! therefore read by way of a second one that has all fields side by side. [`flat!`] declares both from one list.

/// Declares a struct with parts, the flat struct that serde reads, and the conversion:
///
/// ```ignore
/// flat! {
///     #[derive(Serialize, Deserialize)]
///     #[serde(from = "FlatRequest")]
///     pub struct Request;
///     #[derive(Deserialize)]
///     #[serde(deny_unknown_fields)]
///     struct FlatRequest;
///     {
///         /// A field of both.
///         pub shape: Shape,
///         /// A `Traffic` in the first, and the fields that `traffic_fields!` lists in the second.
///         pub traffic: ..traffic_fields!(Traffic),
///     }
/// }
/// ```
///
/// A part has its own macro, which hands its list of fields to this one (see `traffic_fields!`).
macro_rules! flat {
    (
        $(#[$meta:meta])* $vis:vis struct $name:ident;
        $(#[$flat_meta:meta])* struct $flat:ident;
        { $($fields:tt)* }
    ) => {
        $crate::flat::flat! {
            fields [($(#[$meta])* $vis struct $name) ($(#[$flat_meta])* struct $flat) $name $flat given]
            {} {} {} $($fields)*
        }
    };
    // A part: its macro calls back with `splice` and its fields.
    (
        fields $heads:tt $nested:tt $side:tt $from:tt
        $(#[$meta:meta])* $vis:vis $field:ident: ..$part:ident!($type:ident), $($rest:tt)*
    ) => {
        $part! { splice $heads $nested $side $from ($(#[$meta])* $vis $field: $type) ($($rest)*) }
    };
    (
        splice [$head:tt $flat_head:tt $name:ident $flat:ident $given:ident]
        { $($nested:tt)* } { $($side:tt)* } { $($from:tt)* }
        ($(#[$meta:meta])* $vis:vis $field:ident: $type:ident) ($($rest:tt)*)
        { $($(#[$part_meta:meta])* pub $part_field:ident: $part_type:ty,)* }
    ) => {
        $crate::flat::flat! {
            fields [$head $flat_head $name $flat $given]
            { $($nested)* $(#[$meta])* #[serde(flatten)] $vis $field: $type, }
            { $($side)* $($(#[$part_meta])* $part_field: $part_type,)* }
            { $($from)* $field: $type { $($part_field: $given.$part_field,)* }, }
            $($rest)*
        }
    };
    (
        fields [$head:tt $flat_head:tt $name:ident $flat:ident $given:ident]
        { $($nested:tt)* } { $($side:tt)* } { $($from:tt)* }
        $(#[$meta:meta])* $vis:vis $field:ident: $type:ty, $($rest:tt)*
    ) => {
        $crate::flat::flat! {
            fields [$head $flat_head $name $flat $given]
            { $($nested)* $(#[$meta])* $vis $field: $type, }
            { $($side)* $(#[$meta])* $field: $type, }
            { $($from)* $field: $given.$field, }
            $($rest)*
        }
    };
    (
        fields [($($head:tt)*) ($($flat_head:tt)*) $name:ident $flat:ident $given:ident]
        { $($nested:tt)* } { $($side:tt)* } { $($from:tt)* }
    ) => {
        $($head)* { $($nested)* }
        $($flat_head)* { $($side)* }
        impl From<$flat> for $name {
            fn from($given: $flat) -> Self {
                Self { $($from)* }
            }
        }
    };
    // The part itself.
    (declare $(#[$meta:meta])* $vis:vis struct $name:ident { $($fields:tt)* }) => {
        $(#[$meta])* $vis struct $name { $($fields)* }
    };
}
pub(crate) use flat;
