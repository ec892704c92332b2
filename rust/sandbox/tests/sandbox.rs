//! What a hostile child can and cannot do. Every test names one thing that must not work.
//!
//! One file above 400 lines: one launch serves all deeds, and a deed is a few lines.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use moevolve_sandbox::{Bounds, Child, Error, Forks, Limits, Policy, probe, spawn};

const HOSTILE: &str = env!("CARGO_BIN_EXE_hostile");

fn policy(arguments: &[&str]) -> Policy {
    Policy {
        program: PathBuf::from(HOSTILE),
        arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        readable: ["/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache"]
            .map(PathBuf::from)
            .to_vec(),
        executable: [HOSTILE, "/lib64", "/usr/lib"].map(PathBuf::from).to_vec(),
        ..Policy::default()
    }
}

const BOUNDS: Bounds = Bounds {
    bytes: 1 << 20,
    values: 1 << 20,
    depth: 64,
};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn report(child: &mut Child) -> Result<String, Error> {
    let body = child
        .receive(&BOUNDS, soon())?
        .expect("the child neither answered nor died");
    Ok(String::from_utf8(body).expect("reports are text"))
}

fn deed(arguments: &[&str]) -> String {
    report(&mut spawn(&policy(arguments)).expect("spawn")).expect("report")
}

fn refused(arguments: &[&str]) {
    let said = deed(arguments);
    assert!(said.starts_with("refused"), "{arguments:?}: {said}");
}

#[test]
fn frames_come_back_whole() {
    let mut child = spawn(&policy(&["echo"])).unwrap();
    for size in [0, 1, 3, 4, 5, 65_536, 300_000] {
        let body: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        // More than the pipes hold would wait for our reading, so write in turns.
        let (mut done, mut back) = (0, None);
        while back.is_none() {
            done = child.send(&body, done, Instant::now()).unwrap();
            back = child.receive(&BOUNDS, Instant::now()).unwrap();
        }
        assert_eq!(back.unwrap(), body);
    }
}

#[test]
fn no_network() {
    refused(&["tcp", "127.0.0.1:1"]);
    refused(&["udp", "127.0.0.1:0"]);
}

#[test]
fn no_file_is_written_or_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "before").unwrap();
    let mut policy = policy(&["write", file.to_str().unwrap()]);
    policy.readable.push(folder.path().to_path_buf());
    assert!(
        report(&mut spawn(&policy).unwrap())
            .unwrap()
            .starts_with("refused")
    );
    policy.arguments[0] = "mode".into();
    assert!(
        report(&mut spawn(&policy).unwrap())
            .unwrap()
            .starts_with("refused")
    );
    policy.arguments[0] = "read".into();
    assert_eq!(report(&mut spawn(&policy).unwrap()).unwrap(), "ok: 6");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
    refused(&["write", "/new"]);
    refused(&["write", "/tmp/new"]);
}

#[test]
fn only_named_paths_are_read() {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&secret, "secret").unwrap();
    for path in [&home, "/root", "/home", "/proc", env!("CARGO_MANIFEST_DIR")] {
        if Path::new(HOSTILE).starts_with(path) {
            // A folder above the executable exists in the private root, but holds nothing else.
            continue;
        }
        refused(&["list", path]);
    }
    refused(&["read", "/etc/shadow"]);
    refused(&["read", "/etc/passwd"]);
    refused(&["read", "/proc/1/environ"]);
    refused(&["read", secret.path().to_str().unwrap()]);
    refused(&["read", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
}

#[test]
fn the_environment_is_the_named_one() {
    let mut policy = policy(&["environment"]);
    policy.environment.push(("ONLY".into(), "this".into()));
    assert_eq!(
        report(&mut spawn(&policy).unwrap()).unwrap(),
        r#"ok: [("ONLY", "this")]"#
    );
}

#[test]
fn kernel_surface_is_closed() {
    for call in ["unshare", "trace", "keys", "mount"] {
        refused(&[call]);
    }
    refused(&["signal", &std::process::id().to_string()]);
}

#[test]
fn nothing_else_is_executed_or_started() {
    refused(&["execute", "/bin/true"]);
    refused(&["thread"]);
    assert_eq!(deed(&["forks"]), "ok: 0");
}

#[test]
fn root_inside_is_nobody() {
    let said = deed(&["identity"]);
    if probe().missing().is_empty() {
        assert_eq!(said, "ok: pid 1 uid 1000");
    }
}

#[test]
fn a_memory_bomb_dies() {
    let mut policy = policy(&["memory"]);
    policy.limits.memory = 128 << 20;
    let mut child = spawn(&policy).unwrap();
    assert!(matches!(report(&mut child), Err(Error::Ended { .. })));
}

#[test]
fn an_infinite_loop_meets_its_processor_limit() {
    let mut policy = policy(&["spin"]);
    policy.limits = Limits {
        cpu_seconds: 1,
        ..Limits::default()
    };
    let ended = report(&mut spawn(&policy).unwrap());
    assert!(
        matches!(ended, Err(Error::Spent { seconds: 1 })),
        "{ended:?}"
    );
}

/// A child that is killed for what it does must not look like one that the machine took.
#[test]
fn who_closes_the_pipes_and_goes_on_is_said_to_have_done_that() {
    let ended = report(&mut spawn(&policy(&["hush"])).unwrap());
    let Err(Error::Ended { how, .. }) = &ended else {
        panic!("{ended:?}")
    };
    assert_eq!(how, "closed its pipe and went on");
}

#[test]
fn where_memory_runs_out_the_child_goes_before_anybody_else() {
    let child = spawn(&policy(&["spin"])).unwrap();
    let file = format!("/proc/{}/oom_score_adj", child.id());
    assert_eq!(std::fs::read_to_string(file).unwrap().trim(), "1000");
}

#[test]
fn a_deadline_passes_without_a_frame_and_the_child_dies_with_its_handle() {
    let mut child = spawn(&policy(&["spin"])).unwrap();
    let pid = child.id();
    assert!(
        child
            .receive(&BOUNDS, Instant::now() + Duration::from_millis(30))
            .unwrap()
            .is_none()
    );
    drop(child);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn grandchildren_die_with_the_child() {
    let mut policy = policy(&["grandchild"]);
    policy.forks = Forks::Everybody { processes: 512 };
    policy.readable.push("/proc".into());
    // The first frame is the grandchild's; its parent is gone already or goes now.
    let mut child = spawn(&policy).unwrap();
    let group = child.id();
    let _ = report(&mut child);
    drop(child);
    // With a PID namespace they are gone by now; without one they were killed and go in their own time.
    let deadline = soon();
    while !members(group).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", members(group));
        std::thread::yield_now();
    }
}

/// Status lines of the processes in a session, zombies left out.
fn members(session: u32) -> Vec<String> {
    let folders = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    folders
        .filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // After the name in parentheses: state, parent, group, session.
            let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
            let alive = fields.first() != Some(&"Z") && fields.get(3)?.parse() == Ok(session);
            alive.then(|| stat.clone())
        })
        .collect()
}

