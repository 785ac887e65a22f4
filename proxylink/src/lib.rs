//! The link between proxyserver and proxyclient
