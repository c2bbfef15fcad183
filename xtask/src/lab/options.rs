//! What can be said about a run in the lab.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Accel, KernelChoice, Vmm};

/// Whose CPU the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Host {
    /// AMD's, with SVM: `kvm_amd`, whose one user-return MSR is `TSC_AUX`.
    Amd,
    /// Intel's, with VMX: `kvm_intel`, whose list has `STAR`, `LSTAR`, `SYSCALL_MASK`, `TSC_AUX` and more.
    Intel,
}

impl Host {
    /// The module that makes KVM work on this host; what it needs comes with it.
    pub(super) fn kvm_module(self) -> &'static str {
        match self {
            Self::Amd => "kvm_amd",
            Self::Intel => "kvm_intel",
        }
    }

    /// How long a run may take where nothing else is said.
    pub(crate) fn usual_timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::Amd => 120,
            Self::Intel => 300,
        })
    }

    /// The vendor, for people.
    pub(super) fn vendor(self) -> &'static str {
        match self {
            Self::Amd => "AMD",
            Self::Intel => "Intel",
        }
    }

    /// What emulates it, for people.
    pub(super) fn emulator(self) -> &'static str {
        match self {
            Self::Amd => "QEMU's TCG",
            Self::Intel => "Bochs",
        }
    }

    /// The name on the command line and in names of files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd => "amd",
            Self::Intel => "intel",
        }
    }
}

/// A name that the host's emulator has for a CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CpuModel(String);

impl CpuModel {
    /// The emulator's name of it.
    pub(super) fn name(&self) -> &str {
        &self.0
    }
}

impl FromStr for CpuModel {
    type Err = String;

    /// Only what can be in such a name: a comma or a blank would begin another option of the emulator.
    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err("a model is one word of letters, digits, `_`, `-` and `.`".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

/// A file of this machine for the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabFile {
    /// Where it is here.
    pub(crate) source: PathBuf,
    /// Its absolute path in the lab.
    pub(crate) destination: String,
}

impl FromStr for LabFile {
    type Err = String;

    /// Reads `SRC:DEST`. The last colon counts: paths here may have colons, those in the lab need none.
    fn from_str(text: &str) -> Result<Self, String> {
        let (source, destination) =
            text.rsplit_once(':').ok_or("write SRC:DEST, a file of this machine and its place in the lab")?;
        if source.is_empty() || destination.is_empty() || destination.ends_with('/') {
            return Err("both SRC and DEST must name a file".to_owned());
        }
        if destination.split('/').any(|part| part == "..") {
            return Err("DEST must not have `..` in it".to_owned());
        }
        let destination = if destination.contains('/') {
            format!("/{}", destination.trim_start_matches('/'))
        } else {
            format!("/bin/{destination}")
        };
        // What the lab itself needs, or mounts something over.
        let reserved = ["/dev/", "/proc/", "/sys/", "/lab/", "/init", "/bin/sh", "/bin/busybox"];
        if reserved.iter().any(|place| destination == *place || (place.ends_with('/') && destination.starts_with(place))) {
            return Err(format!("{destination} belongs to the lab itself; choose another DEST"));
        }
        Ok(Self { source: PathBuf::from(source), destination })
    }
}

/// The kernel series where none is named.
pub(crate) const DEFAULT_KERNEL: &str = "6.12";

/// One run in the lab.
#[derive(Clone, Debug)]
pub(crate) struct LabOptions {
    /// The host.
    pub(crate) host: Host,
    /// What it runs on.
    pub(crate) accel: Accel,
    /// Its kernel.
    pub(crate) kernel: KernelChoice,
    /// Its CPU, if not the host's usual one.
    pub(crate) cpu_model: Option<CpuModel>,
    /// Its number of CPUs.
    pub(crate) smp: u32,
    /// How long the whole run may take.
    pub(crate) timeout: Duration,
    /// Make virtual time an instruction count.
    pub(crate) icount: bool,
    /// What the kernel's command line ends with.
    pub(crate) kernel_arguments: String,
    /// Files of this machine that the command needs.
    pub(crate) files: Vec<LabFile>,
    /// A real VMM for the lab, with a guest.
    pub(crate) vmm: Option<Vmm>,
    /// The `shared-msr` for the lab, if it has been built; else it is now.
    pub(crate) shared_msr: Option<PathBuf>,
    /// Load KVM's modules before the command starts.
    pub(crate) load_modules: bool,
    /// The command and its arguments.
    pub(crate) command: Vec<OsString>,
}

impl LabOptions {
    /// The given command on an emulated AMD host, with the command line's defaults for all the rest.
    pub(crate) fn new<A: Into<OsString>>(command: impl IntoIterator<Item = A>) -> Self {
        Self {
            host: Host::Amd,
            accel: Accel::Emulator,
            kernel: KernelChoice::Series(DEFAULT_KERNEL.to_owned()),
            cpu_model: None,
            smp: 1,
            timeout: Host::Amd.usual_timeout(),
            icount: false,
            kernel_arguments: String::new(),
            files: Vec::new(),
            vmm: None,
            shared_msr: None,
            load_modules: true,
            command: command.into_iter().map(Into::into).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(text: &str) -> Result<String, String> {
        text.parse::<LabFile>().map(|file| file.destination)
    }

    #[test]
    fn a_bare_name_goes_to_bin() {
        assert_eq!(destination("target/debug/tool:tool").unwrap(), "/bin/tool");
    }

    #[test]
    fn a_path_is_taken_from_the_root() {
        assert_eq!(destination("a:/etc/a.conf").unwrap(), "/etc/a.conf");
        assert_eq!(destination("a:etc/a.conf").unwrap(), "/etc/a.conf");
    }

    #[test]
    fn the_last_colon_separates() {
        let file: LabFile = "a:b:/c".parse().unwrap();
        assert_eq!(file, LabFile { source: PathBuf::from("a:b"), destination: "/c".to_owned() });
    }

    #[test]
    fn half_a_pair_is_refused() {
        for text in ["a", "a:", ":b", "a:b/", "a:../b", "a:/proc/b", "a:/init", "a:sh"] {
            assert!(destination(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_cpu_model_cannot_bring_other_options_with_it() {
        assert_eq!("core2_penryn_t9600".parse::<CpuModel>().unwrap().name(), "core2_penryn_t9600");
        for text in ["", "EPYC,+x", "a b", "a\nb"] {
            assert!(text.parse::<CpuModel>().is_err(), "{text}");
        }
    }
}
