use super::*;

const INT: u32 = 1 << 24;
const POINTER: u32 = 2 << 24;
const STRUCT: u32 = 4 << 24;
const TYPEDEF: u32 = 8 << 24;
const FUNCTION: u32 = 12 << 24;
const PROTOTYPE: u32 = 13 << 24;

/// A file of these types, each in words, and names.
fn file(types: &[&[u32]], names: &str) -> Vec<u8> {
    let types: Vec<u8> = types.concat().into_iter().flat_map(u32::to_le_bytes).collect();
    read::header(types.len(), names.len()).into_iter().chain(types).chain(names.bytes()).collect()
}

/// Where a name stands.
fn at(names: &str, name: &str) -> u32 {
    u32::try_from(names.find(&format!("\0{name}\0")).unwrap() + 1).unwrap()
}

const BASE_NAMES: &str = "\0unused\0int\0";
const NAMES: &str = "\0other\0large\0kept\0dropped\0next\0take\0";

/// A base with `int`, and on top of it `struct large { int dropped; int kept; struct large *next; }` and a function
/// `take(struct large *kept)`.
fn with<R>(body: impl FnOnce(&Btf<'_>) -> R) -> R {
    let base = file(&[&[at(BASE_NAMES, "unused"), INT, 8, 64], &[at(BASE_NAMES, "int"), INT, 4, 32]], BASE_NAMES);
    let name = |name| at(NAMES, name) + BASE_NAMES.len() as u32;
    let structure = [name("large"), STRUCT | 3, 16, name("dropped"), 2, 0, name("kept"), 2, 32, name("next"), 5, 64];
    let types: [&[u32]; 5] = [
        &[name("other"), TYPEDEF, 2],
        &structure,
        &[0, POINTER, 4],
        &[0, PROTOTYPE | 1, 0, name("kept"), 5],
        &[name("take"), FUNCTION, 6],
    ];
    let module = file(&types, NAMES);
    let base = Btf::parse(&base, None).unwrap();
    body(&Btf::parse(&module, Some(&base)).unwrap())
}

#[test]
fn what_is_left_stands_alone_and_is_numbered_from_one() {
    with(|btf| {
        let kept: Kept<'_> = &[("large", &["kept", "next"])];
        let reduced = reduce(btf, &[(Kind::Struct, "large")], kept).unwrap();
        let names = "\0kept\0int\0next\0large\0";
        let name = |name| at(names, name);
        let structure = [name("large"), STRUCT | 2, 16, name("kept"), 2, 32, name("next"), 3, 64];
        assert_eq!(reduced, file(&[&structure, &[name("int"), INT, 4, 32], &[0, POINTER, 1]], names));
    });
}

#[test]
fn a_function_brings_its_parameters_along() {
    with(|btf| {
        let reduced = reduce(btf, &[(Kind::Function, "take")], &[("large", &[])]).unwrap();
        let names = "\0kept\0large\0take\0";
        let name = |name| at(names, name);
        let types: [&[u32]; 4] = [
            &[name("take"), FUNCTION, 2],
            &[0, PROTOTYPE | 1, 0, name("kept"), 3],
            &[0, POINTER, 4],
            &[name("large"), STRUCT, 16],
        ];
        assert_eq!(reduced, file(&types, names));
    });
}

#[test]
fn reducing_again_changes_nothing() {
    with(|btf| {
        let roots = [(Kind::Struct, "large"), (Kind::Function, "take"), (Kind::Typedef, "other")];
        let once = reduce(btf, &roots, &[]).unwrap();
        assert_eq!(reduce(&Btf::parse(&once, None).unwrap(), &roots, &[]).unwrap(), once);
    });
}

#[test]
fn a_type_that_is_not_there_is_named() {
    with(|btf| {
        let error = reduce(btf, &[(Kind::Struct, "take")], &[]).unwrap_err().to_string();
        assert!(error.contains("there is no take"), "{error}");
    });
}

#[test]
fn what_is_cut_off_or_something_else_is_refused() {
    let whole = file(&[&[0, STRUCT | 1, 4, 0, 1, 0]], "\0");
    assert!(Btf::parse(&whole, None).is_ok());
    assert!(Btf::parse(&whole[..whole.len() - 1], None).is_err());
    assert!(Btf::parse(&file(&[&[0, STRUCT | 2, 4, 0, 1, 0]], "\0"), None).is_err(), "a member is missing");
    assert!(Btf::parse(b"\x7fELF", None).is_err());
}