#[test]
fn a_frame_is_bounded() {
    let mut child = spawn(&policy(&["huge"])).unwrap();
    assert!(matches!(
        child.receive(&BOUNDS, soon()),
        Err(Error::FrameTooLarge {
            most: 1_048_576,
            ..
        })
    ));
}

#[test]
fn last_words_are_kept_and_bounded() {
    let mut child = spawn(&policy(&["die"])).unwrap();
    let Err(Error::Ended { how, stderr }) = child.receive(&BOUNDS, soon()) else {
        panic!("it should die")
    };
    assert_eq!(
        (how.as_str(), stderr.as_str()),
        ("exit status 7", "last words\n")
    );
    let mut child = spawn(&policy(&["chatter"])).unwrap();
    assert!(
        child
            .receive(&BOUNDS, Instant::now() + Duration::from_millis(50))
            .unwrap()
            .is_none()
    );
    assert!(child.stderr().len() <= 4096);
}

#[test]
fn a_missing_executable_is_a_setup_error() {
    let mut policy = policy(&[]);
    policy.program = "/nowhere/python".into();
    let error = spawn(&policy).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Setup {
                step: "execute",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn strict_follows_the_probe() {
    let mut policy = policy(&["identity"]);
    policy.strict = true;
    assert_eq!(spawn(&policy).is_ok(), probe().missing().is_empty());
}

#[test]
fn a_trusted_start_ends_where_the_world_begins() {
    if probe().missing().contains(&"virtual clock".to_owned()) {
        return;
    }
    for trusted_start in [false, true] {
        let mut policy = policy(&["start"]);
        policy.trusted_start = trusted_start;
        // 1 January 2030 and a tick; no further filter, no descriptor of the listener.
        let said = report(&mut spawn(&policy).unwrap()).unwrap();
        let expected = format!("ok: 0 1893456000001000000 {} []", libc::EPERM);
        assert_eq!(said, expected);
    }
}

#[test]
fn a_start_that_never_ends_is_an_ended_child() {
    let mut policy = policy(&["die"]);
    policy.trusted_start = true;
    let Err(Error::Ended { how, stderr }) = report(&mut spawn(&policy).unwrap()) else {
        panic!("it should die")
    };
    assert_eq!(
        (how.as_str(), stderr.as_str()),
        ("exit status 7", "last words\n")
    );
}

#[test]
fn input_waits_for_the_child() {
    for size in [5, 40_000, 200_000] {
        let mut policy = policy(&["echo"]);
        let body = vec![7; size];
        policy.input = [&(size as u32).to_le_bytes()[..], &body].concat();
        let mut child = spawn(&policy).unwrap();
        assert_eq!(child.receive(&BOUNDS, soon()).unwrap(), Some(body));
    }
}

/// Every call that a child may make, whatever it asks for: files, memory, waiting, its own signals, clocks that the host
/// answers. None of them starts, names or changes anything outside.
#[cfg(target_arch = "x86_64")]
const POSSIBLE: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_stat,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fadvise64,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_umask,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_arch_prctl,
    libc::SYS_execve,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_times,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getrandom,
    libc::SYS_uname,
];

#[cfg(target_arch = "x86_64")]
#[test]
fn no_other_call_is_possible() {
    if probe().missing().contains(&"seccomp".to_owned()) {
        return;
    }
    // uretprobe and uprobe pass any filter, and kill whoever calls them of his own accord.
    let probes = [335, 336];
    let named: Vec<_> = POSSIBLE
        .iter()
        .chain(&probes)
        .map(ToString::to_string)
        .collect();
    let arguments: Vec<_> = ["calls"]
        .into_iter()
        .chain(named.iter().map(String::as_str))
        .collect();
    assert_eq!(deed(&arguments), "[]");
}
