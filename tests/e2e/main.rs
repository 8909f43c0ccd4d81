//! The built binary, as a person runs it: real directories, real SQLite files, a real S3 server.

mod bad_input;
mod place;
mod there_and_back;
mod trouble;
