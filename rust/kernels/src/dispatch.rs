//! Which instruction set runs: one choice per engine, made at run time.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Scalar,
}

/// An instruction set that this processor has; a value of this type is the proof, which makes kernels safe to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(pub(crate) Kind);

impl Isa {
    /// Plain Rust; slow, and the reference for the others.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// Every instruction set that works here, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                // Every processor with the former has the latter; the integer products rely on it.
                if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni")
                {
                    found.push(Self(Kind::Avx512Bf16));
                }
                found.push(Self(Kind::Avx512));
            }
            if avx2 {
                found.push(Self(Kind::Avx2));
            }
        }
        found.push(Self::SCALAR);
        found
    }

    /// The fastest instruction set that works here.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// The instruction set of this name, if it works here.
    pub fn named(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|isa| isa.name() == name)
    }

    /// Whether products of bf16 pairs have an instruction here; elsewhere they are computed, to the same bits, slowly.
    pub fn has_bf16(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => true,
            _ => false,
        }
    }

    /// `avx512bf16`, `avx512`, `avx2` or `scalar`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => "avx512bf16",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            Kind::Scalar => "scalar",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Compiles a body `unsafe fn body<S: Simd>(arguments)` for every instruction set, behind one safe function; one of two
/// types, `unsafe fn body<S: Simd, W>(arguments)`, as `body [W]`.
///
/// The body and all it calls must be `#[inline(always)]` and free of closures: an intrinsic that is not inlined
/// into a function with its `target_feature` becomes a call, 35 times slower (measured).
macro_rules! kernel {
    ($(#[$meta:meta])* pub fn $name:ident = $body:ident $([$way:ty])? ($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)?) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub fn $name(isa: $crate::Isa, $($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $type),*) $(-> $out)? {
                $body::<$crate::simd::Avx512 $(, $way)?>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $type),*) $(-> $out)? {
                $body::<$crate::simd::Avx2 $(, $way)?>($($arg),*)
            }
            // SAFETY: an `Isa` exists only where the processor has it; the body checks the lengths of its slices.
            unsafe {
                match isa.0 {
                    #[cfg(target_arch = "x86_64")]
                    $crate::dispatch::Kind::Avx512Bf16 | $crate::dispatch::Kind::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::dispatch::Kind::Avx2 => avx2($($arg),*),
                    $crate::dispatch::Kind::Scalar => $body::<$crate::simd::Scalar $(, $way)?>($($arg),*),
                }
            }
        }
    };
}

/// As [`kernel!`] for a body `<S: Simd, const NATIVE: bool>` that multiplies bf16 pairs: `NATIVE` where the processor
/// has the instruction for it.
macro_rules! pair_kernel {
    ($(#[$meta:meta])* pub fn $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub fn $name(isa: $crate::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn native($($arg: $type),*) {
                $body::<$crate::simd::Avx512, true>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $type),*) {
                $body::<$crate::simd::Avx512, false>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $type),*) {
                $body::<$crate::simd::Avx2, false>($($arg),*)
            }
            // SAFETY: an `Isa` exists only where the processor has it; the body checks the lengths of its slices.
            unsafe {
                match isa.0 {
                    #[cfg(target_arch = "x86_64")]
                    $crate::dispatch::Kind::Avx512Bf16 => native($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::dispatch::Kind::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::dispatch::Kind::Avx2 => avx2($($arg),*),
                    $crate::dispatch::Kind::Scalar => $body::<$crate::simd::Scalar, false>($($arg),*),
                }
            }
        }
    };
}
