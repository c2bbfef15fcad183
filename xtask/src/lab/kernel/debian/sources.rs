//! apt's sources in both of its formats: one line each, or stanzas of fields ("deb822").

/// The options that decide whether apt trusts a mirror and how strictly it looks. They go with the mirror to other suites.
const TRUST: [&str; 11] = [
    "allow-downgrade-to-insecure",
    "allow-insecure",
    "allow-weak",
    "by-hash",
    "check-date",
    "check-valid-until",
    "date-max-future",
    "signed-by",
    "trusted",
    "valid-until-max",
    "valid-until-min",
];

/// Suites of one or several mirrors, and how apt may trust these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// Where the mirrors are.
    pub(super) uris: Vec<String>,
    /// What is taken from them.
    pub(super) suites: Vec<String>,
    /// Which parts of the suites.
    pub(super) components: Vec<String>,
    /// The options of [`TRUST`] with their values: a value may be a whole key, of several lines.
    pub(super) trust: Vec<(String, String)>,
}

impl Source {
    /// The sources of binary packages in a file with one on each line.
    pub(super) fn from_lines(text: &str) -> Vec<Self> {
        text.lines().filter_map(Self::from_line).collect()
    }

    /// `deb [signed-by=/a,/b trusted=yes] http://mirror suite component component # comment`
    fn from_line(line: &str) -> Option<Self> {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb")?.strip_prefix(char::is_whitespace)?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        let options = options.split_whitespace().filter_map(|option| option.split_once('='));
        Some(Self {
            uris: vec![words.next()?],
            suites: vec![words.next()?],
            components: words.collect(),
            trust: trust(options.map(|(name, value)| (name.to_owned(), value.to_owned()))),
        })
    }

    /// The sources of binary packages in a file of stanzas.
    pub(super) fn from_stanzas(text: &str) -> Vec<Self> {
        let mut stanzas = vec![Vec::<(String, String)>::new()];
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some(fields) = stanzas.last_mut() else { break };
            if line.trim().is_empty() {
                stanzas.push(Vec::new());
            } else if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        stanzas.into_iter().filter_map(Self::from_fields).collect()
    }

    fn from_fields(fields: Vec<(String, String)>) -> Option<Self> {
        let words = |wanted: &str| -> Vec<String> {
            let value = fields.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value);
            value.split_whitespace().map(str::to_owned).collect()
        };
        let off = ["no", "false", "without", "off", "disable", "0"];
        if !words("types").contains(&"deb".to_owned()) || words("enabled").iter().any(|word| off.contains(&&word[..])) {
            return None;
        }
        let (uris, suites, components) = (words("uris"), words("suites"), words("components"));
        Some(Self { uris, suites, components, trust: trust(fields) })
    }

    /// A stanza for apt that has of these suites the packages alone: no translations, no descriptions for shops.
    pub(super) fn stanza(&self) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\nTargets: Packages\n",
            self.uris.join(" "),
            self.suites.join(" "),
            self.components.join(" ")
        );
        for (name, value) in &self.trust {
            text += &format!("{name}: {value}\n");
        }
        text + "\n"
    }
}

/// The options about trust among all.
fn trust(options: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    let options = options.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    options.filter(|(name, _)| TRUST.contains(&&name[..])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uris: &[&str], suites: &[&str], components: &[&str], trust: &[(&str, &str)]) -> Source {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let trust = trust.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Source { uris: owned(uris), suites: owned(suites), components: owned(components), trust }
    }

    #[test]
    fn a_line_without_options_is_a_source() {
        let text = "# old\ndeb http://a/debian bookworm main contrib # here\ndeb-src http://a/debian bookworm main\n\nnonsense\n";
        assert_eq!(Source::from_lines(text), [source(&["http://a/debian"], &["bookworm"], &["main", "contrib"], &[])]);
    }

    #[test]
    fn of_a_lines_options_those_about_trust_are_kept() {
        let text = "deb\t[ arch=amd64 Signed-By=/a.gpg,/b.gpg trusted=yes ]  http://a bookworm/updates main\n";
        let trust = [("signed-by", "/a.gpg,/b.gpg"), ("trusted", "yes")];
        assert_eq!(Source::from_lines(text), [source(&["http://a"], &["bookworm/updates"], &["main"], &trust)]);
    }

    #[test]
    fn stanzas_have_several_mirrors_and_suites() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://a http://b\nSuites: bookworm\n bookworm-updates\n\
                    Components: main\nsigned-by: /a.gpg\n\n\nTypes: deb-src\nURIs: http://c\nSuites: sid\nComponents: main\n";
        let trust = [("signed-by", "/a.gpg")];
        assert_eq!(
            Source::from_stanzas(text),
            [source(&["http://a", "http://b"], &["bookworm", "bookworm-updates"], &["main"], &trust)]
        );
    }

    #[test]
    fn a_stanza_that_is_switched_off_is_none() {
        let text = "Enabled: no\nTypes: deb\nURIs: http://a\nSuites: sid\nComponents: main\n";
        assert!(Source::from_stanzas(text).is_empty());
    }

    #[test]
    fn a_key_within_a_stanza_stays_whole() {
        let text = "Types: deb\nURIs: http://a\nSuites: sid\nComponents: main\nTargets: Packages\n\
                    signed-by: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n -----END PGP PUBLIC KEY BLOCK-----\n\n";
        let sources = Source::from_stanzas(text);
        assert_eq!(sources[0].stanza(), text);
    }
}
