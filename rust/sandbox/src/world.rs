//! The world that a child sees instead of this machine: time, entropy and names that are functions of a key.
//!
//! Every process has clocks of its own, each of which moves by [`TICK`] when it is read and all by whole sleeps, and a
//! stream of random bytes (SplitMix64). The interpreter reads the kernel's monotonic clock for itself, at every lock; so
//! that a program's readings count alone, it has the clock [`STEADY`]. Setting the clock [`RESEED`] to a number starts both anew from it: so a worker
//! says whose step begins, and the step's draws depend on nothing else.

use std::collections::HashMap;

use crate::memory::Process;
use crate::policy::Forks;

/// Number of the clock whose setting reseeds; no clock of the kernel has it.
pub(crate) const RESEED: u64 = 77;
const WALL: u64 = libc::CLOCK_REALTIME as u64;
/// Number of the clock that counts from the beginning and that nobody reads by the way.
const STEADY: u64 = 78;
/// Nanoseconds that pass with each look at a clock, so that a loop which waits for one ends.
const TICK: u64 = 1_000_000;
/// Nanoseconds of a unit of times(2).
const CLOCK_TICK: u64 = 10_000_000;
/// What the wall clock shows at first, in nanoseconds: 1 January 2030, UTC.
const EPOCH: u64 = 1_893_456_000 * SECOND;
const SECOND: u64 = 1_000_000_000;
/// Bytes that one call draws at most; the C library asks again for the rest.
const MOST_DRAWN: u64 = 1 << 16;
/// Processes that are kept apart; far above what a limit allows.
const MOST_PROCESSES: usize = 1 << 16;
/// Bytes of a field of `struct utsname`.
const NAME: usize = 65;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The call returns this.
    Value(i64),
    /// The call fails with this number.
    Error(i32),
    /// The kernel goes on with it.
    Proceed,
}

/// A call as the kernel tells it.
pub(crate) struct Call {
    pub number: i64,
    pub arguments: [u64; 6],
}

/// Time and entropy of one process.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    seed: u64,
    drawn: u64,
    slept: u64,
    /// Readings of the wall clock, of the steady one, and of all others.
    looks: [u64; 3],
}

impl Stream {
    /// Eight more bytes.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed ^ mix(self.drawn))
    }

    /// What clock `id` shows; it has moved by that.
    fn look(&mut self, id: u64) -> u64 {
        let (kind, epoch) = match id as i32 {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI => (0, EPOCH),
            _ if id == STEADY => (1, 0),
            _ => (2, 0),
        };
        self.looks[kind] += 1;
        self.slept.saturating_add(epoch + self.looks[kind] * TICK)
    }

    /// Sleeping is being later: nobody waits.
    fn sleep(&mut self, nanoseconds: u64) {
        self.slept = self.slept.saturating_add(nanoseconds);
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): one step from `state`.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What all processes of a child see.
#[derive(Debug)]
pub(crate) struct World {
    first: libc::pid_t,
    forks: Forks,
    streams: HashMap<libc::pid_t, Stream>,
}

impl World {
    pub(crate) fn new(first: libc::pid_t, forks: Forks) -> Self {
        Self {
            first,
            forks,
            streams: HashMap::new(),
        }
    }

    /// The answer to a call of `process`.
    pub(crate) fn answer(&mut self, process: &Process, call: &Call) -> Answer {
        if self.streams.len() >= MOST_PROCESSES {
            self.streams.clear();
        }
        let first = process.id() == self.first;
        let stream = self.streams.entry(process.id()).or_default();
        let [a, b, c, ..] = call.arguments;
        match call.number {
            libc::SYS_clock_gettime => process.write(b, &time(stream.look(a), 1)),
            libc::SYS_gettimeofday => process.write(a, &time(stream.look(WALL), 1000)),
            libc::SYS_clock_getres => process.write(b, &time(1, 1)),
            libc::SYS_clock_nanosleep => sleep(process, stream, c, (b != 0).then_some(a)),
            libc::SYS_nanosleep => sleep(process, stream, a, None),
            libc::SYS_clock_settime if a == RESEED => match read_time(process, b) {
                Some(seed) => {
                    *stream = Stream {
                        seed: mix(seed),
                        ..Stream::default()
                    };
                    Answer::Value(0)
                }
                None => Answer::Error(libc::EFAULT),
            },
            libc::SYS_getrandom => {
                let wanted = b.min(MOST_DRAWN) as usize;
                let mut bytes = vec![0; wanted];
                for chunk in bytes.chunks_mut(8) {
                    chunk.copy_from_slice(&stream.draw().to_le_bytes()[..chunk.len()]);
                }
                match process.write(a, &bytes) {
                    Answer::Value(_) => Answer::Value(wanted as i64),
                    failed => failed,
                }
            }
            libc::SYS_getpid | libc::SYS_gettid => Answer::Value(1),
            libc::SYS_getppid => Answer::Value(0),
            libc::SYS_uname => process.write(a, &names()),
            libc::SYS_times => match process.write(a, &[0; 4 * 8]) {
                Answer::Value(_) => Answer::Value((stream.look(STEADY) / CLOCK_TICK) as i64),
                failed => failed,
            },
            number if is_fork(number) && first && self.forks == Forks::First => Answer::Proceed,
            number => older(process, stream, number, a),
        }
    }
}

