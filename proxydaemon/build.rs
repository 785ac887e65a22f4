//! Refuses to build without the setting that keeps the first random number of a forked process cheap.

/// Set by `.cargo/config.toml` for every build inside the checkout; a build from elsewhere has to set it itself.
const NO_JITTER_ENTROPY: &str = "AWS_LC_SYS_NO_JITTER_ENTROPY";

fn main() {
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        // The tests try what the daemons do (`large_pages`).
        println!("cargo::rustc-link-arg-tests=-Wl,-z,max-page-size=0x200000,-z,separate-loadable-segments");
    }
    println!("cargo::rerun-if-env-changed={NO_JITTER_ENTROPY}");
    if std::env::var(NO_JITTER_ENTROPY).as_deref() != Ok("1") {
        println!(
            "cargo::error={NO_JITTER_ENTROPY}=1 is not set. Without it aws-lc gathers CPU-jitter entropy, which costs 15 ms \
             of CPU in every forked session process and brings the proxy from hundreds of sessions a second to nine. Build \
             inside the checkout, where .cargo/config.toml sets it, or set it in the environment."
        );
    }
}
