//! What a script printed, by name.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The sections of a script's output: each begins with a line "@@@ NAME".
pub(super) struct Sections(HashMap<String, String>);

impl Sections {
    pub(super) fn parse(text: &str) -> Self {
        let mut sections = HashMap::new();
        for part in format!("\n{text}").split("\n@@@ ").skip(1) {
            let (name, content) = part.split_once('\n').unwrap_or((part, ""));
            sections.insert(name.trim().to_owned(), content.trim().to_owned());
        }
        Self(sections)
    }

    pub(super) fn text(&self, name: &str) -> Result<&str> {
        self.0.get(name).map(String::as_str).with_context(|| format!("the script printed no section {name}"))
    }

    pub(super) fn number(&self, name: &str) -> Result<u64> {
        let text = self.text(name)?;
        text.parse().with_context(|| format!("section {name} holds no number but {text:?}"))
    }

    pub(super) fn json(&self, name: &str) -> Result<Json> {
        let text = self.text(name)?;
        let value = serde_json::from_str(text).with_context(|| format!("section {name} is not JSON: {text:?}"))?;
        Ok(Json(value))
    }
}

/// A JSON document, with errors that name what is missing.
pub(super) struct Json(pub(super) Value);

impl Json {
    /// The value at a path such as `/totals/exits`.
    pub(super) fn at(&self, path: &str) -> Result<&Value> {
        self.0.pointer(path).with_context(|| format!("{path} is missing in {}", self.0))
    }

    pub(super) fn number(&self, path: &str) -> Result<u64> {
        let value = self.at(path)?;
        value.as_u64().with_context(|| format!("{path} is {value}, not a number"))
    }

    pub(super) fn is_true(&self, path: &str) -> Result<bool> {
        Ok(self.at(path)? == &Value::Bool(true))
    }

    /// Whether every value of the object at `path` is 0.
    pub(super) fn all_zero(&self, path: &str) -> Result<bool> {
        let object = self.at(path)?.as_object().with_context(|| format!("{path} is not an object"))?;
        Ok(!object.is_empty() && object.values().all(|value| value.as_u64() == Some(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_by_their_names() {
        let sections = Sections::parse("noise\n@@@ a.status\n7\n\n@@@ a.out\n{\"x\": {\"y\": 3}}\n@@@ empty\n");
        assert_eq!(sections.number("a.status").unwrap(), 7);
        assert_eq!(sections.json("a.out").unwrap().number("/x/y").unwrap(), 3);
        assert_eq!(sections.text("empty").unwrap(), "");
        assert!(sections.text("b").is_err());
    }

    #[test]
    fn an_object_of_counters_is_zero_only_when_all_are() {
        let json = |text: &str| Json(serde_json::from_str(text).unwrap());
        assert!(json(r#"{"lost": {"a": 0, "b": 0}}"#).all_zero("/lost").unwrap());
        assert!(!json(r#"{"lost": {"a": 0, "b": 1}}"#).all_zero("/lost").unwrap());
        assert!(!json(r#"{"lost": {}}"#).all_zero("/lost").unwrap());
    }
}
