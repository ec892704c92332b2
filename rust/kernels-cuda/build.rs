//! Names the kernels' sources by a digest, and compiles them for the processor, where they are tested.

fn main() {
    println!("cargo:rerun-if-changed=cuda");
    println!("cargo:rustc-env=KERNELS_DIGEST={:016x}", digest());
    #[cfg(feature = "twin")]
    twin();
}

/// 64-bit FNV-1a over the sources in the order of their names, as `compile.py` computes it.
fn digest() -> u64 {
    let kernels = std::fs::read_dir("cuda").expect("the crate has a folder cuda");
    let mut sources: Vec<_> = kernels
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.is_file())
        .collect();
    sources.sort();
    let bytes = sources
        .iter()
        .flat_map(|path| std::fs::read(path).expect("a source can be read"));
    bytes.fold(0xcbf2_9ce4_8422_2325, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(feature = "twin")]
fn twin() {
    let kernels = std::fs::read_dir("cuda").expect("the crate has a folder cuda");
    let mut sources: Vec<_> = kernels
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cu"))
        .collect();
    sources.sort();
    cc::Build::new()
        .cpp(true)
        .opt_level(2)
        .std("c++17")
        .include("cuda")
        .flag("-xc++")
        .flag("-fno-strict-aliasing")
        .flag("-Wno-unknown-pragmas")
        // Kernels register themselves by name: nothing else refers to them.
        .link_lib_modifier("+whole-archive")
        .files(sources)
        .file("cuda/host/launch.cc")
        .compile("moevolve_kernels_twin");
}
