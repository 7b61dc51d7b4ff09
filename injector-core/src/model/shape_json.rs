//! Reads shapes and grudges, where a mapping's keys matter: a JSON reader that keeps the last of two equal keys would
//! lose links.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{Error as PlainError, StrDeserializer};
use serde::de::{
    Deserializer, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, Unexpected, VariantAccess,
    Visitor,
};
use serde::{Deserialize, Serialize, Serializer, forward_to_deserialize_any};

use super::Shape;

/// Reads `{dst: [src…]}`; a receiver that is listed twice is an error.
pub fn read<'de, P, D>(deserializer: D) -> Result<BTreeMap<P, Vec<P>>, D::Error>
where
    P: Deserialize<'de> + Ord + fmt::Display,
    D: Deserializer<'de>,
{
    deserializer.deserialize_map(GrudgeVisitor(PhantomData))
}

struct GrudgeVisitor<P>(PhantomData<P>);

impl<'de, P: Deserialize<'de> + Ord + fmt::Display> Visitor<'de> for GrudgeVisitor<P> {
    type Value = BTreeMap<P, Vec<P>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a grudge, such as {\"n1\": [\"n2\"]}: n1 drops what n2 sends")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut grudge = BTreeMap::new();
        while let Some(dst) = access.next_key::<P>()? {
            if grudge.contains_key(&dst) {
                return Err(A::Error::custom(format_args!(
                    "\"{dst}\" is twice in the grudge; put all that it drops into one list"
                )));
            }
            grudge.insert(dst, access.next_value()?);
        }
        Ok(grudge)
    }
}

impl<P: Serialize> Serialize for Shape<P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de, P: Deserialize<'de> + Ord + fmt::Display> Deserialize<'de> for Shape<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ShapeVisitor(PhantomData))
    }
}

struct ShapeVisitor<P>(PhantomData<P>);

impl<'de, P: Deserialize<'de> + Ord + fmt::Display> Visitor<'de> for ShapeVisitor<P> {
    type Value = Shape<P>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a shape, such as {\"isolate\": [\"n1\"]} or {\"halves\": {}}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Shape<P>, A::Error> {
        let Some(key) = access.next_key::<String>()? else {
            return Err(A::Error::custom(
                "the shape is empty; write one, such as {\"isolate\": [\"n1\"]} or {\"halves\": {}}",
            ));
        };
        let shape = Shape::<P>::deserialize(OneEntry { key: &key, access: &mut access })?;
        match access.next_key::<String>()? {
            None => Ok(shape),
            Some(second) => Err(A::Error::custom(format_args!(
                "two shapes in one, {key} and {second}; make a partition of each"
            ))),
        }
    }
}

/// The first entry of a mapping, as the variant of an enum.
struct OneEntry<'a, A> {
    key: &'a str,
    access: &'a mut A,
}

impl<'de, A: MapAccess<'de>> Deserializer<'de> for OneEntry<'_, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for OneEntry<'_, A> {
    type Error = A::Error;
    type Variant = Self;

    fn variant_seed<V: serde::de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), A::Error> {
        let key: StrDeserializer<'_, PlainError> = self.key.into_deserializer();
        let variant = seed.deserialize(key).map_err(|error| {
            A::Error::custom(error.to_string().replacen("unknown variant", "unknown shape", 1))
        })?;
        Ok((variant, self))
    }
}

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for OneEntry<'_, A> {
    type Error = A::Error;

    fn newtype_variant_seed<T: serde::de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.access.next_value_seed(seed)
    }

    // Every shape has one parameter.
    fn unit_variant(self) -> Result<(), A::Error> {
        Err(A::Error::invalid_type(Unexpected::NewtypeVariant, &"a shape with a parameter"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, A::Error> {
        Err(A::Error::invalid_type(Unexpected::NewtypeVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        Err(A::Error::invalid_type(Unexpected::NewtypeVariant, &visitor))
    }
}
