//! Names in the `print fmt` of saved kernels' tracepoints (tests/data/kernels/README.md), for tests of our own tables.

use std::collections::BTreeMap;

/// What the saved kernels call the numbers of one table.
#[derive(Default)]
pub(super) struct SavedNames {
    /// The name in the newest kernel that has one.
    pub(super) newest: BTreeMap<u32, String>,
    /// Older names, where there are others.
    pub(super) renamed: BTreeMap<u32, Vec<String>>,
}

/// Oldest first.
macro_rules! saved {
    ($file:literal) => {
        [
            include_str!(concat!("../../tests/data/kernels/5.10/", $file)),
            include_str!(concat!("../../tests/data/kernels/6.1/", $file)),
            include_str!(concat!("../../tests/data/kernels/6.12/", $file)),
            include_str!(concat!("../../tests/data/kernels/6.18/", $file)),
            include_str!(concat!("../../tests/data/kernels/7.3/", $file)),
        ]
    };
}

/// The names in the table of this number of `kvm_exit`.
pub(super) fn kvm_exit(table: usize) -> SavedNames {
    names(saved!("kvm_exit.print_fmt"), table)
}

/// The names in the only table of `kvm_userspace_exit`.
pub(super) fn kvm_userspace_exit() -> SavedNames {
    names(saved!("kvm_userspace_exit.print_fmt"), 0)
}

fn names<'a>(print_fmts: impl IntoIterator<Item = &'a str>, table: usize) -> SavedNames {
    let mut names = SavedNames::default();
    for print_fmt in print_fmts {
        for (number, name) in parse(print_fmt, table) {
            match names.newest.insert(number, name.clone()) {
                Some(older) if older != name => names.renamed.entry(number).or_default().push(older),
                _ => {}
            }
        }
    }
    names
}

/// The pairs of the table of this number: `__print_symbolic(VALUE, { NUMBER, "NAME" }, ...)`.
fn parse(print_fmt: &str, table: usize) -> Vec<(u32, String)> {
    let text = print_fmt.split("__print_symbolic(").nth(table + 1).expect("too few tables");
    let (_value, pairs) = text.split_once(", {").expect("an empty table");
    let (pairs, _rest) = pairs.split_once("})").expect("a table without an end");
    pairs.split("}, {").map(pair).collect()
}

/// `NUMBER, "NAME"`; either can come in parts: `0x040 + 1`, `"KVM_EXIT_" "IO"`.
fn pair(pair: &str) -> (u32, String) {
    let (sum, literals) = pair.split_once(',').expect("a pair without a name");
    let sum: i64 = sum.split('+').map(number).sum();
    let name: String = literals.split('"').skip(1).step_by(2).collect();
    // What the record holds: -1 in 32 bits.
    (u32::try_from(sum & 0xffff_ffff).expect("cut to 32 bits"), name)
}

fn number(text: &str) -> i64 {
    let text = text.trim().trim_end_matches("ull");
    text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| i64::from_str_radix(digits, 16)).expect("not a number")
}

#[test]
fn numbers_and_names_in_parts_are_put_together() {
    let print_fmt = concat!(
        r#"print fmt: "%s %s", __print_symbolic(REC->a & 0xff, { 1, "one" }), "#,
        r#"__print_symbolic(REC->b, { 0x040 + 1, "DB excp" }, { -1ull, "A_" "B" })"#
    );
    assert_eq!(parse(print_fmt, 0), [(1, "one".to_owned())]);
    assert_eq!(parse(print_fmt, 1), [(0x41, "DB excp".to_owned()), (u32::MAX, "A_B".to_owned())]);
}

#[test]
fn the_newest_name_wins_and_the_older_is_kept() {
    let fmt = |name: &str| format!(r#"__print_symbolic(REC->a, {{ 7, "{name}" }})"#);
    let names = names([fmt("OLD").as_str(), &fmt("NEW"), &fmt("NEW")], 0);
    assert_eq!(names.newest[&7], "NEW");
    assert_eq!(names.renamed[&7], ["OLD"]);
}
