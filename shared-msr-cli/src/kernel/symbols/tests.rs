//! Symbols of real kernels, by the file and by their names.

use super::*;

/// Lines of Debian's 6.12 cloud kernel with kvm and kvm_amd loaded.
const DEBIAN_6_12: &str = "\
ffffffffa4a15f20 D __per_cpu_offset
0000000000000000 A __per_cpu_start
000000000003a000 A __per_cpu_end
ffffffffc0612f20 d kvm_uret_msrs_list\t[kvm]
ffffffffc0613f38 b user_return_msrs\t[kvm]
0000000000039010 a kvm_running_vcpu\t[kvm]
ffffffffc0612f00 D kvm_nr_uret_msrs\t[kvm]
ffffffffc0545e70 T kvm_set_user_return_msr\t[kvm]
ffffffffc0545f10 t kvm_on_user_return\t[kvm]
ffffffffc0999999 d user_return_msrs\t[other]
";

fn symbols(text: &str) -> Symbols {
    Symbols::parse(text.as_bytes()).unwrap()
}

#[test]
fn tracepoints_are_preemptible_where_their_guard_is_of_the_fast_kind() {
    let preemptible = |text: &str| Symbols::parse(text.as_bytes()).unwrap().tracepoints_are_preemptible();
    // 6.12 (rcuidle tracepoints), 6.18, 7.2.
    assert!(!preemptible("ffffffffb9181a00 D tracepoint_srcu\n"));
    assert!(!preemptible(""));
    assert!(preemptible("ffffffff85e3bc20 T init_srcu_struct_fast\nffffffff87b81a00 T tracepoint_srcu\n"));
}

#[test]
fn a_modular_kvm_with_a_per_cpu_pointer_is_resolved() {
    let symbols = symbols(DEBIAN_6_12);
    assert_eq!(symbols.setter(), Ok("kvm_set_user_return_msr"));
    assert_eq!(symbols.structures(), Ok(StructureSymbol::Pointer(0xffff_ffff_c061_3f38)));
    let list = ListSymbols::Apart { list: 0xffff_ffff_c061_2f20, length: 0xffff_ffff_c061_2f00 };
    assert_eq!(symbols.list(), Ok(list));
    assert!(symbols.kvm_is_module());
}

/// What each kernel says of itself; see tests/data/kernels/README.md.
macro_rules! kernel {
    ($series:literal) => {
        ($series, include_str!(concat!("../../../tests/data/kernels/", $series, "/kallsyms")))
    };
}
const SET: &str = "kvm_set_user_return_msr";

/// What the kernel answers whose /proc/kallsyms this is.
fn looked_up(kallsyms: &str) -> Symbols {
    let mut addresses = HashMap::from([(IMAGE_END.to_owned(), 0xffff_ffff_8420_0000)]);
    for line in kallsyms.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let module = fields.get(3).map_or_else(String::new, |module| format!("{}:", module.trim_matches(['[', ']'])));
        let address = u64::from_str_radix(fields[0], 16).unwrap();
        if address != 0 {
            addresses.insert(format!("{module}{}", fields[2]), address);
        }
    }
    Symbols::looked_up(|name| addresses.get(name).copied()).unwrap()
}

#[test]
fn symbols_that_are_looked_up_are_those_of_the_file() {
    for (series, kallsyms) in
        [kernel!("5.10"), kernel!("6.1"), kernel!("6.12"), kernel!("6.16"), kernel!("6.18"), kernel!("7.2"), kernel!("7.3")]
    {
        let (of_file, looked_up) = (symbols(kallsyms), looked_up(kallsyms));
        assert_eq!(looked_up.structures(), of_file.structures(), "{series}");
        assert_eq!(looked_up.list(), of_file.list(), "{series}");
        assert_eq!(looked_up.running_vcpu(), of_file.running_vcpu(), "{series}");
        assert_eq!(looked_up.own_offset(), of_file.own_offset(), "{series}");
        assert_eq!(looked_up.per_cpu_offsets(), of_file.per_cpu_offsets(), "{series}");
        assert_eq!(looked_up.setter(), of_file.setter(), "{series}");
        assert_eq!(looked_up.closer().unwrap().address, of_file.closer().unwrap().address, "{series}");
        assert_eq!(looked_up.dropper(), of_file.dropper(), "{series}");
        assert!(looked_up.kvm_is_module(), "{series}");
    }
}

#[test]
fn of_a_built_in_kvm_the_symbols_of_vmlinux_are_taken_and_no_module_s() {
    let built_in = |name: &str| match name {
        "_end" => Some(0xffff_ffff_8420_0000),
        "kvm_on_user_return" => Some(0xffff_ffff_8100_0000),
        "user_return_msrs" => Some(0xffff_ffff_c000_0000),
        _ => None,
    };
    let symbols = Symbols::looked_up(built_in).unwrap();
    assert!(symbols.closer().is_ok() && !symbols.kvm_is_module());
    assert!(symbols.structures().is_err(), "that is in a module which is not KVM");
    assert!(Symbols::looked_up(|_| None).is_none());
}

