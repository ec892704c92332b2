//! Compiles the kernels for the processor, where they are tested.

fn main() {
    println!("cargo:rerun-if-changed=cuda");
    #[cfg(feature = "twin")]
    twin();
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
