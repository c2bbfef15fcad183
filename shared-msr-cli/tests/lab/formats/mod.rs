//! The same numbers in every format and by all dimensions: what is shown, left out and summed is all there was.

mod printed;

use serde_json::Value;

use crate::support::{
    Ended, Guest, KernelCounter, Running, arguments, assert_verified, command, measure, shared_msr, wait_until,
};
use printed::{Lines, column, count, csv, markdown, number, sum_of};

const GUEST: &str = "shared-msr guest --format json --outs 30 --cpuids 20 --hlts 5 --tsc-aux 0xabc";
/// `KVM_RUN` calls of this guest, and the call that sets its MSR.
const RESTORES: i64 = 36;
/// Exits that it makes on purpose.
const EXITS: i64 = 30 * 21 + 5;
const DIMENSIONS: [&str; 7] = ["msr", "vm", "vcpu", "cpu", "reason", "cause", "payer"];

/// Counts how often the host's value of `TSC_AUX`, the number of the CPU, is put back.
fn restores() -> KernelCounter {
    KernelCounter::start("msr/write_msr", Some("msr == 0xc0000103 && val < 8"))
}

/// A report on the small guest in a format, while the kernel restores as often as that guest runs.
fn in_format(words: &str) -> Ended {
    let restores = restores();
    let ended = shared_msr(&format!("report --verify {words} -- {GUEST}"));
    assert_eq!(ended.status, 0, "{ended:?}");
    assert_eq!(signed(restores.count()), RESTORES, "the kernel restored as often as the guest ran");
    ended
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap()
}

mod each {
    use super::*;

    #[test]
    fn json_has_the_kernel_s_numbers() {
        let measured = measure("", &GUEST.split(' ').collect::<Vec<_>>());
        measured.assert_right();
        assert_verified(&measured.report);
        assert_eq!(measured.report.totals.counts.performed.map(signed), Some(RESTORES));
    }

    #[test]
    fn jsonl_has_a_row_and_a_total() {
        let lines = Lines::parse(&in_format("--format jsonl").stdout);
        assert_eq!(number(&lines.rows[0], "performed"), RESTORES);
        lines.assert_add_up();
    }

    #[test]
    fn csv_has_a_header_and_a_row() {
        let table = csv(&in_format("--format csv").stdout);
        assert!(table.len() == 2 && table[1][0] == "TSC_AUX", "{table:?}");
        assert_eq!(sum_of(&table[0], &table[1..], "performed"), RESTORES);
    }

    #[test]
    fn markdown_has_a_header_a_row_and_the_total() {
        let table = markdown(&in_format("--format markdown").stdout);
        assert!(table.len() == 3 && table.iter().all(|row| row.len() == table[0].len()), "{table:?}");
        for row in &table[1..] {
            assert_eq!(sum_of(&table[0], std::slice::from_ref(row), "PERFORMED"), RESTORES, "{row:?}");
        }
    }

    #[test]
    fn the_table_has_the_number_of_restores() {
        let ended = in_format("--format table");
        let row = ended.stdout.lines().find(|line| line.contains(" TSC_AUX ")).unwrap_or_else(|| panic!("{ended:?}"));
        assert!(row.split_whitespace().any(|cell| cell == RESTORES.to_string()), "{row}");
    }
}

mod by {
    use super::*;

    /// Every two dimensions are together in one of them.
    const TRIPLES: [&str; 7] = [
        "vcpu,cause,payer",
        "msr,vm,vcpu",
        "msr,cpu,cause",
        "msr,reason,payer",
        "vm,cpu,payer",
        "vm,reason,cause",
        "vcpu,cpu,reason",
    ];

