//! Sessions that the inside asks for, as the proxyserver makes them: a scripted inside on the link, partners that are
//! called, and every way in which a call fails.

mod failures;
mod inside;
mod orphans;
mod partner;
mod running;
