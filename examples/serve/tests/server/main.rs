//! The server as its clients see it.

mod api;
mod load;
mod process;
