//! What is left out, what cannot be read, and what must not be reached.