    /// What must hold of the rows by these dimensions.
    fn assert_rows(by: &str, exits: u64, lines: &Lines) {
        let key = |row: &Value| -> Vec<String> {
            let of =
                |dimension| row.get(dimension).unwrap_or_else(|| panic!("{by}: a row without {dimension}: {row}")).to_string();
            by.split(',').map(of).collect()
        };
        assert!(!lines.rows.is_empty(), "{by}");
        let mut keys: Vec<Vec<String>> = lines.rows.iter().map(key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), lines.rows.len(), "{by}: no row twice: {:?}", lines.rows);
        lines.assert_add_up();
        // What the guest did is known, whichever columns there are.
        let total = lines.sum("total");
        for (column, least, most) in [
            ("exits", signed(exits), signed(exits)),
            ("deferred", EXITS, signed(exits)),
            ("performed", RESTORES, RESTORES),
            ("closes", RESTORES, RESTORES),
            ("set_written", RESTORES, RESTORES),
            ("userspace_exits", RESTORES - 1, RESTORES - 1),
        ] {
            if total.get(column).is_some() {
                let number = number(total, column);
                assert!((least..=most).contains(&number), "{by}: {column} {number} is not from {least} to {most}");
            }
        }
    }

    fn assert_by(by: &str) {
        let kernel = KernelCounter::start("kvm/kvm_exit", None);
        let ended = shared_msr(&format!("report --by {by} --format jsonl -- {GUEST}"));
        assert_eq!(ended.status, 0, "{ended:?}");
        let exits = kernel.count();
        assert!(signed(exits) >= EXITS, "{exits}");
        assert_rows(by, exits, &Lines::parse(&ended.stdout));
    }

    #[test]
    fn each_two_dimensions_are_in_one_of_these() {
        for one in DIMENSIONS {
            for other in DIMENSIONS {
                let both = |by: &&str| [one, other].iter().all(|dimension| by.split(',').any(|word| word == *dimension));
                assert!(TRIPLES.iter().any(both), "{one} and {other}");
            }
        }
    }

    #[test]
    fn three_dimensions_add_up() {
        TRIPLES.iter().for_each(|by| assert_by(by));
    }

    /// These have the most columns.
    #[test]
    fn two_dimensions_add_up() {
        ["msr,vm", "vcpu,cpu", "reason,vm", "cause,payer"].iter().for_each(|by| assert_by(by));
    }

    #[test]
    fn all_dimensions_add_up() {
        assert_by(&DIMENSIONS.join(","));
    }

    #[test]
    fn every_format_has_a_column_of_every_dimension() {
        let by = DIMENSIONS.join(",");
        let rows = |format: &str| in_format(&format!("--by {by} --format {format}")).stdout;
        let json: Value = serde_json::from_str(&rows("json")).unwrap();
        let list = json["rows"].as_array().unwrap();
        assert!(!list.is_empty());
        for row in list {
            assert!(DIMENSIONS.iter().all(|dimension| row.get(dimension).is_some()), "{row}");
        }
        let table = csv(&rows("csv"));
        assert!(table.len() > 1 && DIMENSIONS.iter().all(|dimension| table[0].iter().any(|head| head == dimension)), "{table:?}");
        let headings = |line: &str| DIMENSIONS.iter().all(|dimension| line.contains(&dimension.to_uppercase()));
        for format in ["markdown", "table"] {
            let text = rows(format);
            assert!(text.lines().any(headings), "{format}: {text}");
        }
    }
}

mod intervals {
    use super::*;

    /// What a report by intervals prints while a guest restores; it ends when there are enough intervals in what it printed.
    fn print(words: &str, enough: impl Fn(&str) -> bool) -> (String, i64) {
        let mut report = Running::start(&mut command(&format!("report --verify --interval 200ms {words}")));
        report.wait_until_attached();
        let restores = restores();
        let guest = Guest::endless(20, 0xabc);
        wait_until("there are intervals", || enough(&report.printed().0));
        guest.cut_short();
        report.signal(libc::SIGINT);
        let ended = report.wait();
        assert_eq!(ended.status, 0, "{ended:?}");
        let restored = signed(restores.count());
        assert!(restored > 0);
        (ended.stdout, restored)
    }

    fn lines(least: usize) -> impl Fn(&str) -> bool {
        move |text| text.lines().count() >= least
    }

    /// The numbers of restores of those objects that have one.
    fn objects(text: &str, performed: impl Fn(&Value) -> Option<i64>) -> Vec<i64> {
        let objects = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        objects.filter_map(|object| performed(&object)).collect()
    }

    #[track_caller]
    fn assert_all(numbers: &[i64], restored: i64) {
        assert!(numbers.len() >= 3, "there are several: {numbers:?}");
        assert_eq!(numbers.iter().sum::<i64>(), restored, "the intervals' performed = the kernel's count: {numbers:?}");
    }

    #[test]
    fn of_json_show_all_there_was() {
        let (text, restored) = print("--format json", lines(4));
        assert_all(&objects(&text, |object| object["totals"]["performed"].as_i64()), restored);
    }

    #[test]
    fn of_jsonl_show_all_there_was() {
        let (text, restored) = print("--format jsonl", lines(8));
        let total = |object: &Value| (object["row"] == "total").then(|| object["performed"].as_i64()).flatten();
        assert_all(&objects(&text, total), restored);
    }

    #[test]
    fn of_csv_show_all_there_was() {
        let (text, restored) = print("--format csv", lines(5));
        let table = csv(&text);
        assert_eq!(table[0][0], "seconds", "the times come first");
        assert_all(&column(&table[0], &table[1..], "performed"), restored);
    }

    #[test]
    fn of_the_tables_show_all_there_was() {
        for format in ["table", "markdown"] {
            let (text, restored) = print(&format!("--format {format}"), lines(6));
            let rows = text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
            let rows: Vec<Vec<String>> = rows.take_while(|row| !row.is_empty()).collect();
            // "TO VMM" is one heading of two words.
            let place = rows[0].iter().position(|heading| heading == "PERFORMED").unwrap() - 1;
            let numbers: Vec<i64> = rows[1..].iter().map(|row| count(&row[place])).collect();
            assert_all(&numbers, restored);
        }
    }

