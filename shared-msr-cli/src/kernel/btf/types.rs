//! The format of BTF (Documentation/bpf/btf.rst; include/uapi/linux/btf.h), as far as questions about the kernel need it.
//!
//! Nothing is made of a type but its place: vmlinux has more than a hundred thousand of them, and a handful is asked for.

use std::{iter, ops::Range, sync::Arc};

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
/// `struct btf_header`, as far as it is used; `hdr_len` says how long it is.
const HEADER_BYTES: usize = 24;
/// `struct btf_type`: name, info, and size or type.
const TYPE_BYTES: usize = 12;

/// So many types may stand behind each other; the kernel itself takes no more (`MAX_RESOLVE_DEPTH`, kernel/bpf/btf.c). Without a bound
/// a typedef that names itself would have no end.
const LONGEST_CHAIN: usize = 32;

/// `BTF_KIND_*`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const POINTER: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FORWARD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNCTION: u32 = 12;
    pub(super) const PROTOTYPE: u32 = 13;
    pub(super) const VARIABLE: u32 = 14;
    pub(super) const SECTION: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECLARATION_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Types of vmlinux or, behind vmlinux's, of a module.
#[derive(Clone, Debug)]
pub struct Btf {
    own: Arc<Part>,
    /// What `own` refers to besides itself.
    base: Option<Arc<Part>>,
}

/// What one file has.
#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    strings: Range<usize>,
    /// Where each type stands.
    places: Vec<u32>,
    /// Id of the first of them: 1, or behind those of the base.
    first_id: u32,
    /// Where the names begin, as types count: 0, or behind those of the base.
    first_name: u32,
}

/// A type.
#[derive(Clone, Copy, Debug)]
pub struct Type<'a> {
    btf: &'a Btf,
    part: &'a Part,
    id: u32,
    place: usize,
}

/// A member of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// From the beginning of the structure, in bytes.
    pub offset: usize,
    /// Its type; none if there is no such type.
    pub of: Option<Type<'a>>,
}

impl Btf {
    /// Takes the content of vmlinux's file, or of any that refers to nothing else. Says what is wrong with it.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        Ok(Self { own: Arc::new(Part::parse(bytes, (1, 0))?), base: None })
    }

    /// Takes the content of a module's file: its types are numbered on from those of vmlinux, and so are its names.
    pub fn split(bytes: Vec<u8>, vmlinux: &Self) -> Result<Self, String> {
        let base = &vmlinux.own;
        let first_id = base.first_id + base.places.len() as u32;
        let first_name = base.first_name + base.strings.len() as u32;
        Ok(Self { own: Arc::new(Part::parse(bytes, (first_id, first_name))?), base: Some(Arc::clone(base)) })
    }

    /// The id of a function's type; none when BTF does not know the function.
    pub fn function_id(&self, name: &str) -> Option<u32> {
        self.named(name, kind::FUNCTION).next().map(|function| function.id)
    }

    /// The first structure of one of these names.
    pub fn structure(&self, names: &[&str]) -> Option<Type<'_>> {
        names.iter().find_map(|name| self.named(name, kind::STRUCT).next())
    }

    /// Offset in bytes of a member of a member, all of them in place.
    pub fn offset(&self, structure: &str, path: &[&str]) -> Option<usize> {
        let mut structure = self.structure(&[structure]);
        let mut sum = 0;
        for name in path {
            let field = structure?.field(name)?;
            sum += field.offset;
            structure = field.of.filter(|of| of.kind() == kind::STRUCT);
        }
        Some(sum)
    }

    /// What the function takes that this typedef is a pointer to: of each parameter the name of the structure that it points to, else
    /// that of its type.
    pub fn parameters(&self, typedef: &str) -> Option<Vec<String>> {
        let pointer = self.named(typedef, kind::TYPEDEF).next()?.behind().filter(|of| of.kind() == kind::POINTER)?;
        let function = pointer.behind().filter(|of| of.kind() == kind::PROTOTYPE)?;
        let name = |parameter: usize| {
            let first = self.by_id(function.word(TYPE_BYTES + parameter * 8 + 4)?);
            let chain = iter::successors(first, Type::behind).take(LONGEST_CHAIN);
            chain.map(Type::name).filter(|name| !name.is_empty()).last()
        };
        Some((0..function.parts()).map(|parameter| name(parameter).unwrap_or_default().to_owned()).collect())
    }

    /// Types of a name and kind: its own ones first.
    fn named(&self, name: &str, kind: u32) -> impl Iterator<Item = Type<'_>> {
        let parts = iter::once(&self.own).chain(&self.base);
        let types = parts.flat_map(|part| {
            let ids = part.first_id..;
            ids.zip(&part.places).map(|(id, place)| Type { btf: self, part, id, place: *place as usize })
        });
        types.filter(move |of| of.kind() == kind && of.is_named(name))
    }

    /// None for `void`, and for what is not there.
    fn by_id(&self, id: u32) -> Option<Type<'_>> {
        let part = iter::once(&self.own).chain(&self.base).find(|part| id >= part.first_id)?;
        let place = *part.places.get((id - part.first_id) as usize)? as usize;
        Some(Type { btf: self, part, id, place })
    }

    /// The bytes from a name on.
    fn name(&self, offset: u32) -> &[u8] {
        let part = iter::once(&self.own).chain(&self.base).find(|part| offset >= part.first_name);
        let names = part.and_then(|part| part.bytes[part.strings.clone()].get((offset - part.first_name) as usize..));
        names.unwrap_or_default()
    }
}

