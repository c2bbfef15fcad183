//! The kernel's type information as it stands in memory and in modules (Linux Documentation/bpf/btf.rst).

use anyhow::{Context, Result, bail};

const MAGIC: u16 = 0xeb9f;

/// What a type is (include/uapi/linux/btf.h), as far as it makes a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::save_data) enum Kind {
    /// With one word of its own.
    Int,
    /// Element, type of the index, number of elements.
    Array,
    /// A structure or a union: name, type and place of each member.
    Struct,
    /// Name and value of each constant.
    Enum,
    /// What consists of nothing.
    Plain,
    /// What is another type under a name, or a way to it.
    Reference,
    /// A function: a reference to its prototype.
    Function,
    /// A name for another type.
    Typedef,
    /// Name and type of each parameter.
    Prototype,
    /// Variables, sections and tags of these: nothing leads to them.
    Other,
}

/// One type in the kernel's own words.
#[derive(Clone, Debug)]
pub(super) struct Type {
    pub(super) name: u32,
    pub(super) info: u32,
    /// Its size, or the type that it refers to.
    pub(super) size_or_type: u32,
    pub(super) rest: Vec<u32>,
}

impl Type {
    pub(super) fn kind(&self) -> Kind {
        match self.number() {
            1 => Kind::Int,
            3 => Kind::Array,
            4 | 5 => Kind::Struct,
            6 | 19 => Kind::Enum,
            7 | 16 => Kind::Plain,
            8 => Kind::Typedef,
            12 => Kind::Function,
            13 => Kind::Prototype,
            2 | 9..=11 | 18 => Kind::Reference,
            _ => Kind::Other,
        }
    }

    fn number(&self) -> u32 {
        self.info >> 24 & 0x1f
    }

    /// How many members, constants or parameters it has.
    pub(super) fn parts(&self) -> usize {
        self.info as usize & 0xffff
    }

    /// How many words follow the three that all types have.
    fn words(&self) -> Result<usize> {
        let parts = self.parts();
        Ok(match self.number() {
            1 | 14 | 17 => 1,
            3 => 3,
            4 | 5 | 15 | 19 => 3 * parts,
            6 | 13 => 2 * parts,
            2 | 7..=12 | 16 | 18 => 0,
            unknown => bail!("there is a type of the unknown kind {unknown} in it"),
        })
    }
}

/// Type information, of vmlinux or on top of that.
#[derive(Debug)]
pub(in crate::save_data) struct Btf<'a> {
    base: Option<&'a Self>,
    types: Vec<Type>,
    names: Vec<u8>,
}

impl<'a> Btf<'a> {
    /// Reads it; that of a module goes on where vmlinux's ends.
    pub(in crate::save_data) fn parse(bytes: &[u8], base: Option<&'a Self>) -> Result<Self> {
        let short = "the type information is cut off";
        if bytes.first_chunk().map(|magic| u16::from_le_bytes(*magic)) != Some(MAGIC) {
            bail!("this is no type information (BTF)");
        }
        let header = words(bytes.get(4..24).context(short)?);
        let [length, types, types_length, names, names_length] = header[..] else { bail!(short) };
        let part = |offset: u32, size: u32| {
            let start = length as usize + offset as usize;
            bytes.get(start..).and_then(|rest| rest.get(..size as usize)).context(short)
        };
        let words = words(part(types, types_length)?);
        let mut rest = &words[..];
        let mut types = Vec::new();
        while !rest.is_empty() {
            let [name, info, size_or_type, after @ ..] = rest else { bail!(short) };
            let mut one = Type { name: *name, info: *info, size_or_type: *size_or_type, rest: Vec::new() };
            let own = after.split_at_checked(one.words()?).context(short)?;
            one.rest = own.0.to_vec();
            rest = own.1;
            types.push(one);
        }
        Ok(Self { base, types, names: part(names, names_length)?.to_vec() })
    }

    /// The number of the first type that is not the base's: 0 is void.
    fn first(&self) -> usize {
        self.base.map_or(1, |base| base.first() + base.types.len())
    }

    pub(super) fn by_number(&self, number: u32) -> Result<&Type> {
        let place = number as usize;
        match self.base {
            Some(base) if place < self.first() => base.by_number(number),
            _ => place.checked_sub(self.first()).and_then(|place| self.types.get(place)).context("a type is missing in it"),
        }
    }

    pub(super) fn name(&self, offset: u32) -> Result<&str> {
        let before = self.base.map_or(0, |base| base.names.len());
        match self.base {
            Some(base) if (offset as usize) < before => base.name(offset),
            _ => {
                let from = self.names.get(offset as usize - before..).context("a name is missing in it")?;
                let end = from.iter().position(|byte| *byte == 0).context("a name has no end in it")?;
                Ok(std::str::from_utf8(&from[..end])?)
            }
        }
    }

    /// The number of the first type of this kind and name that is not the base's.
    pub(super) fn find(&self, kind: Kind, name: &str) -> Result<u32> {
        let is_it = |one: &Type| one.kind() == kind && self.name(one.name).is_ok_and(|found| found == name);
        let place = self.types.iter().position(is_it).with_context(|| format!("there is no {name} in it"))?;
        Ok(u32::try_from(self.first() + place)?)
    }
}

/// The header of a file with so many bytes of types, and names right after them: magic, version 1, no flags, its own length,
/// then place and length of types and of names.
pub(super) fn header(types: usize, names: usize) -> Vec<u8> {
    let words = [24, 0, types, types, names].map(|word| u32::try_from(word).unwrap_or(u32::MAX));
    let start = MAGIC.to_le_bytes().into_iter().chain([1, 0]);
    start.chain(words.into_iter().flat_map(u32::to_le_bytes)).collect()
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}
