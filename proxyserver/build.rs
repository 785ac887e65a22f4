//! Leaves room for large pages around code and constants: see `proxydaemon::large_pages`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,max-page-size=0x200000,-z,separate-loadable-segments");
}
