//! `unkai`: a private cloud in one binary.

mod access;
mod agent;
mod authority;
mod bridge;
mod cli;
mod controller;
mod doctor;
mod down;
mod local;
mod port;
mod process;
mod sim;
mod state;
mod storage;
mod trial;
mod up;
mod why;

use std::io::IsTerminal;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let cli = cli::Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("UNKAI_LOG").unwrap_or_else(|_| cli.log_filter().into()))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    raise_descriptor_limit();
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nothing has installed a provider before");
    match cli.run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unkai: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Every connection, network and server costs descriptors; the usual soft limit of 1024 is for programs that use `select`.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
