//! Builds the eBPF object. (Replaced by the toolchain search.)
fn main() {
    let path = format!(
        "{}/.cache/partition-injector/bpf-linker-0.13.0/bin:{}",
        std::env::var("HOME").unwrap(),
        std::env::var("PATH").unwrap()
    );
    // SAFETY: single-threaded.
    unsafe {
        std::env::set_var("PATH", path);
        std::env::set_var("RUSTC_BOOTSTRAP", "1");
    }
    aya_build::build_ebpf(
        [aya_build::Package {
            name: "injector-ebpf",
            root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../injector-ebpf"),
            ..Default::default()
        }],
        aya_build::Toolchain::Custom("debian"),
    )
    .unwrap();
}
