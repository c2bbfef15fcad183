//! VMMs of all shapes, small and known: which thread ran which vCPU of which VM, and how often. Tests hold the report, and what
//! the kernel counts of each thread, against what is printed here.
//!
//!     shapes [-name NAME] [--stay] [--cpu CPU] SHAPE [NUMBER...]
//!
//! Prints a JSON object for each VM, vCPU and thread: `vm` (the process), `vm_number`, `vcpu`, `tid`, `tsc_aux`, `kvm_runs`,
//! `cpuids`. Each vCPU has a `TSC_AUX` of its own, so that a write of it tells whose it is.

mod machine;

use std::{
    env,
    io::{self, BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{self, Command, Stdio},
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use machine::{Machine, Vcpu};

const USAGE: &str = "usage: shapes [-name NAME] [--stay] [--cpu CPU] turns TURNS RUNS | handover CPUIDS | successor TRIES | three-vcpus ROUNDS | \
                     two-vms ROUNDS | pool ROUNDS [CPUS] | execve leader|thread | remake TIMES | setter RUNS | fork RUNS | many VCPUS RUNS";
/// The first `TSC_AUX`; the host's are smaller than 8.
const TSC_AUX: u32 = 0xa01;
/// Of a process beside another one.
const OTHER_TSC_AUX: u32 = 0xb01;
/// CPUIDs of each `KVM_RUN` where nothing else is said.
const CPUIDS: u32 = 4;
/// What the program calls itself when it has become another one.
const LINGERS: &str = "lingers";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // As QEMU is told the name of a VM: for those who read the command line.
    if let ["-name", _, ..] = words[..] {
        words.drain(..2);
    }
    let stays = words.first() == Some(&"--stay");
    words.drain(..usize::from(stays));
    if let ["--cpu", cpu, ..] = words[..] {
        pin(cpu.parse()?)?;
        words.drain(..2);
    }
    let (shape, numbers) = words.split_first().context(USAGE)?;
    match (*shape, numbers) {
        ("turns", [turns, runs]) => take_turns(turns.parse()?, runs.parse()?)?,
        ("handover", [cpuids]) => hand_over(cpuids.parse()?)?,
        ("successor", [tries]) => succeed(tries.parse()?)?,
        ("three-vcpus", [rounds]) => three_vcpus(rounds.parse()?)?,
        ("two-vms", [rounds]) => two_vms(rounds.parse()?)?,
        ("pool", [rounds]) => pool(rounds.parse()?, None)?,
        ("pool", [rounds, cpus]) => pool(rounds.parse()?, Some(cpus.parse()?))?,
        ("execve", [who]) => watch_execve(who)?,
        ("remake", [times]) => remake(times.parse()?)?,
        ("setter", [runs]) => set_and_run(runs.parse()?)?,
        ("fork", [runs]) => fork_in_between(runs.parse()?)?,
        ("many", [vcpus, runs]) => many(vcpus.parse()?, runs.parse()?)?,
        // What the others start.
        ("one", [tsc_aux, cpuids]) => one(tsc_aux.parse()?, cpuids.parse()?)?,
        ("becomes", [who]) => return become_another(who),
        (LINGERS, []) => return linger(),
        _ => bail!(USAGE),
    }
    machine::print_rows();
    if !stays {
        return Ok(());
    }
    loop {
        thread::park();
    }
}

/// One vCPU, two threads in turn.
fn take_turns(turns: u64, runs: u64) -> anyhow::Result<()> {
    let vcpu = Machine::new(1)?.vcpu(0, TSC_AUX, CPUIDS)?;
    let state = Mutex::new((0, vcpu));
    let moved = Condvar::new();
    let drive = |own: u32| -> anyhow::Result<()> {
        let mut state = lock(&state);
        for turn in (0..2 * turns).filter(|turn| turn % 2 == u64::from(own)) {
            state = moved.wait_while(state, |(next, _)| *next != turn).unwrap_or_else(PoisonError::into_inner);
            // Not the other one's number: what goes to the wrong thread in both directions must not cancel out.
            state.1.set_cpuids(CPUIDS + 5 * own);
            state.1.run_times(runs)?;
            state.0 += 1;
            moved.notify_all();
        }
        Ok(())
    };
    all(&[&|| drive(0), &|| drive(1)])?;
    lock(&state).1.check()
}

/// Thread A runs a vCPU three times and stays; thread B then makes one long `KVM_RUN`.
fn hand_over(cpuids: u32) -> anyhow::Result<()> {
    let mut vcpu = Machine::new(1)?.vcpu(0, TSC_AUX, CPUIDS)?;
    let ((to_b, from_a), (to_a, from_b)) = (mpsc::channel(), mpsc::channel());
    let a = thread::spawn(move || -> anyhow::Result<()> {
        vcpu.run_times(3)?;
        to_b.send(vcpu).context("B is gone")?;
        from_b.recv().context("B has failed")
    });
    let b = thread::spawn(move || -> anyhow::Result<()> {
        let mut vcpu: Vcpu = from_a.recv().context("A has failed")?;
        vcpu.set_cpuids(cpuids);
        vcpu.run()?;
        vcpu.check()?;
        to_a.send(()).context("A is gone")
    });
    for thread in [a, b] {
        thread.join().map_err(|_| anyhow::anyhow!("a thread has panicked"))??;
    }
    Ok(())
}

/// This process makes a VM, runs it, closes it and lives on; then another process makes one, often at the same address.
fn succeed(tries: u32) -> anyhow::Result<()> {
    for number in 0..tries {
        let mut vcpu = Machine::new(number + 1)?.vcpu(0, TSC_AUX + number, CPUIDS)?;
        vcpu.run_times(3)?;
        vcpu.check()?;
        drop(vcpu);
        let tsc_aux = OTHER_TSC_AUX + number;
        let status = Command::new(env::current_exe()?).args(["one", &tsc_aux.to_string(), "400"]).status()?;
        if !status.success() {
            bail!("the other process: {status}");
        }
    }
    Ok(())
}

/// One VM, one long run.
fn one(tsc_aux: u32, cpuids: u32) -> anyhow::Result<()> {
    let mut vcpu = Machine::new(1)?.vcpu(0, tsc_aux, cpuids)?;
    vcpu.run()?;
    vcpu.check()
}

/// One thread runs three vCPUs of one VM in turn.
fn three_vcpus(rounds: u64) -> anyhow::Result<()> {
    let machine = Machine::new(1)?;
    let vcpus = (0..3).map(|id| machine.vcpu(id.into(), TSC_AUX + id, CPUIDS + id));
    in_turn(vcpus.collect::<anyhow::Result<_>>()?, rounds)
}

/// One thread runs a vCPU of each of two VMs in turn.
fn two_vms(rounds: u64) -> anyhow::Result<()> {
    let vcpus = (0..2).map(|number| Machine::new(number + 1)?.vcpu(0, TSC_AUX + number, CPUIDS + number));
    in_turn(vcpus.collect::<anyhow::Result<_>>()?, rounds)
}

fn in_turn(mut vcpus: Vec<Vcpu>, rounds: u64) -> anyhow::Result<()> {
    for _ in 0..rounds {
        vcpus.iter_mut().try_for_each(Vcpu::run)?;
    }
    vcpus.iter().try_for_each(Vcpu::check)
}

/// Four threads drive eight vCPUs, each thread each vCPU. With `cpus`, the threads are spread over that many CPUs.
fn pool(rounds: usize, cpus: Option<usize>) -> anyhow::Result<()> {
    let machine = Machine::new(1)?;
    let vcpus = (0..8).map(|id| Ok(Mutex::new(machine.vcpu(id.into(), TSC_AUX + id, CPUIDS + id)?)));
    let vcpus: Vec<Mutex<Vcpu>> = vcpus.collect::<anyhow::Result<_>>()?;
    let drive = |own: u32| -> anyhow::Result<()> {
        let thread = own as usize;
        cpus.map_or(Ok(()), |cpus| pin(thread % cpus))?;
        (0..rounds * vcpus.len()).try_for_each(|turn| {
            let mut vcpu = lock(&vcpus[(2 * thread + turn) % vcpus.len()]);
            vcpu.set_cpuids(CPUIDS + 5 * own);
            vcpu.run()
        })
    };
    all(&[&|| drive(0), &|| drive(1), &|| drive(2), &|| drive(3)])?;
    vcpus.iter().try_for_each(|vcpu| lock(vcpu).check())
}

/// A process in which a thread that has run a vCPU calls `execve`, runs another one, and lives on after we have ended.
fn watch_execve(who: &str) -> anyhow::Result<()> {
    let mut child = Command::new(env::current_exe()?).args(["becomes", who]).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("its output is not ours")?;
    for line in BufReader::new(output).lines() {
        match line?.as_str() {
            LINGERS => return Ok(()),
            line => println!("{line}"),
        }
    }
    bail!("the other process: {}", child.wait()?)
}

fn become_another(who: &str) -> anyhow::Result<()> {
    let act = || -> anyhow::Result<()> {
        let mut vcpu = Machine::new(1)?.vcpu(0, TSC_AUX, CPUIDS)?;
        vcpu.run_times(20)?;
        vcpu.check()?;
        machine::print_rows();
        Err(Command::new(env::current_exe()?).arg(LINGERS).exec()).context("execve")
    };
    match who {
        "leader" => act(),
        "thread" => all(&[&act]),
        _ => bail!(USAGE),
    }
}

fn linger() -> anyhow::Result<()> {
    // Its process has made one before.
    let mut vcpu = Machine::new(2)?.vcpu(0, OTHER_TSC_AUX, CPUIDS)?;
    vcpu.run_times(10)?;
    vcpu.check()?;
    machine::print_rows();
    println!("{LINGERS}");
    // Until we are killed; whoever forgets it does not keep us for ever.
    thread::sleep(Duration::from_secs(300));
    Ok(())
}

/// One process makes a VM, runs it and destroys it, many times.
fn remake(times: u32) -> anyhow::Result<()> {
    for number in 0..times {
        let mut vcpu = Machine::new(number + 1)?.vcpu(0, TSC_AUX + number, CPUIDS)?;
        vcpu.run_times(2)?;
        vcpu.check()?;
    }
    Ok(())
}

/// One thread sets the MSRs, another one runs the vCPU.
fn set_and_run(runs: u64) -> anyhow::Result<()> {
    let vcpu = Mutex::new(Machine::new(1)?.vcpu(0, TSC_AUX, CPUIDS)?);
    all(&[&|| lock(&vcpu).run_times(runs)])?;
    lock(&vcpu).check()
}

/// A VMM that forks in mid-run. The child cannot run its parent's vCPU (KVM wants the address space that made it): it makes its own.
fn fork_in_between(runs: u64) -> anyhow::Result<()> {
    let mut vcpu = Machine::new(1)?.vcpu(0, TSC_AUX, CPUIDS)?;
    vcpu.run_times(runs)?;
    // SAFETY: this process has one thread, so that nothing is locked by another one.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("fork"),
        0 => {
            machine::forget_rows();
            let mut own = Machine::new(1)?.vcpu(0, OTHER_TSC_AUX, CPUIDS + 1)?;
            own.run_times(runs)?;
            own.check()?;
            machine::print_rows();
            process::exit(0);
        }
        child => {
            // While the child makes its exits.
            vcpu.run_times(2 * runs)?;
            vcpu.check()?;
            // SAFETY: no status is asked for.
            if unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } != child {
                return Err(io::Error::last_os_error()).context("waitpid");
            }
            Ok(())
        }
    }
}

