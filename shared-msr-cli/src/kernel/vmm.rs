//! The name of a VM, from the command line of its VMM; the kernel knows none.

use super::process;

/// Longer names are cut: a command line may hold megabytes, and a name ends in a column.
const LONGEST: usize = 256;

/// File names of sockets that say nothing of the VM.
const COMMON_STEMS: [&str; 12] =
    ["api", "api-socket", "ch", "ch-api", "chv", "clh-api", "cloud-hypervisor", "control", "crosvm", "sock", "socket", "vmm"];

/// Folders that many VMs' sockets share.
const COMMON_FOLDERS: [&str; 10] = ["", ".", "..", "ch", "cloud-hypervisor", "crosvm", "run", "shm", "tmp", "vm"];

/// The programs that are known to run VMs and how each is told the VM's name.
#[derive(Clone, Copy)]
enum Program {
    Qemu,
    Firecracker,
    CloudHypervisor,
    Crosvm,
    Kvmtool,
}

impl Program {
    /// By the file name it was started with, so that no other program's `-name` is taken for a VM's.
    fn of(command: &str) -> Option<Self> {
        let name = command.rsplit('/').next()?;
        match name {
            // Proxmox VE starts /usr/bin/kvm; RHEL has /usr/libexec/qemu-kvm.
            "kvm" | "qemu-kvm" => Some(Self::Qemu),
            // qemu-system-x86_64, and Kata's qemu-lite-system-x86_64; but not qemu-img, qemu-nbd or qemu-x86_64.
            _ if name.starts_with("qemu-") && name.contains("system-") => Some(Self::Qemu),
            // Releases come as firecracker-v1.7.0-x86_64, cloud-hypervisor-static.
            _ if is_or_extends(name, "firecracker") => Some(Self::Firecracker),
            _ if is_or_extends(name, "cloud-hypervisor") => Some(Self::CloudHypervisor),
            "crosvm" => Some(Self::Crosvm),
            // kvmtool's Makefile makes all three.
            "lkvm" | "lkvm-static" | "vm" => Some(Self::Kvmtool),
            _ => None,
        }
    }

    /// What follows the program's own name.
    fn name(self, arguments: &[String]) -> Option<String> {
        match self {
            Self::Qemu => qemu(arguments),
            // MicroVM's identifier (src/firecracker/src/main.rs); the jailer hands on its own --id (src/jailer/src/env.rs).
            Self::Firecracker => option(arguments, &["--id"]).map(str::to_owned),
            Self::CloudHypervisor => socket_name(api_socket(option(arguments, &["--api-socket"])?)?),
            // --name is younger than --socket (src/crosvm/cmdline.rs); other commands than `run` talk to a running VM.
            Self::Crosvm => {
                let run = after_command(arguments, "run")?;
                let socket = || socket_name(option(run, &["--socket", "-s"])?);
                option(run, &["--name"]).map(str::to_owned).or_else(socket)
            }
            // builtin-run.c. Without --name it makes up guest-PID, which says nothing.
            Self::Kvmtool => option(after_command(arguments, "run")?, &["--name"]).map(str::to_owned),
        }
    }
}

/// The name of the VM whose VMM was started with these arguments, of which the first is the program; none when it has none or the
/// program is not a known VMM.
///
/// QEMU (and libvirt, Proxmox VE, Kata with it): `-name`. Firecracker: `--id`. kvmtool: `--name`. crosvm: `--name`, else its
/// socket's name. Cloud Hypervisor has no option for a name; those who run it name the API's socket after the VM
/// (`/run/vms/web1.sock`) or the socket's folder (`/run/vc/vm/web1/clh-api.sock`): the file's name is taken unless it is one of
/// the usual ones, then the folder's.
///
/// A name is cut after 256 characters, and characters that would steer a terminal are replaced by `?`.
pub fn name_from_command_line(arguments: &[String]) -> Option<String> {
    let (program, arguments) = arguments.split_first()?;
    printable(&Program::of(program)?.name(arguments)?)
}

/// The name of the VM that process `tgid` runs, as in [`name_from_command_line`]; none when the process is gone, or /proc is not the
/// one that the number belongs to.
pub fn name(tgid: u32) -> Option<String> {
    name_from_command_line(&split(&process::file(tgid, "cmdline")?))
}

