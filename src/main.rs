//! The program: arguments, configuration, roles, exit code. Nothing else.

fn main() {}
