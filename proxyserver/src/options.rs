//! The command line of `seon_proxyserver2`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use command_line::exit;
use command_line::{BEYOND_THE_ORIGINAL, Demand, Demands};
use proxydaemon::level_command;

/// OFTP2 smart proxy, DMZ side: ends the partners' TLS, judges certificates and messages, keeps no key.
#[derive(Debug, Parser)]
#[command(name = "seon_proxyserver2", disable_version_flag = true, max_term_width = 100, after_help = exit::help())]
pub struct Options {
    /// Print name, build date and version, and end.
    #[arg(short = 'v', long)]
    pub version: bool,

    /// Address and port where the proxyclient connects; without IP all addresses.
    #[arg(short = 'i', long, value_name = "[IP]:PORT", default_value = ":2878", value_parser = link_address)]
    pub listen: LinkAddress,

    /// Print the Proxy ID, which a licence is made for, and end.
    #[arg(short = 'L', long)]
    pub proxy_id: bool,

    /// Licence file.
    #[arg(short = 'l', long, value_name = "FILE", default_value = "/etc/seon_proxy.lic")]
    pub licence: PathBuf,

    /// Print until when the licence is valid, and end.
    #[arg(short = 'V', long)]
    pub validity: bool,

    /// Stay in the foreground.
    #[arg(short = 'd', long, help_heading = BEYOND_THE_ORIGINAL)]
    pub foreground: bool,

    /// User to run as when started as root, also for -L and -V.
    #[arg(short = 'u', long, value_name = "USER", help_heading = BEYOND_THE_ORIGINAL)]
    pub user: Option<String>,

    /// Directory of the identity key.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/seon_proxy", help_heading = BEYOND_THE_ORIGINAL)]
    pub state_dir: PathBuf,

    /// PID file; by default seon_proxyserver2.pid beside the program.
    #[arg(long, value_name = "FILE", help_heading = BEYOND_THE_ORIGINAL)]
    pub pid_file: Option<PathBuf>,

    /// Take over a PID file whose process is gone.
    #[arg(long, help_heading = BEYOND_THE_ORIGINAL)]
    pub replace_stale_pid: bool,

    /// Look whether a start with these options would succeed, tell what is wrong and what to do, and end.
    #[arg(long, help_heading = BEYOND_THE_ORIGINAL)]
    pub check: bool,

    /// With --check: an address that must be of this host, as outgoing_ip and those of listen. May be repeated.
    #[arg(long, value_name = "IP", requires = "check", help_heading = BEYOND_THE_ORIGINAL)]
    pub check_address: Vec<IpAddr>,

    /// Tell one process of this program to log at LEVEL (trace, debug, info, warn, error or fatal), and end.
    #[arg(long, num_args = 2, value_names = ["PID", "LEVEL"], help_heading = BEYOND_THE_ORIGINAL)]
    pub log_level: Option<Vec<String>>,

    /// With --log-level: for so long (90s, 10m, 2h, 1d), then as before.
    #[arg(long = "for", value_name = "TIME", requires = "log_level", value_parser = level_command::time, help_heading = BEYOND_THE_ORIGINAL)]
    pub log_level_for: Option<Duration>,
}

impl Options {
    /// The same, and the files stay where they are when the daemon leaves the working directory.
    pub fn with_absolute_paths(mut self) -> Self {
        let working = std::env::current_dir().unwrap_or_default();
        self.licence = working.join(self.licence);
        self.state_dir = working.join(self.state_dir);
        self
    }
}

impl Demands for Options {
    fn demands(&self) -> Vec<Demand> {
        let mistakes = self.log_level.as_deref().map(level_command::mistakes).unwrap_or_default();
        mistakes.into_iter().map(|sentence| Demand { option: "log_level", sentence }).collect()
    }
}

/// Where the link is listened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkAddress {
    /// One address, or the wildcards of both families.
    pub addresses: Vec<SocketAddr>,
}

fn link_address(text: &str) -> Result<LinkAddress, String> {
    let (ip, port) = text.rsplit_once(':').ok_or("an address has the form [IP]:PORT, for example :2878")?;
    let port: u16 = port.parse().map_err(|_| format!("{port:?} is no port (0 to 65535)"))?;
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    let addresses = if ip.is_empty() {
        vec![(IpAddr::from(Ipv4Addr::UNSPECIFIED), port).into(), (IpAddr::from(Ipv6Addr::UNSPECIFIED), port).into()]
    } else {
        let ip: IpAddr = ip.parse().map_err(|_| format!("{ip:?} is no IP address"))?;
        vec![(ip, port).into()]
    };
    Ok(LinkAddress { addresses })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Options::command().debug_assert();
    }

    /// The letters of the original, apart from `-h`.
    const ORIGINAL: &str = "viLlV";

    #[test]
    fn every_short_option_has_a_long_one_and_what_the_original_has_not_stands_apart() {
        let command = Options::command();
        for option in command.get_arguments() {
            let (short, long) = (option.get_short(), option.get_long());
            assert!(long.is_some(), "{short:?}");
            let of_the_original = short.is_some_and(|short| ORIGINAL.contains(short));
            let apart = option.get_help_heading() == Some(BEYOND_THE_ORIGINAL);
            assert_eq!(apart, !of_the_original, "{long:?}");
        }
        let has = |letter| command.get_arguments().any(|option| option.get_short() == Some(letter));
        assert!(ORIGINAL.chars().all(has));
    }

    #[test]
    fn the_defaults_are_those_of_the_original() {
        let options = Options::try_parse_from(["seon_proxyserver2"]).unwrap();
        let wildcards: Vec<SocketAddr> = vec!["0.0.0.0:2878".parse().unwrap(), "[::]:2878".parse().unwrap()];
        assert_eq!(options.listen.addresses, wildcards);
        assert_eq!(options.licence.to_str(), Some(license::LICENCE_FILE));
    }

    #[test]
    fn an_address_may_leave_out_the_ip() {
        assert_eq!(link_address(":2878").unwrap().addresses.len(), 2);
        assert_eq!(link_address("[::1]:1").unwrap().addresses, ["[::1]:1".parse().unwrap()]);
        assert_eq!(link_address("127.0.0.1:1").unwrap().addresses, ["127.0.0.1:1".parse().unwrap()]);
        assert!(link_address("2878").is_err());
        assert!(link_address("host:2878").is_err());
    }
}