    #[test]
    fn by_cpu_have_totals_that_show_all_there_was() {
        let totals = |text: &str| text.lines().filter(|line| line.starts_with("| total")).count();
        let (text, restored) = print("--by cpu --format markdown", |text| totals(text) >= 3);
        let table = markdown(&text);
        let totals: Vec<Vec<String>> = table.iter().filter(|row| row[0] == "total").cloned().collect();
        assert_all(&column(&table[0], &totals, "PERFORMED"), restored);
    }
}

mod left_out {
    use super::*;

    /// Two guests: the first one is asked for.
    fn two_guests() -> (Guest, Guest) {
        (Guest::endless(3, 0xabc), Guest::endless(9, 0xdef))
    }

    /// A report that ends when both have had their values in hardware again and again.
    fn report(words: &str) -> Ended {
        let mut report = Running::start(&mut command(&format!("report --verify {words}")));
        report.wait_until_attached();
        let writes = |value: &str| KernelCounter::start("msr/write_msr", Some(&format!("msr == 0xc0000103 && val == {value}")));
        let writes = [writes("0xabc"), writes("0xdef")];
        wait_until("both guests' values are loaded", || writes.iter().all(|writes| writes.count() > 50));
        report.signal(libc::SIGINT);
        let ended = report.wait();
        assert_eq!(ended.status, 0, "{ended:?}");
        ended
    }

    #[test]
    fn json_shows_one_vm_and_sums_the_other() {
        let (wanted, _other) = two_guests();
        let report = report(&format!("--vm {} --format json", wanted.pid())).report();
        assert_eq!(report.vms.iter().map(|row| row.vm).collect::<Vec<_>>(), [wanted.pid()]);
        assert_eq!(report.vcpus.iter().map(|row| row.vm).collect::<Vec<_>>(), [wanted.pid()]);
        let out = report.filtered_out.as_ref().unwrap();
        let (nobody, events, counts) = (&report.unattributed, &report.totals.events, &report.totals.counts);
        for (shown, out) in [(&report.vms[0].numbers, &out.vms), (&report.vcpus[0].numbers, &out.vcpus)] {
            assert_eq!(out.rows, 1, "one is left out");
            for (shown, out, nobody, total) in [
                (shown.exits, out.exits, nobody.exits, events.exits),
                (shown.deferred.unwrap(), out.deferred, nobody.deferred.unwrap(), counts.deferred.unwrap()),
                (shown.performed.unwrap(), out.performed, nobody.performed.unwrap(), counts.performed.unwrap()),
            ] {
                assert!(shown > 0 && out > 0, "{shown} and {out}");
                assert_eq!(shown + out + nobody, total, "shown + left out + unattributed");
            }
        }
    }

    #[test]
    fn jsonl_has_a_line_of_what_is_filtered_out() {
        let (wanted, _other) = two_guests();
        for by in ["vm", "vcpu,cause", "msr"] {
            let lines = Lines::parse(&report(&format!("--vm {} --by {by} --format jsonl", wanted.pid())).stdout);
            lines.assert_add_up();
            let (out, shown) = (number(lines.sum("filtered_out"), "performed"), number(&lines.rows[0], "performed"));
            assert!(out > 0 && shown > 0, "{by}: both parts are there: {shown} and {out}");
        }
    }

    #[test]
    fn a_vcpu_that_nobody_has_is_no_row() {
        let _guests = two_guests();
        let lines = Lines::parse(&report("--vcpu 5 --by vcpu --format jsonl").stdout);
        assert!(lines.rows.is_empty(), "{:?}", lines.rows);
        lines.assert_add_up();
    }

    /// One after the other, so that the first one's row is the larger one for sure.
    fn largest(format: &str) -> (String, u64) {
        let guest = |words: &str| format!("shared-msr guest {words} >/dev/null");
        let both = [guest("--outs 30 --cpuids 100 --tsc-aux 0xabc"), guest("--outs 20 --cpuids 10 --tsc-aux 0xdef")].join("; ");
        let exits = KernelCounter::start("kvm/kvm_exit", None);
        let words = format!("--verify --by vm --sort exits --top 1 --format {format} -- sh -c");
        let ended = Running::start(command("report").args(arguments(&words)).arg(both)).wait();
        assert_eq!(ended.status, 0, "{ended:?}");
        (ended.stdout, exits.count())
    }

    #[test]
    fn the_largest_row_is_shown_and_the_rest_is_one() {
        let (text, exits) = largest("jsonl");
        let lines = Lines::parse(&text);
        lines.assert_add_up();
        let [row] = lines.rows.as_slice() else { panic!("{:?}", lines.rows) };
        let rest = lines.sum("rest");
        assert_eq!(number(rest, "rows"), 1, "one is left");
        let (shown, left) = (number(row, "exits"), number(rest, "exits"));
        assert!(shown >= 30 * 101 && (20 * 11..shown).contains(&left), "the guest with more exits: {shown} and {left}");
        assert_eq!(shown + left, signed(exits), "both together = the kernel's count");
    }

    #[test]
    fn the_table_has_a_line_of_the_rest() {
        let (text, _) = largest("table");
        assert!(text.lines().any(|line| line.starts_with("(1 more)")), "{text}");
    }
}
