//! The licence file of the proxyserver, its identity key and Proxy ID, and the security token
