//! Addresses of symbols, asked of the kernel by name. /proc/kallsyms has more than a hundred thousand lines, and the kernel writes
//! each of them anew for everyone who reads it: that takes half of the time from start to counting.

use std::{collections::HashMap, io};

use shared_msr_common::lookup::{QUESTIONS, Question};

use super::{object, on_demand::Program, refuse, sys::OnDemand};
use crate::{
    kernel::{btf::KernelBtf, symbols::Symbols},
    obstacle::Obstacle,
};

/// Asks for the symbols that matter, with a program that calls `bpf_kallsyms_lookup_name` (5.16, d6aef08a872b) for each.
///
/// Before 6.2 (60443c88f3a8; also in some stable kernels) one look-up goes through all names, which takes longer than to read the file:
/// `kallsyms_lookup_names` is what makes it quick.
pub(super) fn symbols(btf: &KernelBtf) -> Result<Symbols, Obstacle> {
    refuse::check(refuse::LOOKUP)?;
    let is_quick = btf.vmlinux().is_ok_and(|vmlinux| vmlinux.function_id("kallsyms_lookup_names").is_some());
    if !is_quick {
        return Err(Obstacle::new("a look-up by name is slow on this kernel", "use Linux 6.2 or later"));
    }
    let names = Symbols::questions();
    let questions = questions(&names).ok_or_else(|| object::missing("room for so many names"))?;
    let what = "a program that looks up symbols";
    let mut program = Program::load(OnDemand::Syscall, what, ("shared_msr_lookup", "LOOKUP"))?;
    program.ask(questions)?;
    program.run(&[])?;
    let answers = answers(&names, &program.answer()?).map_err(|error| object::refused("to look up symbols", &error))?;
    Symbols::looked_up(|name| answers.get(name).copied())
        .ok_or_else(|| object::missing("symbol _end in what the kernel looks up"))
}

/// The questions, as they stand in the map; none if there are too many, or if one is too long.
fn questions(names: &[String]) -> Option<[Question; QUESTIONS]> {
    let mut questions = [Question::EMPTY; QUESTIONS];
    for (place, name) in questions.get_mut(..names.len())?.iter_mut().zip(names) {
        *place = Question::of(name)?;
    }
    Some(questions)
}

/// The addresses by name. The helper says that there is no such symbol in the same way when its value is 0; and it answers nobody who
/// may not see addresses, also for names that there are not.
fn answers<'a>(names: &'a [String], questions: &[Question]) -> io::Result<HashMap<&'a str, u64>> {
    let mut found = HashMap::new();
    for (question, name) in questions.iter().zip(names) {
        match i32::try_from(question.returned).unwrap_or(i32::MIN) {
            0 => {
                found.insert(name.as_str(), question.address);
            }
            error if error == -libc::ENOENT => {}
            error => return Err(io::Error::from_raw_os_error(error.saturating_neg())),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use shared_msr_common::lookup::NAME_BYTES;

    use super::*;

    #[test]
    fn all_questions_find_room() {
        let names = Symbols::questions();
        let asked = questions(&names).unwrap();
        assert!(asked[1].name.starts_with(names[1].as_bytes()) && asked[1].name[names[1].len()] == 0);
        assert!(questions(&["x".repeat(NAME_BYTES)]).is_none(), "no room for the zero");
        assert!(questions(&vec![String::new(); QUESTIONS + 1]).is_none());
    }

    #[test]
    fn what_is_not_there_is_told_from_what_may_not_be_seen() {
        let names = ["a".to_owned(), "b".to_owned()];
        let found = Question { address: 0xffff_ffff_8000_0000, ..Question::EMPTY };
        let missing = Question { returned: (-libc::ENOENT).into(), ..Question::EMPTY };
        assert_eq!(answers(&names, &[found, missing]).unwrap(), HashMap::from([("a", 0xffff_ffff_8000_0000)]));
        let hidden = Question { returned: (-libc::EPERM).into(), ..Question::EMPTY };
        assert_eq!(answers(&names, &[found, hidden]).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
