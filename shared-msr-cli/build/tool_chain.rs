//! Finds a Rust compiler that can build for BPF, and the BPF linker that goes with it.
//!
//! BPF is a target without a prebuilt standard library: `core` is compiled from source, so the compiler has to come
//! with the library's source. Shared by the build script of `shared-msr-cli` and by `xtask`.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

/// The series of bpf-linker that links with LLVM 22, the LLVM of Rust 1.95 to 1.97.
pub(crate) const LINKER_SERIES: &str = "0.10.";
/// The major version of LLVM that this series of bpf-linker can load.
const LLVM_MAJOR: &str = "22";

/// A compiler and a linker for BPF.
#[derive(Debug)]
pub(crate) struct ToolChain {
    /// Where the compiler comes from.
    pub(crate) compiler: Compiler,
    /// bpf-linker.
    pub(crate) linker: PathBuf,
    /// A folder with the compiler's own LLVM. bpf-linker takes the first `libLLVM*` it meets on `LD_LIBRARY_PATH`, which
    /// has to be the one that made its input.
    pub(crate) llvm: PathBuf,
}

/// A Rust compiler with the source of its standard library.
#[derive(Debug)]
pub(crate) enum Compiler {
    /// A toolchain of rustup, by name.
    Rustup(String),
    /// A compiler outside rustup, such as Debian's.
    System(PathBuf),
}

impl fmt::Display for ToolChain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} and {}", self.compiler, self.linker.display())
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustup(name) => write!(formatter, "rustup's toolchain {name} with rust-src"),
            Self::System(rustc) => write!(formatter, "{} with the library source of its package", rustc.display()),
        }
    }
}

/// What is missing for a BPF build; says how to install it.
#[derive(Debug)]
pub(crate) enum Missing {
    /// No compiler has the source of its library.
    Compiler,
    /// No bpf-linker of the right series.
    Linker,
    /// The compiler's LLVM could not be found, and why.
    Llvm(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler => write!(
                formatter,
                "no Rust compiler with LLVM {LLVM_MAJOR} and the source of its library was found: run `cargo xtask setup`, \
                 or `rustup component add rust-src`, or on Debian `apt-get install --no-install-recommends rustc-web \
                 cargo-web rust-web-src`"
            ),
            Self::Linker => write!(
                formatter,
                "no bpf-linker {LINKER_SERIES}x was found on PATH or in target/tools/bin: run `cargo xtask setup`, or \
                 `cargo install --locked bpf-linker --version '^0.10'`"
            ),
            Self::Llvm(why) => write!(
                formatter,
                "the LLVM library of the Rust compiler was not found ({why}): use a compiler that links LLVM as a shared \
                 library, such as rustup's (`rustup component add rust-src`) or Debian's rustc-web"
            ),
        }
    }
}

impl ToolChain {
    /// Looks for a compiler (a rustup toolchain with rust-src first, then the system's) and for bpf-linker (on PATH
    /// first, then in `target/tools` of `workspace`).
    pub(crate) fn find(workspace: &Path) -> Result<Self, Missing> {
        let compiler = Compiler::find().ok_or(Missing::Compiler)?;
        let linker = find_linker(workspace).ok_or(Missing::Linker)?;
        let llvm = compiler.llvm(workspace).map_err(Missing::Llvm)?;
        Ok(Self { compiler, linker, llvm })
    }
}

impl Compiler {
    /// The first compiler that can build for BPF.
    pub(crate) fn find() -> Option<Self> {
        rustup_toolchains().into_iter().map(Self::Rustup).chain(system_compilers().map(Self::System)).find(Self::can_build_core)
    }

