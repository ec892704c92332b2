//! A program that tries what its argument says and reports as one frame; the sandbox's tests run it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let deed = arguments.first().map_or("", String::as_str);
    let object = arguments.get(1).map_or("", String::as_str);
    let report = match deed {
        "echo" => return echo(),
        "spin" => loop {
            std::hint::black_box(0);
        },
        "hush" => {
            // SAFETY: closes descriptors that nothing here uses any more.
            unsafe {
                libc::close(0);
                libc::close(1);
            }
            loop {
                std::hint::black_box(0);
            }
        }
        "read" => tell(fs::read(object).map(|bytes| bytes.len())),
        "list" => tell(fs::read_dir(object).map(Iterator::count)),
        "write" => tell(fs::write(object, "x")),
        "mode" => tell(fs::set_permissions(
            object,
            fs::Permissions::from_mode(0o777),
        )),
        "environment" => format!("ok: {:?}", std::env::vars().collect::<Vec<_>>()),
        "tcp" => tell(TcpStream::connect(object).map(|_| ())),
        "udp" => tell(UdpSocket::bind(object).map(|_| ())),
        "execute" => tell(Command::new(object).spawn().map(|_| ())),
        "thread" => tell(std::thread::Builder::new().spawn(|| {}).map(|_| ())),
        "memory" => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            while held.len() < 4096 {
                held.push(vec![1; 1 << 24]);
            }
            "ok: 64 GiB".to_owned()
        }
        "forks" => {
            let mut started = 0;
            while started < 4096 && fork() > 0 {
                started += 1;
            }
            format!("ok: {started}")
        }
        "grandchild" => {
            // The grandchild says the process id that it has outside, then stays for ever.
            if fork() == 0 {
                let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
                say(&status);
                loop {
                    std::thread::park();
                }
            }
            return;
        }
        // SAFETY: takes a number only.
        "unshare" => number(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into()),
        "start" => start(),
        "calls" => calls(&arguments[1..]),
        // SAFETY: asks to be traced; the other arguments are not read.
        "trace" => number(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }),
        // SAFETY: the operation takes numbers only.
        "keys" => number(unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 0) }),
        "mount" => {
            let none = std::ptr::null();
            let (source, target, kind) = (c"none".as_ptr(), c"/".as_ptr(), c"tmpfs".as_ptr());
            // SAFETY: the strings are null-terminated, and null means no data.
            number(unsafe { libc::mount(source, target, kind, 0, none) }.into())
        }
        // SAFETY: signal 0 only asks whether one may.
        "signal" => number(unsafe { libc::kill(object.parse().unwrap_or(0), 0) }.into()),
        "identity" => {
            // SAFETY: cannot fail and touches no memory.
            let user = unsafe { libc::geteuid() };
            format!("ok: pid {} uid {user}", std::process::id())
        }
        "huge" => {
            let _ = std::io::stdout().write_all(&u32::MAX.to_le_bytes());
            return;
        }
        "chatter" => loop {
            eprintln!("{}", "noise ".repeat(100));
        },
        "die" => {
            eprintln!("last words");
            std::process::exit(7);
        }
        other => format!("unknown deed {other}"),
    };
    say(&report);
}

/// Ends a trusted start, and looks at what is left of it: the clock, a filter of its own, descriptors above stderr.
fn start() -> String {
    let seed = [0i64; 2];
    // SAFETY: reads two words.
    let begun = unsafe { libc::syscall(libc::SYS_clock_settime, 77, seed.as_ptr()) };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // SAFETY: a null program is refused before it is read, if the call is not refused at all.
    let filter = unsafe {
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        let none = std::ptr::null::<libc::sock_fprog>();
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            none,
        );
        *libc::__errno_location()
    };
    // SAFETY: only asks for flags.
    let open = (3..64).filter(|&at| unsafe { libc::fcntl(at, libc::F_GETFD) } >= 0);
    let now = now.map_or(0, |time| time.as_nanos());
    format!("ok: {begun} {now} {filter} {:?}", open.collect::<Vec<_>>())
}

/// Numbers of the calls, but for the named ones, that are neither refused nor unknown.
fn calls(named: &[String]) -> String {
    let there = (0..1024i64).filter(|number| {
        if named.contains(&number.to_string()) {
            return false;
        }
        // SAFETY: arguments that every call refuses before it reads or writes anything.
        unsafe {
            *libc::__errno_location() = 0;
            libc::syscall(*number, -1i64, -1i64, -1i64, -1i64, -1i64, -1i64) >= 0
                || ![libc::EPERM, libc::ENOSYS].contains(&*libc::__errno_location())
        }
    });
    format!("{:?}", there.collect::<Vec<_>>())
}

/// Forks a process that only waits; 0 in the child.
fn fork() -> libc::pid_t {
    // SAFETY: this program has one thread, so the child may do anything.
    unsafe { libc::fork() }
}

fn tell<T: std::fmt::Debug>(result: std::io::Result<T>) -> String {
    match result {
        Ok(value) => format!("ok: {value:?}"),
        Err(error) => format!("refused: {error}"),
    }
}

fn number(result: libc::c_long) -> String {
    tell(if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(result)
    })
}

fn say(text: &str) {
    let mut output = std::io::stdout();
    let length = u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
    let _ = output
        .write_all(&length)
        .and_then(|()| output.write_all(text.as_bytes()))
        .and_then(|()| output.flush());
}

fn echo() {
    let mut input = std::io::stdin();
    let mut prefix = [0; 4];
    while input.read_exact(&mut prefix).is_ok() {
        let mut body = vec![0; u32::from_le_bytes(prefix) as usize];
        if input.read_exact(&mut body).is_err() {
            return;
        }
        let mut output = std::io::stdout();
        let _ = output
            .write_all(&prefix)
            .and_then(|()| output.write_all(&body))
            .and_then(|()| output.flush());
    }
}
