//! A line of a daemon's log: `TIME LEVEL ROLE[PID] SESSION CODE MESSAGE`, `-` where there is none.

/// Its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Local time with its offset from UTC.
    pub time: String,
    /// TRACE to FATAL.
    pub level: String,
    /// What the process is: gate, switchboard, agent, session.
    pub role: String,
    /// Its id.
    pub pid: i32,
    /// The session it is about.
    pub session: Option<String>,
    /// The situation it tells.
    pub code: Option<String>,
    /// The rest.
    pub message: String,
}

impl LogLine {
    /// Reads a line; none when it is something else.
    pub fn read(line: &str) -> Option<Self> {
        let (time, rest) = line.split_once(' ')?;
        let (level, rest) = rest.split_once(' ')?;
        let (process, rest) = rest.trim_start().split_once(' ')?;
        let (role, pid) = process.strip_suffix(']')?.rsplit_once('[')?;
        let mut rest = rest.splitn(3, ' ');
        let mut column = || rest.next().map(|text| (text != "-").then(|| text.to_owned()));
        Some(Self {
            time: time.to_owned(),
            level: level.to_owned(),
            role: role.to_owned(),
            pid: pid.parse().ok()?,
            session: column()?,
            code: column()?,
            message: rest.next().unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_falls_into_its_columns() {
        let line = "2026-03-01T12:00:00.123+01:00 INFO  switchboard[4711] - link-up client=inside1: linked";
        let read = LogLine::read(line).unwrap();
        assert_eq!((read.level.as_str(), read.role.as_str(), read.pid), ("INFO", "switchboard", 4711));
        assert_eq!((read.session, read.code.as_deref()), (None, Some("link-up")));
        assert_eq!(read.message, "client=inside1: linked");
        assert_eq!(LogLine::read("thread 'main' panicked at somewhere"), None);
    }
}
