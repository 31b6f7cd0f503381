//! Gives the shared library its SONAME. Minor versions before 1.0 do not fit each other, so the name has the minor version too.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    let series = if major == "0" { format!("{major}.{minor}") } else { major.to_owned() };
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libsrlora.so.{series}");
    }
}
