//! The few calls of bpf(2) that aya does not offer.

use std::{
    ffi::CStr,
    fmt, io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use aya::Pod;
use aya_obj::generated::{BPF_F_SLEEPABLE, bpf_attach_type, bpf_attr, bpf_btf_info, bpf_cmd, bpf_insn, bpf_prog_type};

/// Where a function is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Entry,
    Return,
}

impl fmt::Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if *self == Self::Entry { "entry" } else { "return" })
    }
}

/// What a function's hook is loaded with.
pub(super) struct TracingProgram<'a> {
    /// Shown in any listing of the kernel's programs, cut after 15 bytes.
    pub(super) name: &'a str,
    /// Relocated.
    pub(super) instructions: &'a [bpf_insn],
    /// As in the object.
    pub(super) license: &'a CStr,
    pub(super) at: At,
    /// Id of the function's type.
    pub(super) function: u32,
    /// BTF of the module that has the function; none for vmlinux (since 5.11, 290248a5b7d8).
    pub(super) module: Option<BorrowedFd<'a>>,
}

/// Loads a program for a function. On refusal the verifier's words are given with the error.
pub(super) fn load_tracing(program: &TracingProgram<'_>) -> Result<OwnedFd, (io::Error, String)> {
    match try_load(program, &mut []) {
        Ok(descriptor) => Ok(descriptor),
        Err(first) => {
            // Only now: a log costs time, and one that is too small is an error of its own.
            let mut log = vec![0; 1 << 20];
            try_load(program, &mut log).map_err(|error| {
                let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                // A log that is full hides the kernel's own error (before 6.4).
                let error = if error.raw_os_error() == Some(libc::ENOSPC) { first } else { error };
                (error, String::from_utf8_lossy(&log[..end]).into_owned())
            })
        }
    }
}

fn try_load(program: &TracingProgram<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = empty();
    // SAFETY: plain integers in a union, all zero so far.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    load.expected_attach_type = match program.at {
        At::Entry => bpf_attach_type::BPF_TRACE_FENTRY,
        At::Return => bpf_attach_type::BPF_TRACE_FEXIT,
    } as u32;
    load.insn_cnt = program.instructions.len() as u32;
    load.insns = program.instructions.as_ptr() as u64;
    load.license = program.license.as_ptr() as u64;
    load.attach_btf_id = program.function;
    load.__bindgen_anon_1.attach_btf_obj_fd = program.module.map_or(0, |module| module.as_raw_fd().cast_unsigned());
    set_name(&mut load.prog_name, program.name);
    if !log.is_empty() {
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
    }
    descriptor(bpf(bpf_cmd::BPF_PROG_LOAD, &mut attributes)?)
}

/// A kind of program that is run on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDemand {
    /// `BPF_PROG_TYPE_RAW_TRACEPOINT`: run with numbers since 5.10 (1b4d60ec162f).
    RawTracepoint,
    /// `BPF_PROG_TYPE_SYSCALL`, since 5.14 (79a7f8bdb159): may call what no other program may.
    Syscall,
}

/// Loads such a program.
pub(super) fn load_on_demand(kind: OnDemand, name: &str, instructions: &[bpf_insn], license: &CStr) -> io::Result<OwnedFd> {
    let mut attributes = empty();
    // SAFETY: plain integers in a union, all zero so far.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    let (program_type, flags) = match kind {
        OnDemand::RawTracepoint => (bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT, 0),
        OnDemand::Syscall => (bpf_prog_type::BPF_PROG_TYPE_SYSCALL, BPF_F_SLEEPABLE),
    };
    load.prog_type = program_type as u32;
    load.prog_flags = flags;
    load.insn_cnt = instructions.len() as u32;
    load.insns = instructions.as_ptr() as u64;
    load.license = license.as_ptr() as u64;
    set_name(&mut load.prog_name, name);
    descriptor(bpf(bpf_cmd::BPF_PROG_LOAD, &mut attributes)?)
}