/// One VM with many vCPUs, each of which has a thread.
fn many(vcpus: u32, runs: u64) -> anyhow::Result<()> {
    let machine = Machine::new(1)?;
    let vcpus = (0..vcpus).map(|id| Ok(Mutex::new(machine.vcpu(id.into(), TSC_AUX + id, CPUIDS + id)?)));
    let vcpus: Vec<Mutex<Vcpu>> = vcpus.collect::<anyhow::Result<_>>()?;
    let parts: Vec<_> = vcpus.iter().map(|vcpu| move || lock(vcpu).run_times(runs)).collect();
    let parts: Vec<&(dyn Fn() -> anyhow::Result<()> + Sync)> = parts.iter().map(|part| part as _).collect();
    all(&parts)?;
    vcpus.iter().try_for_each(|vcpu| lock(vcpu).check())
}

/// Runs each in a thread of its own and waits for all. A failure ends the process: others may wait for the one that failed.
fn all(parts: &[&(dyn Fn() -> anyhow::Result<()> + Sync)]) -> anyhow::Result<()> {
    thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || {
                if let Err(error) = part() {
                    eprintln!("shapes: {error:#}");
                    process::exit(1);
                }
            });
        }
    });
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the calling thread, and those that it will start, run on one CPU.
fn pin(cpu: usize) -> anyhow::Result<()> {
    let mask = 1u64.checked_shl(u32::try_from(cpu)?).context("a CPU below 64, please")?;
    // SAFETY: the kernel reads as many bytes as the second argument says, which is the length of the mask.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&mask), (&raw const mask).cast()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()).with_context(|| format!("cannot run on CPU {cpu}")) }
}
