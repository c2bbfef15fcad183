//! Colours and signs. No meaning is carried by a colour alone.

use std::borrow::Cow;

use ratatui::{
    style::{Color, Modifier, Style},
    symbols,
};

/// How many colours the terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// None, or none are wanted.
    None,
    /// The sixteen that the user has chosen.
    Sixteen,
    /// 256.
    Palette,
    /// All.
    True,
}

impl Colours {
    /// From the environment: NO_COLOR, COLORTERM and TERM.
    pub fn detect(variable: impl Fn(&str) -> Option<String>) -> Self {
        let term = variable("TERM").unwrap_or_default();
        if variable("NO_COLOR").is_some_and(|value| !value.is_empty()) || term == "dumb" || term == "vt100" {
            return Self::None;
        }
        match variable("COLORTERM").as_deref() {
            Some("truecolor" | "24bit") => Self::True,
            _ if term.contains("256color") => Self::Palette,
            _ => Self::Sixteen,
        }
    }
}

/// How things look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// The colours.
    pub colours: Colours,
    /// Whether only ASCII is to be used.
    pub ascii: bool,
}

/// A colour that is readable on light and on dark backgrounds, in all three kinds.
const fn pick(colours: Colours, sixteen: Color, palette: u8, (red, green, blue): (u8, u8, u8)) -> Color {
    match colours {
        Colours::None => Color::Reset,
        Colours::Sixteen => sixteen,
        Colours::Palette => Color::Indexed(palette),
        Colours::True => Color::Rgb(red, green, blue),
    }
}

impl Theme {
    /// Headings.
    pub fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The row or tab where the user is.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What matters less.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What must not be overlooked.
    pub fn alarm(self) -> Style {
        Style::new().fg(pick(self.colours, Color::Red, 160, (215, 0, 0))).add_modifier(Modifier::BOLD)
    }

    /// Bars and curves.
    pub fn bar(self) -> Style {
        Style::new().fg(pick(self.colours, Color::Cyan, 32, (0, 135, 215)))
    }

    /// A cell by its level, 0 to 9. Its digit is on it as well, in black on a ground that is never dark.
    pub fn heat(self, level: u8) -> Style {
        if level == 0 || self.colours == Colours::None {
            return Style::new();
        }
        let ground = match level {
            1..=3 => pick(self.colours, Color::Cyan, 117, (135, 215, 255)),
            4..=6 => pick(self.colours, Color::Yellow, 220, (255, 215, 0)),
            _ => pick(self.colours, Color::LightRed, 209, (255, 135, 95)),
        };
        Style::new().bg(ground).fg(pick(self.colours, Color::Black, 16, (0, 0, 0)))
    }

    /// Beside the heading of the column that rows are sorted by.
    pub const fn sort_mark(self, descending: bool) -> &'static str {
        match (self.ascii, descending) {
            (false, true) => "▼",
            (false, false) => "▲",
            (true, true) => "v",
            (true, false) => "^",
        }
    }

    /// Between the parts of a line.
    pub const fn separator(self) -> &'static str {
        if self.ascii { " | " } else { " │ " }
    }

    /// Where something was cut off.
    pub const fn cut(self) -> &'static str {
        if self.ascii { "~" } else { "…" }
    }

    /// A full and an empty piece of a bar.
    pub const fn pieces(self) -> (&'static str, &'static str) {
        if self.ascii { ("#", "-") } else { ("█", "░") }
    }

    /// The levels of a curve.
    pub fn levels(self) -> symbols::bar::Set<'static> {
        if !self.ascii {
            return symbols::bar::NINE_LEVELS;
        }
        symbols::bar::Set {
            full: "#",
            seven_eighths: "*",
            three_quarters: "*",
            five_eighths: "+",
            half: "=",
            three_eighths: "-",
            one_quarter: ":",
            one_eighth: ".",
            empty: " ",
        }
    }

    /// A text of the user's, such as a VM's name, in the signs that are allowed.
    pub fn text(self, text: &str) -> Cow<'_, str> {
        if !self.ascii || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.chars().map(|sign| if sign.is_ascii() { sign } else { '?' }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_environment() {
        let detect = |variables: &[(&str, &str)]| {
            Colours::detect(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(detect(&[("TERM", "linux")]), Colours::Sixteen);
        assert_eq!(detect(&[("TERM", "xterm-256color")]), Colours::Palette);
        assert_eq!(detect(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")]), Colours::True);
        assert_eq!(detect(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")]), Colours::None);
        assert_eq!(detect(&[("TERM", "dumb")]), Colours::None);
    }
}
