//! The forecasters: what they read ([`tensors`]), and the process that runs them.

pub mod tensors;