#[test]
fn every_kernel_from_5_10_has_the_functions_and_the_per_cpu_variables() {
    for (series, kallsyms) in
        [kernel!("5.10"), kernel!("6.1"), kernel!("6.12"), kernel!("6.16"), kernel!("6.18"), kernel!("7.2"), kernel!("7.3")]
    {
        let symbols = symbols(kallsyms);
        assert_eq!(symbols.setter(), Ok(SET), "{series}");
        assert!(symbols.kvm_is_module() && symbols.closer().is_ok() && symbols.per_cpu_offsets().is_ok(), "{series}");
        assert!(symbols.dropper().is_ok() && symbols.running_vcpu().is_some() && symbols.own_offset().is_some(), "{series}");
    }
}

#[test]
fn the_list_and_its_length_stand_together_up_to_5_12_and_apart_later() {
    let (_, kallsyms) = kernel!("5.10");
    assert_eq!(symbols(kallsyms).list(), Ok(ListSymbols::Together(0xffff_ffff_c00b_12a0)));
    for (series, kallsyms) in [kernel!("6.1"), kernel!("6.18"), kernel!("7.2"), kernel!("7.3")] {
        assert!(matches!(symbols(kallsyms).list(), Ok(ListSymbols::Apart { .. })), "{series}");
    }
}

#[test]
fn the_structures_are_behind_a_pointer_up_to_6_18_and_static_from_6_19() {
    for (series, kallsyms) in [kernel!("5.10"), kernel!("6.1"), kernel!("6.12"), kernel!("6.16"), kernel!("6.18")] {
        assert!(matches!(symbols(kallsyms).structures(), Ok(StructureSymbol::Pointer(_))), "{series}");
    }
    let (_, kallsyms) = kernel!("7.2");
    assert_eq!(symbols(kallsyms).structures(), Ok(StructureSymbol::Static(0xffff_ffff_83cd_d040)));
    let (_, kallsyms) = kernel!("7.3");
    assert_eq!(symbols(kallsyms).structures(), Ok(StructureSymbol::Static(0xffff_ffff_83cf_a040)));
}

/// Made from the source of 5.4, not saved from a running kernel.
#[test]
fn the_names_up_to_5_9_are_known() {
    let (_, kallsyms) = kernel!("5.4-from-source");
    let symbols = symbols(kallsyms);
    assert_eq!(symbols.setter(), Ok("kvm_set_shared_msr"));
    assert_eq!(symbols.list(), Ok(ListSymbols::Together(0xffff_ffff_c048_a2a0)));
    assert_eq!(symbols.structures(), Ok(StructureSymbol::Pointer(0xffff_ffff_c049_0820)));
}

#[test]
fn the_setters_form_is_told_by_its_name_and_by_what_came_with_the_change() {
    let list = |indices: &[u32]| -> Vec<Slot> {
        indices.iter().enumerate().map(|(slot, index)| Slot { slot, index: *index, name: msr::name(*index) }).collect()
    };
    let six = list(&[0xc000_0084, 0xc000_0082, 0xc000_0083, 0xc000_0080, 0xc000_0103, 0xc000_0081]);
    let seven = list(&[0xc000_0084, 0xc000_0082, 0xc000_0083, 0xc000_0080, 0xc000_0103, 0xc000_0081, msr::TSX_CTRL]);
    let (_, old) = kernel!("5.4-from-source");
    let (_, new) = kernel!("5.10");
    assert_eq!(symbols(old).set_form(&six), SetForm::Whole, "5.4");
    assert_eq!(symbols(old).set_form(&seven), SetForm::Merged, "5.5 to 5.9, and stable kernels with the change");
    assert_eq!(symbols(new).set_form(&six), SetForm::Merged, "5.10 on a host without TSX_CTRL");
}

#[test]
fn the_running_vcpu_is_a_per_cpu_variable_of_the_module() {
    assert_eq!(symbols(DEBIAN_6_12).running_vcpu(), Some(0x39010));
    let other = DEBIAN_6_12.replace("0000000000039010 a kvm_running_vcpu", "ffffffffc0639010 d kvm_running_vcpu");
    assert_eq!(symbols(&other).running_vcpu(), None, "an address is no offset");
    assert_eq!(symbols("").running_vcpu(), None);
}

#[test]
fn hidden_addresses_are_named_as_such() {
    let hidden = DEBIAN_6_12.lines().map(|line| format!("0000000000000000{}\n", &line[16..])).collect::<String>();
    let symbols = symbols(&hidden);
    assert!(symbols.list().unwrap_err().cure.contains("kptr_restrict"));
}

#[test]
fn a_cpus_own_offset_is_known_where_it_is_listed() {
    assert_eq!(symbols(DEBIAN_6_12).own_offset(), None);
    assert_eq!(symbols("0000000000022290 A this_cpu_off\n").own_offset(), Some(0x22290));
    assert_eq!(symbols("0000000000000000 A this_cpu_off\n").own_offset(), None, "hidden");
}

#[test]
fn a_missing_function_is_named() {
    let obstacle = symbols("ffffffffc0545f10 t kvm_on_user_return\t[kvm]\n").setter().unwrap_err();
    assert!(obstacle.problem.contains("kvm_set_user_return_msr"), "{obstacle}");
}
