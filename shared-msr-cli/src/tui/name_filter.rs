//! Which VMs are wanted.

use regex_lite::Regex;

/// A regular expression on a VM's name, or a process.
#[derive(Clone, Debug)]
pub struct NameFilter {
    text: String,
    expression: Regex,
}

impl NameFilter {
    /// Takes what was typed; says in a sentence what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expression = Regex::new(text).map_err(|error| format!("not a regular expression: {error}"))?;
        Ok(Self { text: text.to_owned(), expression })
    }

    /// What was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a VM is wanted. The number of a process is its number, never a part of another one.
    pub fn takes(&self, process: u32, name: Option<&str>) -> bool {
        if self.text.parse() == Ok(process) || name == Some(self.text.as_str()) {
            return true;
        }
        self.text.parse::<u32>().is_err() && name.is_some_and(|name| self.expression.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_an_expression_on_names_or_a_whole_process_number() {
        let takes = |text: &str, process, name| NameFilter::parse(text).unwrap().takes(process, name);
        assert!(takes("^web[0-9]$", 7, Some("web1")) && !takes("^web[0-9]$", 7, Some("db-web1")));
        assert!(takes("77", 77, None) && !takes("7", 77, Some("vm7")) && takes("7", 1, Some("7")));
        assert!(NameFilter::parse("(").unwrap_err().contains("not a regular expression"));
    }
}