/// The arguments in /proc/PID/cmdline: each ends in a zero byte.
fn split(command_line: &[u8]) -> Vec<String> {
    let command_line = command_line.strip_suffix(b"\0").unwrap_or(command_line);
    command_line.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// Whoever starts a VM chooses its name, and names are shown on others' terminals: what would steer one becomes `?`.
pub fn printable(name: &str) -> Option<String> {
    let name = name.trim();
    let cut = name.chars().nth(LONGEST).is_some();
    let kept = name.chars().take(if cut { LONGEST - 1 } else { LONGEST });
    let mut clean: String = kept.map(|character| if steers(character) { '?' } else { character }).collect();
    if cut {
        clean.push('…');
    }
    (!clean.is_empty()).then_some(clean)
}

/// Control characters, line and paragraph separators, and the marks that reverse the order of what is printed after them.
fn steers(character: char) -> bool {
    let reorders = matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || reorders || matches!(character, '\u{2028}' | '\u{2029}')
}

/// `name`, or `name-` with more behind it.
fn is_or_extends(found: &str, name: &str) -> bool {
    found.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// What follows the sub-command, which must be there.
fn after_command<'a>(arguments: &'a [String], command: &str) -> Option<&'a [String]> {
    let position = arguments.iter().position(|argument| argument == command)?;
    arguments.get(position + 1..)
}

/// The value of the last of these options: `--id VALUE` or `--id=VALUE`. What follows `--` is not for the VMM.
fn option<'a>(arguments: &'a [String], options: &[&str]) -> Option<&'a str> {
    let own = arguments.split(|argument| argument == "--").next()?;
    let value = |(position, argument): (usize, &'a String)| match argument.split_once('=') {
        Some((option, value)) => options.contains(&option).then_some(value),
        None if options.contains(&argument.as_str()) => own.get(position + 1).map(String::as_str),
        None => None,
    };
    own.iter().enumerate().filter_map(value).next_back()
}

/// QEMU takes one dash or two and adds up several `-name` (`qemu_name_opts`, system/vl.c, `merge_lists`).
fn qemu(arguments: &[String]) -> Option<String> {
    let is_name = |argument: &String| matches!(argument.as_str(), "-name" | "--name");
    let values = arguments.windows(2).filter(|pair| is_name(&pair[0])).map(|pair| pair[1].as_str());
    values.filter_map(guest).next_back()
}

/// `guest` of `-name`'s value: `KEY=VALUE,...`, where a comma in a value is doubled and the first may stand without its key
/// (`opts_do_parse`, util/qemu-option.c).
fn guest(value: &str) -> Option<String> {
    let mut guest = None;
    let mut rest = value;
    let mut first = true;
    while !rest.is_empty() {
        let key_end = rest.find(['=', ',']).unwrap_or(rest.len());
        let has_key = rest[key_end..].starts_with('=');
        let key = if has_key { &rest[..key_end] } else { "" };
        let (value, after) = take_value(if has_key { &rest[key_end + 1..] } else { rest });
        if key == "guest" || (first && !has_key) {
            guest = Some(value);
        }
        rest = after;
        first = false;
    }
    guest
}

/// The value up to a single comma, with doubled ones made one, and what is behind that comma.
fn take_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        if character == ',' && characters.next().is_none_or(|(_, next)| next != ',') {
            return (value, &text[position + 1..]);
        }
        value.push(character);
    }
    (value, "")
}

/// The path in Cloud Hypervisor's `--api-socket`: `PATH`, `path=PATH`; none in `fd=FD`, a socket that somebody else opened
/// (`parse_api_socket`, cloud-hypervisor/src/main.rs).
fn api_socket(value: &str) -> Option<&str> {
    match value.split_once('=') {
        Some(("path", path)) => path.split(',').next(),
        Some(("fd", _)) => None,
        _ => Some(value),
    }
}

