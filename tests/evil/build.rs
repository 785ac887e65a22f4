//! Switches the misbehaviour on, in this package alone.

fn main() {
    println!("cargo:rustc-cfg=evil");
    println!("cargo:rerun-if-changed=build.rs");
}
