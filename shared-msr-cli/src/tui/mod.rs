//! The live view.
//!
//! The state machine is pure: [`update`](update::update) takes a state and an event and gives the next state and what is to be
//! done; [`view`](view::view) draws a state. [`sampler`] takes samples of a [`source`] in a thread of its own, [`run`] puts
//! everything together on a real terminal.

pub mod cost;
pub mod event;
mod export;
pub mod grid;
pub mod history;
pub mod key;
mod keyboard;
pub mod layout;
pub mod live;
pub mod message;
pub mod name_filter;
mod rows;
pub mod run;
pub mod sampler;
mod screen;
pub mod shown;
mod signals;
pub mod source;
pub mod state;
pub mod theme;
pub mod update;
pub mod view;
mod widgets;

#[cfg(test)]
mod tests;
