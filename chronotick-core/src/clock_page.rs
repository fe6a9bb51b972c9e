//! The published record as words: encode, decode and the pure arithmetic of a read.
