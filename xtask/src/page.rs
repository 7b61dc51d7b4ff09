//! The blocks of a page of the documents.

use std::fs;

use anyhow::{Context as _, Result};

use crate::command::workspace;

/// A fenced block.
pub struct Block {
    /// The words behind the fence that opens it.
    pub info: String,
    /// Its lines.
    pub text: String,
}

/// The blocks of a page, which is named by its path in the workspace.
pub fn blocks(page: &str) -> Result<Vec<Block>> {
    let path = workspace().join(page);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let (mut found, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(info), None) => open = Some(Block { info: info.trim().to_owned(), text: String::new() }),
            (None, Some(block)) => {
                block.text += line;
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    Ok(found)
}

/// The texts of a page's blocks whose fence has these words.
pub fn marked(page: &str, mark: &str) -> Result<Vec<String>> {
    let blocks = blocks(page)?.into_iter();
    Ok(blocks.filter(|block| block.info == mark).map(|block| block.text).collect())
}
