//! Being a Unix daemon: fork, descriptors, confinement, signals, PID file, logging. The only crate with unsafe.
