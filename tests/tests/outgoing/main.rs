//! Stations inside call partners through the proxy.

mod certificates;
mod configuration;
mod endurance;
mod failures;
mod network;
mod requests;
mod scene;
mod targets;
mod tls;
mod violations;
mod ways;
