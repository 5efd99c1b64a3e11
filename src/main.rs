//! The program.

fn main() -> std::process::ExitCode {
    ecr_mirror::commands::main()
}
