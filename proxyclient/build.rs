//! Has the linker put side by side what a session executes: see `session-text.ld`.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../session-text.ld");
    println!("cargo::rerun-if-changed={script}");
    // Where nobody measures it need not be done.
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
    }
}