    /// A command that runs `program` ("rustc" or "cargo") with this compiler.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = match self {
            Self::Rustup(name) => {
                let mut command = Command::new("rustup");
                command.args(["run", name, program]).env_remove("RUSTC");
                command
            }
            Self::System(rustc) if program == "rustc" => Command::new(rustc),
            Self::System(rustc) => {
                // The package's own cargo is next to its compiler; any newer cargo does as well.
                let beside = rustc.with_file_name(program);
                let mut command = if beside.exists() { Command::new(beside) } else { Command::new(program) };
                command.env("RUSTC", rustc);
                command
            }
        };
        // A toolchain that is not installed must not be downloaded behind the user's back.
        command.env("RUSTUP_AUTO_INSTALL", "0");
        command
    }

    /// A folder that holds this compiler's LLVM, and no other.
    fn llvm(&self, workspace: &Path) -> Result<PathBuf, String> {
        let rustc = match self {
            Self::Rustup(_) => {
                let sysroot =
                    output(self.command("rustc").args(["--print", "sysroot"])).ok_or("rustc does not tell its sysroot")?;
                return Ok(Path::new(sysroot.trim()).join("lib"));
            }
            Self::System(rustc) => rustc,
        };
        // Distributions keep it among all other libraries, perhaps with other versions of LLVM beside it.
        let libraries = output(Command::new("ldd").arg(rustc)).ok_or("ldd cannot tell what rustc links")?;
        let library =
            libraries.lines().filter_map(|line| line.trim().strip_prefix("libLLVM")).find_map(|line| line.split(' ').nth(2));
        let library = Path::new(library.ok_or("rustc links no libLLVM")?);
        let folder = workspace.join("target/tools/llvm");
        let link = folder.join(library.file_name().ok_or("ldd names no file")?);
        if fs::read_link(&link).ok().as_deref() != Some(library) {
            // A link to another version must not stand beside it.
            drop(fs::remove_dir_all(&folder));
            let made = fs::create_dir_all(&folder).and_then(|()| symlink(library, &link));
            made.map_err(|error| format!("{}: {error}", link.display()))?;
        }
        Ok(folder)
    }

    fn can_build_core(&self) -> bool {
        let Some(sysroot) = output(self.command("rustc").args(["--print", "sysroot"])) else { return false };
        let Some(version) = output(self.command("rustc").arg("-vV")) else { return false };
        Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists() && llvm_fits(&version)
    }
}

fn llvm_fits(version: &str) -> bool {
    version.lines().filter_map(|line| line.strip_prefix("LLVM version: ")).any(|llvm| llvm.split('.').next() == Some(LLVM_MAJOR))
}

/// The names of rustup's toolchains, the active one first; none without rustup.
fn rustup_toolchains() -> Vec<String> {
    let list = output(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let mut lines: Vec<&str> = list.lines().filter(|line| !line.starts_with("no installed")).collect();
    lines.sort_by_key(|line| !line.contains("active") && !line.contains("default"));
    lines.iter().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Compilers that are not rustup's proxies.
fn system_compilers() -> impl Iterator<Item = PathBuf> {
    on_path("rustc").chain([PathBuf::from("/usr/bin/rustc")]).filter(|rustc| {
        // rustup's proxy stands beside rustup itself.
        rustc.exists() && !rustc.with_file_name("rustup").exists()
    })
}

/// bpf-linker of the right series: on PATH, or among the workspace's own tools.
pub(crate) fn find_linker(workspace: &Path) -> Option<PathBuf> {
    on_path("bpf-linker").chain([workspace.join("target/tools/bin/bpf-linker")]).find(|linker| {
        output(Command::new(linker).arg("--version")).is_some_and(|version| {
            version.trim().strip_prefix("bpf-linker ").is_some_and(|number| number.starts_with(LINKER_SERIES))
        })
    })
}

/// The files of this name in the folders of PATH, in their order.
pub(crate) fn on_path(program: &str) -> impl Iterator<Item = PathBuf> {
    let folders: Vec<PathBuf> =
        env::var_os("PATH").as_ref().map(|path: &OsString| env::split_paths(path).collect()).unwrap_or_default();
    let program = program.to_owned();
    folders.into_iter().map(move |folder| folder.join(&program)).filter(|file| file.is_file())
}

fn output(command: &mut Command) -> Option<String> {
    // Inside a build script these name the outer build's compiler.
    let output = command.env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
