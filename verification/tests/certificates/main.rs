//! Certificates as data: the tables of the workspace's `tests/certificates`, and what must hold of all their rows.

mod compiling;
mod foreign;
mod mutations;
mod reading;
mod rows;
mod stock;
mod table;
