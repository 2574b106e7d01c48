//! The program: arguments, configuration, roles, exit code. Nothing else.

mod cli;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use cli::{Cli, CliError, Command};
use petiole::RunError;
use petiole::config::Config;
use petiole::files::FileLoader;
use petiole_core::config::load;
use petiole_core::wire::VERSION;

/// Before every text on standard error, whatever the program is called: scripts look for it.
const PROGRAM: &str = "nats-server";

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run(cli)) => start(&cli),
        Ok(Command::Help) => {
            print(cli::usage());
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            print(format_args!(
                "{PROGRAM}: v{VERSION} (petiole {})\n",
                env!("CARGO_PKG_VERSION")
            ));
            ExitCode::SUCCESS
        }
        Err(CliError::Misused(reason)) => {
            complain(format_args!("{reason}\n"));
            print(cli::usage());
            ExitCode::SUCCESS
        }
        Err(error @ CliError::Refused(_)) => die(error),
    }
}

fn start(cli: &Cli) -> ExitCode {
    if let Some(warning) = cli.warnings() {
        complain(format_args!("{PROGRAM}: {warning}\n"));
    }
    let path = cli.config.as_deref().filter(|path| !path.is_empty());
    let config = match path {
        None if cli.check => {
            return die("must specify [-c, --config] option to check configuration file syntax");
        }
        None => Config::default(),
        Some(path) => match load(path, &FileLoader) {
            Err(errors) => return die(errors),
            Ok(loaded) => {
                let lines = loaded.warnings.iter().map(|line| format!("{line}\n"));
                let warnings: String = lines.collect();
                match (cli.check, warnings.is_empty()) {
                    (true, false) => return die(warnings),
                    (true, true) => {
                        if let Err(error) = petiole::check_roles(&loaded.config) {
                            return die(format_args!("{error}\n"));
                        }
                        if let Err(error) = petiole::check_files(&loaded.config) {
                            return die(format_args!("{error}\n"));
                        }
                        let digest = loaded.config.digest.unwrap_or_default();
                        complain(format_args!(
                            "{PROGRAM}: configuration file {path} is valid (sha256:{digest})\n"
                        ));
                        return ExitCode::SUCCESS;
                    }
                    (false, _) => complain(warnings),
                }
                loaded.config
            }
        },
    };
    let config = match cli::apply(cli, config) {
        Ok(config) => config,
        Err(error) => return die(error),
    };
    match petiole::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Fatal(_)) => ExitCode::FAILURE,
        Err(RunError::File(error)) => die(format_args!("{error}\n")),
        Err(RunError::Log(error)) => {
            complain(format_args!("{}{error}\n", petiole::logger::timestamp()));
            ExitCode::FAILURE
        }
        Err(error) => die(error),
    }
}

fn die(reason: impl Display) -> ExitCode {
    complain(format_args!("{PROGRAM}: {reason}\n"));
    ExitCode::FAILURE
}

/// Nobody can be told that nobody reads it.
fn complain(text: impl Display) {
    let _ = write!(std::io::stderr(), "{text}");
}

fn print(text: impl Display) {
    let _ = write!(std::io::stdout(), "{text}");
}