/// Calls that exist on x86-64 only; everything else that comes here is refused.
fn older(process: &Process, stream: &mut Stream, number: i64, pointer: u64) -> Answer {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_time {
        let seconds = stream.look(WALL) / SECOND;
        return match process.write(pointer, &seconds.to_le_bytes()) {
            Answer::Error(_) if pointer != 0 => Answer::Error(libc::EFAULT),
            _ => Answer::Value(seconds as i64),
        };
    }
    let _ = (process, stream, number, pointer);
    Answer::Error(libc::EPERM)
}

fn is_fork(number: i64) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_fork || number == libc::SYS_vfork {
        return true;
    }
    number == libc::SYS_clone
}

/// `struct timespec` of so many nanoseconds, or `struct timeval` with `unit` 1000.
fn time(nanoseconds: u64, unit: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(nanoseconds / SECOND).to_le_bytes());
    bytes[8..].copy_from_slice(&(nanoseconds % SECOND / unit).to_le_bytes());
    bytes
}

/// Nanoseconds of a `struct timespec` of the process; negative ones are none.
fn read_time(process: &Process, pointer: u64) -> Option<u64> {
    let bytes: [u8; 16] = process.read(pointer)?;
    let (seconds, rest) = bytes.split_first_chunk::<8>()?;
    let seconds = u64::try_from(i64::from_le_bytes(*seconds)).ok()?;
    let rest = u64::from_le_bytes(*rest.first_chunk::<8>()?);
    Some(seconds.saturating_mul(SECOND).saturating_add(rest))
}

/// Sleeps for the span at `pointer`, or, with a clock, until it shows that.
fn sleep(process: &Process, stream: &mut Stream, pointer: u64, until: Option<u64>) -> Answer {
    let Some(time) = read_time(process, pointer) else {
        return Answer::Error(libc::EFAULT);
    };
    let span = match until {
        Some(clock) => time.saturating_sub(stream.look(clock)),
        None => time,
    };
    stream.sleep(span);
    Answer::Value(0)
}

/// `struct utsname` of no machine in particular.
fn names() -> [u8; NAME * 6] {
    let mut bytes = [0; NAME * 6];
    let fields = ["Linux", "sandbox", "0", "0", std::env::consts::ARCH, ""];
    for (field, text) in bytes.chunks_mut(NAME).zip(fields) {
        field[..text.len()].copy_from_slice(text.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This process is the child.
    fn ask(world: &mut World, number: i64, arguments: &[u64]) -> Answer {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let process = Process::new(std::process::id() as i32);
        world.answer(
            &process,
            &Call {
                number,
                arguments: all,
            },
        )
    }

    fn world() -> World {
        World::new(std::process::id() as i32, Forks::Nobody)
    }

    fn reseed(world: &mut World, seed: i64) {
        let time = [seed / 1_000_000_000, seed % 1_000_000_000];
        let pointer = time.as_ptr() as u64;
        assert_eq!(
            ask(world, libc::SYS_clock_settime, &[RESEED, pointer]),
            Answer::Value(0)
        );
    }

    fn drawn<const N: usize>(world: &mut World) -> [u8; N] {
        let mut bytes = [0u8; N];
        let arguments = [bytes.as_mut_ptr() as u64, N as u64];
        assert_eq!(
            ask(world, libc::SYS_getrandom, &arguments),
            Answer::Value(N as i64)
        );
        bytes
    }

    fn now(world: &mut World, clock: u64) -> u64 {
        let mut time = [0u64; 2];
        ask(
            world,
            libc::SYS_clock_gettime,
            &[clock, time.as_mut_ptr() as u64],
        );
        time[0] * SECOND + time[1]
    }

    #[test]
    fn bytes_are_a_function_of_the_seed() {
        let (mut one, mut two) = (world(), world());
        reseed(&mut one, 7);
        drawn::<13>(&mut two);
        reseed(&mut two, 7);
        assert_eq!(drawn::<100>(&mut one), drawn::<100>(&mut two));
        reseed(&mut two, 8);
        assert_ne!(drawn::<100>(&mut one), drawn::<100>(&mut two));
    }

    #[test]
    fn clocks_move_when_they_are_read_and_by_sleeps() {
        let mut world = world();
        assert_eq!(now(&mut world, STEADY), TICK);
        assert_eq!(now(&mut world, 1), TICK);
        assert_eq!(now(&mut world, 0), EPOCH + TICK);
        let span = [5u64, 0];
        ask(&mut world, libc::SYS_nanosleep, &[span.as_ptr() as u64]);
        assert_eq!(now(&mut world, STEADY), 5 * SECOND + 2 * TICK);
        let until = [(EPOCH / SECOND) + 60, 0];
        ask(
            &mut world,
            libc::SYS_clock_nanosleep,
            &[0, 1, until.as_ptr() as u64],
        );
        assert_eq!(now(&mut world, 0), EPOCH + 60 * SECOND + TICK);
    }

    #[test]
    fn what_is_not_answered_is_refused() {
        let mut world = world();
        assert_eq!(
            ask(&mut world, libc::SYS_clock_settime, &[0, 0]),
            Answer::Error(libc::EPERM)
        );
        assert_eq!(
            ask(&mut world, libc::SYS_clone, &[]),
            Answer::Error(libc::EPERM)
        );
        assert_eq!(
            ask(&mut world, libc::SYS_getrandom, &[1, 8]),
            Answer::Error(libc::EFAULT)
        );
    }

    #[test]
    fn only_the_first_process_forks() {
        let me = std::process::id() as i32;
        for (first, expected) in [(me, Answer::Proceed), (me + 1, Answer::Error(libc::EPERM))] {
            let mut world = World::new(first, Forks::First);
            assert_eq!(ask(&mut world, libc::SYS_clone, &[]), expected);
        }
    }
}
