//! What is logged: a level for all, and levels for single components.
//!
//! ```text
//!   DMTCP_LOG            LEVEL | COMPONENT=LEVEL | list of both, with commas
//!   DMTCP_LOG_LEVEL      LEVEL                                  (the original's)
//!   DMTCP_LOG_OVERRIDES  COMPONENT=LEVEL;COMPONENT=LEVEL        (the original's)
//! ```
//! The last word about a component counts. Levels: error, warn, note, trace, or 0 to 3.

use dmtcp_plugin_api::core::Level;

/// What is logged.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rules {
    general: Option<Level>,
    components: Vec<(String, Level)>,
}

fn level(word: &str) -> Level {
    match word.trim().to_ascii_lowercase().as_str() {
        "error" | "0" => Level::Error,
        "warn" | "warning" | "1" => Level::Warning,
        "note" | "info" | "2" => Level::Note,
        // Whoever asks for something else wants to see something.
        _ => Level::Trace,
    }
}

/// What a component of the original is called here.
fn component(name: &str) -> &str {
    match name.trim() {
        "pid" => "pid-virt",
        "connection" | "svipc" => "ipc",
        other => other,
    }
}

impl Rules {
    /// The rules of these texts, in this order.
    pub fn read<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut rules = Self::default();
        for word in texts.flat_map(|text| text.split([',', ';'])).filter(|word| !word.trim().is_empty()) {
            match word.split_once('=') {
                Some((name, word)) => rules.components.push((component(name).to_owned(), level(word))),
                None => rules.general = Some(level(word)),
            }
        }
        rules
    }

    /// Whether nothing is ever logged.
    pub fn are_empty(&self) -> bool {
        self.general.is_none() && self.components.is_empty()
    }

    /// Whether a line of this level is logged.
    pub fn want(&self, component: &str, level: Level) -> bool {
        let own = self.components.iter().rev().find(|(name, _)| name == component).map(|(_, level)| *level);
        own.or(self.general).is_some_and(|limit| level as u32 <= limit as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Rules {
        Rules::read(texts.iter().copied())
    }

    #[test]
    fn a_level_is_for_all() {
        let rules = rules(&["note"]);
        assert!(rules.want("core", Level::Note) && rules.want("file", Level::Error));
        assert!(!rules.want("core", Level::Trace));
    }

    #[test]
    fn a_component_has_its_own_level() {
        let rules = rules(&["error,core=trace"]);
        assert!(rules.want("core", Level::Trace) && !rules.want("file", Level::Warning));
        assert!(!self::rules(&["core=trace"]).want("file", Level::Error));
    }

    #[test]
    fn the_originals_words_are_understood() {
        let rules = rules(&["1", "pid=trace;svipc=2"]);
        assert!(rules.want("pid-virt", Level::Trace) && rules.want("ipc", Level::Note));
        assert!(rules.want("file", Level::Warning) && !rules.want("file", Level::Note));
    }

    #[test]
    fn without_words_there_is_no_log() {
        assert!(rules(&[""]).are_empty() && !rules(&[]).want("core", Level::Error));
    }
}
