//! Reduces a kernel's type information (BTF) to the few types that are looked up, with all that they refer to.
//!
//! Structures keep their names, sizes and places. Types are numbered anew in the order in which they are met, each before what
//! it refers to; names stand in the order in which they are needed, a type's own name last.

mod read;

use std::collections::HashMap;

use anyhow::Result;

use read::Type;
pub(super) use read::{Btf, Kind};

/// Of the large structures, the members that are kept.
pub(super) type Kept<'a> = &'a [(&'a str, &'a [&'a str])];

/// A file with these types of `btf` and all that they refer to.
pub(super) fn reduce(btf: &Btf<'_>, roots: &[(Kind, &str)], kept: Kept<'_>) -> Result<Vec<u8>> {
    let mut reduced = Reduced { btf, kept, numbers: HashMap::new(), types: Vec::new(), names: vec![0], places: HashMap::new() };
    for (kind, name) in roots {
        reduced.add(btf.find(*kind, name)?)?;
    }
    Ok(reduced.bytes())
}

struct Reduced<'a> {
    btf: &'a Btf<'a>,
    kept: Kept<'a>,
    /// New numbers of old types.
    numbers: HashMap<u32, u32>,
    /// None while what it refers to is added.
    types: Vec<Option<Type>>,
    names: Vec<u8>,
    /// Where names stand.
    places: HashMap<&'a str, u32>,
}

impl<'a> Reduced<'a> {
    /// Adds a type and all that it refers to, and returns its new number.
    fn add(&mut self, old: u32) -> Result<u32> {
        if old == 0 {
            return Ok(0);
        }
        if let Some(number) = self.numbers.get(&old) {
            return Ok(*number);
        }
        self.types.push(None);
        let place = self.types.len();
        let number = u32::try_from(place)?;
        self.numbers.insert(old, number);
        let mut one = self.btf.by_number(old)?.clone();
        match one.kind() {
            Kind::Reference | Kind::Function | Kind::Typedef => one.size_or_type = self.add(one.size_or_type)?,
            Kind::Array => {
                for part in one.rest.iter_mut().take(2) {
                    *part = self.add(*part)?;
                }
            }
            Kind::Struct => self.members(&mut one)?,
            Kind::Prototype => {
                one.size_or_type = self.add(one.size_or_type)?;
                for parameter in one.rest.chunks_exact_mut(2) {
                    parameter[0] = self.name(parameter[0])?;
                    parameter[1] = self.add(parameter[1])?;
                }
            }
            Kind::Enum => {
                // A value has one word or two.
                let words = one.rest.len() / one.parts().max(1);
                for constant in one.rest.chunks_exact_mut(words.max(1)) {
                    constant[0] = self.name(constant[0])?;
                }
            }
            Kind::Int | Kind::Plain | Kind::Other => {}
        }
        one.name = self.name(one.name)?;
        self.types[place - 1] = Some(one);
        Ok(number)
    }

    /// Those members that are kept: all where nothing is said.
    fn members(&mut self, one: &mut Type) -> Result<()> {
        let name = self.btf.name(one.name)?;
        let kept = self.kept.iter().find(|(structure, _)| *structure == name).map(|(_, members)| *members);
        let mut words = Vec::new();
        for member in one.rest.chunks_exact(3) {
            let name = self.btf.name(member[0])?;
            if kept.is_none_or(|kept| kept.contains(&name)) {
                words.extend([self.name(member[0])?, self.add(member[1])?, member[2]]);
            }
        }
        one.info = one.info & !0xffff | u32::try_from(words.len() / 3)?;
        one.rest = words;
        Ok(())
    }

    fn name(&mut self, old: u32) -> Result<u32> {
        let name = self.btf.name(old)?;
        if name.is_empty() {
            return Ok(0);
        }
        if let Some(place) = self.places.get(name) {
            return Ok(*place);
        }
        let place = u32::try_from(self.names.len())?;
        self.names.extend(name.bytes().chain([0]));
        self.places.insert(name, place);
        Ok(place)
    }

    fn bytes(self) -> Vec<u8> {
        let words = |one: Type| [vec![one.name, one.info, one.size_or_type], one.rest].concat();
        let types: Vec<u8> = self.types.into_iter().flatten().flat_map(words).flat_map(u32::to_le_bytes).collect();
        read::header(types.len(), self.names.len()).into_iter().chain(types).chain(self.names).collect()
    }
}

#[cfg(test)]
mod tests;
