//! The blocks of a page: what stands between two lines of three backquotes, with what is said behind the first of them.

/// One of them.
pub struct Block {
    /// What it is: `sh` with the host where its commands are for, `toml`, `nft`.
    pub kind: String,
    /// Its lines.
    pub text: String,
}

/// All blocks, in their order. A block without a kind is something to look at, not to do.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        // Within a list it stands further to the right.
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            open = !open;
            if open {
                found.push(Block { kind: kind.trim().to_owned(), text: String::new() });
            }
        } else if let Some(block) = found.last_mut().filter(|_| open) {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    assert!(!open, "a block is not closed");
    found.retain(|block| !block.kind.is_empty());
    found
}

/// The commands of a block; one goes on behind a backslash at the end of a line.
pub fn commands(block: &str) -> Vec<String> {
    let lines = block.replace("\\\n", " ");
    lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}