impl Part {
    fn parse(bytes: Vec<u8>, (first_id, first_name): (u32, u32)) -> Result<Self, String> {
        let header = bytes.get(..HEADER_BYTES).ok_or("it is shorter than its header")?;
        if header[..2] != MAGIC.to_le_bytes() || header[2] != VERSION {
            return Err("it does not begin as BTF does".to_owned());
        }
        // hdr_len; then offset and length of the types, and of the names, all from the end of the header on.
        let number = |at: usize| word(&bytes, at).map_or(0, |number| number as usize);
        let start = number(4);
        let range = |at: usize| {
            let begin = start.checked_add(number(at))?;
            let range = begin..begin.checked_add(number(at + 4))?;
            (range.end <= bytes.len()).then_some(range)
        };
        let (types, strings) = (range(8).ok_or("its types are cut off")?, range(16).ok_or("its names are cut off")?);
        let mut places = Vec::with_capacity(types.len() / (TYPE_BYTES + 8));
        let mut place = types.start;
        while place < types.end {
            places.push(u32::try_from(place).map_err(|_| "it is too large")?);
            let info = word(&bytes, place + 4).ok_or("its last type is cut off")?;
            let parts = (info & 0xffff) as usize;
            place += TYPE_BYTES
                + rest((info >> 24) & 0x1f, parts).ok_or_else(|| format!("it has a type of an unknown kind ({info:#x})"))?;
        }
        if place != types.end {
            return Err("its last type is cut off".to_owned());
        }
        Ok(Self { strings, places, first_id, first_name, bytes })
    }
}

/// How many bytes come after the first ones of a type with so many parts; none for a kind that is not known.
fn rest(of: u32, parts: usize) -> Option<usize> {
    match of {
        kind::POINTER
        | kind::FORWARD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNCTION
        | kind::FLOAT
        | kind::TYPE_TAG => Some(0),
        kind::INT | kind::VARIABLE | kind::DECLARATION_TAG => Some(4),
        kind::ENUM | kind::PROTOTYPE => Some(parts * 8),
        kind::ARRAY => Some(12),
        kind::STRUCT | kind::UNION | kind::SECTION | kind::ENUM64 => Some(parts * 12),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl<'a> Type<'a> {
    /// Size in bytes of a structure.
    pub fn size(self) -> Option<usize> {
        (self.kind() == kind::STRUCT).then(|| self.word(8)).flatten().map(|size| size as usize)
    }

    /// A member by its name; none of those inside of a member without a name.
    pub fn field(self, name: &str) -> Option<Field<'a>> {
        if self.kind() != kind::STRUCT {
            return None;
        }
        // Where a structure has bit fields, the upper byte says how many bits they have.
        let mask = if self.info() >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        (0..self.parts()).map(|part| TYPE_BYTES + part * 12).find_map(|at| {
            let is_it = is_at_start(self.btf.name(self.word(at)?), name);
            let (of, bits) = (self.word(at + 4)?, self.word(at + 8)? & mask);
            is_it.then(|| Field { offset: bits as usize / 8, of: self.btf.by_id(of) })
        })
    }

    /// Type and number of an array's elements.
    pub fn elements(self) -> Option<(Self, usize)> {
        if self.kind() != kind::ARRAY {
            return None;
        }
        Some((self.btf.by_id(self.word(TYPE_BYTES)?)?, self.word(TYPE_BYTES + 8)? as usize))
    }

    /// The one type that it stands for or points to.
    fn behind(&self) -> Option<Self> {
        let is_one =
            matches!(self.kind(), kind::POINTER | kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG);
        is_one.then(|| self.btf.by_id(self.word(8)?)).flatten()
    }

    fn kind(self) -> u32 {
        (self.info() >> 24) & 0x1f
    }

    fn info(self) -> u32 {
        self.word(4).unwrap_or_default()
    }

    fn parts(self) -> usize {
        (self.info() & 0xffff) as usize
    }

    /// The word at a byte of it.
    fn word(self, at: usize) -> Option<u32> {
        word(&self.part.bytes, self.place + at)
    }

    fn is_named(self, name: &str) -> bool {
        self.word(0).is_some_and(|offset| is_at_start(self.btf.name(offset), name))
    }

    fn name(self) -> &'a str {
        let bytes = self.word(0).map_or(&[][..], |offset| self.btf.name(offset));
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or_default();
        str::from_utf8(&bytes[..end]).unwrap_or_default()
    }
}

/// Whether names begin with this one.
fn is_at_start(names: &[u8], name: &str) -> bool {
    names.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}
