//! tmp
use petiole_core::config;
struct L;
impl config::Loader for L {
    fn read(&self, p: &str) -> Result<String, String> {
        std::fs::read_to_string(p).map_err(|e| e.to_string())
    }
    fn env(&self, n: &str) -> Option<String> {
        std::env::var(n).ok()
    }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut config = config::model::Config::default();
    if args.get(1).map(String::as_str) == Some("-c") {
        match config::load(&args[2], &L) {
            Ok(l) => config = l.config,
            Err(e) => {
                eprintln!("nats-server: {e}");
                std::process::exit(1)
            }
        }
    }
    let _ = petiole::logger::init(&config.log);
    let id = nkeys::KeyPair::new_server().public_key();
    petiole_leaf::Leaf::new(config).run(id).unwrap();
}
