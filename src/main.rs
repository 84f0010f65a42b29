//! Process edge: arguments in, exit status out. The program itself is the library.

fn main() {}