/// Runs such a program once, with these numbers as its arguments.
pub(super) fn run(program: BorrowedFd<'_>, arguments: &[u64]) -> io::Result<()> {
    let mut attributes = empty();
    attributes.test.prog_fd = program.as_raw_fd().cast_unsigned();
    if !arguments.is_empty() {
        attributes.test.ctx_in = arguments.as_ptr() as u64;
        attributes.test.ctx_size_in = size_of_val(arguments) as u32;
    }
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attributes).map(|_| ())
}

/// Attaches a loaded tracing program to what it was loaded for.
pub(super) fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attributes = empty();
    attributes.raw_tracepoint.prog_fd = program.as_raw_fd().cast_unsigned();
    descriptor(bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attributes)?)
}

/// The kernel's BTF object of a module.
pub(super) fn module_btf(module: &str) -> io::Result<OwnedFd> {
    let mut last = 0;
    loop {
        let mut attributes = empty();
        attributes.__bindgen_anon_6.__bindgen_anon_1.start_id = last;
        if let Err(error) = bpf(bpf_cmd::BPF_BTF_GET_NEXT_ID, &mut attributes) {
            return Err(match error.raw_os_error() {
                Some(libc::ENOENT) => io::Error::other(format!("the kernel has no BTF object named {module}")),
                _ => error,
            });
        }
        // SAFETY: the kernel has written an integer there.
        last = unsafe { attributes.__bindgen_anon_6.next_id };
        let mut attributes = empty();
        attributes.__bindgen_anon_6.__bindgen_anon_1.btf_id = last;
        let object = match bpf(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attributes) {
            Ok(raw) => descriptor(raw)?,
            // Gone since it was listed.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => return Err(error),
        };
        if name_of(&object)? == module.as_bytes() {
            return Ok(object);
        }
    }
}

/// Reads many rows of a hash map: from `position` on, as many as there is room for in `keys` and `values`. Gives how many, and
/// the position of the next ones; none when that was the last. Linux 5.6 and later (kernel/bpf/hashtab.c,
/// `__htab_map_lookup_and_delete_batch`).
pub(super) fn lookup_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    position: Option<u32>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, Option<u32>)> {
    let (before, mut after) = (position.unwrap_or(0), 0_u32);
    let mut attributes = empty();
    attributes.batch.map_fd = map.as_raw_fd().cast_unsigned();
    attributes.batch.in_batch = position.map_or(0, |_| (&raw const before) as u64);
    attributes.batch.out_batch = (&raw mut after) as u64;
    attributes.batch.keys = keys.as_mut_ptr() as u64;
    attributes.batch.values = values.as_mut_ptr() as u64;
    attributes.batch.count = u32::try_from(keys.len().min(values.len())).map_err(io::Error::other)?;
    let next = match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attributes) {
        Ok(_) => Some(after),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
        Err(error) => return Err(error),
    };
    // SAFETY: the kernel has written an integer there.
    Ok((unsafe { attributes.batch.count } as usize, next))
}

fn name_of(object: &OwnedFd) -> io::Result<Vec<u8>> {
    // Longer than any module's name (MODULE_NAME_LEN, include/linux/module.h).
    let mut name = [0_u8; 64];
    let mut info =
        bpf_btf_info { btf: 0, btf_size: 0, id: 0, name: name.as_mut_ptr() as u64, name_len: name.len() as u32, kernel_btf: 0 };
    let mut attributes = empty();
    attributes.info.bpf_fd = object.as_raw_fd().cast_unsigned();
    attributes.info.info_len = size_of::<bpf_btf_info>() as u32;
    attributes.info.info = (&raw mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
}

/// Shown in any listing of the kernel's programs; what is too long is cut, and the last byte stays 0.
fn set_name(to: &mut [libc::c_char; 16], name: &str) {
    for (to, from) in to.iter_mut().take(15).zip(name.bytes()) {
        *to = from.cast_signed();
    }
}

fn empty() -> bpf_attr {
    // SAFETY: only integers; the kernel asks that what is not used be zero.
    unsafe { mem::zeroed() }
}

fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: the attributes live through the call, and so does all they point to: each caller holds it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attributes, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(raw: libc::c_long) -> io::Result<OwnedFd> {
    let raw = RawFd::try_from(raw).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
