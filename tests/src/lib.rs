//! OFTP2 station, harness, demo and scenarios