/// What a socket's path says of its VM.
fn socket_name(path: &str) -> Option<String> {
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = [".sock", ".socket"].into_iter().find_map(|extension| file.strip_suffix(extension)).unwrap_or(file);
    if !stem.is_empty() && !COMMON_STEMS.contains(&stem) {
        return Some(stem.to_owned());
    }
    let folder = folders.rsplit('/').next()?;
    (!COMMON_FOLDERS.contains(&folder)).then(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if split by a shell that knows no quotes.
    fn named(command_line: &str) -> Option<String> {
        let arguments: Vec<String> = command_line.split(' ').map(str::to_owned).collect();
        name_from_command_line(&arguments)
    }

    fn assert_named(expected: Option<&str>, command_lines: &[&str]) {
        for command_line in command_lines {
            assert_eq!(named(command_line).as_deref(), expected, "{command_line}");
        }
    }

    #[test]
    fn qemu_has_its_name_in_several_forms() {
        assert_named(
            Some("web1"),
            &[
                "qemu-system-x86_64 -enable-kvm -m 2G -name web1 -smp 4",
                "/usr/bin/qemu-system-x86_64 --name web1",
                "/usr/bin/qemu-system-x86_64 -name guest=web1,debug-threads=on -S",
                "/usr/libexec/qemu-kvm -name web1,process=other",
                "qemu-kvm -name process=other,guest=web1",
                "/usr/bin/kvm -id 100 -name web1,debug-threads=on -no-shutdown",
                "/opt/kata/bin/qemu-lite-system-x86_64 -name web1,debug-threads=on -uuid 0",
                // Several are added up.
                "qemu-system-x86_64 -name old -name debug-threads=on -name guest=web1 -name process=other",
            ],
        );
    }

    #[test]
    fn a_doubled_comma_is_part_of_qemus_name() {
        assert_named(Some("a,b"), &["qemu-kvm -name a,,b", "qemu-kvm -name guest=a,,b,debug-threads=on"]);
        assert_named(Some("a,"), &["qemu-kvm -name guest=a,,,process=x"]);
        assert_named(Some("a,guest=b"), &["qemu-kvm -name a,,guest=b", "qemu-kvm -name process=x,guest=a,,guest=b"]);
    }

    #[test]
    fn libvirts_long_command_line_has_the_domains_name() {
        let line = "/usr/bin/qemu-system-x86_64 -name guest=debian12-db,debug-threads=on -S -object \
            {\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\",\
            \"file\":\"/var/lib/libvirt/qemu/domain-3-debian12-db/master-key.aes\"} \
            -machine pc-q35-7.2,usb=off,vmport=off,dump-guest-core=off,memory-backend=pc.ram -accel kvm -cpu host,migratable=on \
            -m 4096 -smp 2,sockets=2,cores=1,threads=1 -uuid 0c2b8a1e-0f5d-4a0e-9f1a-3d1f2c9b7a55 -no-user-config -nodefaults \
            -chardev socket,id=charmonitor,fd=33,server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control \
            -device {\"driver\":\"virtserialport\",\"name\":\"org.qemu.guest_agent.0\",\"id\":\"channel0\"} -msg timestamp=on";
        assert_eq!(named(line).as_deref(), Some("debian12-db"));
    }

    #[test]
    fn firecrackers_name_is_its_id_under_the_jailer_too() {
        assert_named(
            Some("vm-7"),
            &[
                "firecracker --api-sock /run/fc.sock --id vm-7",
                "./firecracker-v1.7.0-x86_64 --id=vm-7 --no-api --config-file vm.json",
                "/firecracker --id vm-7 --start-time-us 1234 --start-time-cpu-us 99 --parent-cpu-time-us 5 --api-sock /a.socket",
            ],
        );
        assert_named(
            None,
            &["firecracker --api-sock /run/fc.sock", "firecracker --api-sock /a -- --id vm-7", "firecracker --id"],
        );
    }

    #[test]
    fn cloud_hypervisors_name_is_its_sockets_or_the_sockets_folders() {
        assert_named(
            Some("web1"),
            &[
                "cloud-hypervisor --api-socket /run/vms/web1.sock --kernel vmlinux",
                "cloud-hypervisor-static --api-socket=path=/run/vms/web1.socket --disk path=disk.raw",
                "cloud-hypervisor --cpus boot=4 --api-socket path=web1.sock",
                "cloud-hypervisor --api-socket /run/vms/web1",
                "/opt/kata/bin/cloud-hypervisor --api-socket /run/vc/vm/web1/clh-api.sock",
            ],
        );
        assert_named(Some("web.example.org"), &["cloud-hypervisor --api-socket /run/web.example.org.sock"]);
        assert_named(
            None,
            &[
                "cloud-hypervisor --kernel vmlinux --disk path=web1.raw",
                "cloud-hypervisor --api-socket fd=3",
                "cloud-hypervisor --api-socket /tmp/cloud-hypervisor.sock",
                "cloud-hypervisor --api-socket /tmp/ch.sock",
                "cloud-hypervisor --api-socket api.sock",
            ],
        );
    }

    #[test]
    fn crosvms_name_is_given_or_its_sockets() {
        assert_named(
            Some("web1"),
            &[
                "crosvm run --name web1 -s /run/other.sock vmlinux",
                "/usr/bin/crosvm --log-level debug run --name=web1 vmlinux",
                "crosvm run -m 1024 -s web1.sock vmlinux",
                "crosvm run --socket /run/vm/web1/crosvm.sock vmlinux",
            ],
        );
        assert_named(None, &["crosvm run vmlinux", "crosvm stop /run/web1.sock", "crosvm --name web1"]);
    }

    #[test]
    fn kvmtools_name_is_that_of_its_run() {
        assert_named(
            Some("web1"),
            &["lkvm run -k bzImage --name web1 -c 2", "./vm run --name=web1", "lkvm-static run --name web1"],
        );
        assert_named(None, &["lkvm run -k bzImage", "lkvm stop --name web1", "lkvm run -- /bin/tool --name web1"]);
    }

    #[test]
    fn another_programs_name_is_not_taken() {
        assert_named(
            None,
            &[
                "find / -name web1",
                "qemu-img create -name web1",
                "qemu-x86_64 -name web1",
                "/usr/sbin/jailer --id web1 --exec-file /usr/bin/firecracker",
                "firecrackerd --id web1",
                "sudo qemu-system-x86_64 -name web1",
                "docker run --name web1",
                "",
            ],
        );
        assert_eq!(name_from_command_line(&[]), None);
    }

    #[test]
    fn a_vm_without_a_name_has_none() {
        assert_named(None, &["qemu-kvm -m 1G", "qemu-kvm -name", "qemu-kvm -name debug-threads=on", "qemu-kvm -name guest="]);
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_named(Some("a?[2Jb"), &["qemu-kvm -name a\u{1b}[2Jb"]);
        assert_named(
            Some("a??b"),
            &["qemu-kvm -name a\r\nb", "qemu-kvm -name a\u{9b}\u{202e}b", "qemu-kvm -name a\u{2028}\u{7f}b"],
        );
        assert_named(Some("größe-虚拟机"), &["qemu-kvm -name größe-虚拟机"]);
        assert_named(None, &["qemu-kvm -name \n\t"]);
    }

    #[test]
    fn a_long_name_is_cut_and_shows_it() {
        let exact = "ä".repeat(256);
        assert_named(Some(&exact), &[&format!("qemu-kvm -name {exact}")]);
        assert_named(Some(&format!("{}…", "ä".repeat(255))), &[&format!("qemu-kvm -name {exact}x")]);
    }

    #[test]
    fn the_kernels_command_line_is_split_at_zero_bytes() {
        assert_eq!(split(b"qemu-kvm\0-name\0my vm\0"), ["qemu-kvm", "-name", "my vm"]);
        assert_eq!(split(b"qemu-kvm\0-append\0\0-name\0a\xffb\0"), ["qemu-kvm", "-append", "", "-name", "a\u{fffd}b"]);
        assert_eq!(name_from_command_line(&split(b"")), None);
    }

    #[test]
    fn a_process_that_is_gone_or_no_vmm_has_no_name() {
        assert_eq!(name(std::process::id()), None, "a test is no VMM");
        // Beyond any process number (PID_MAX_LIMIT is 2^22).
        assert_eq!(name(u32::MAX), None);
    }
}
