//! Stands in for the build script of the server, whose sources the bench compiles.

fn main() {
    // The server's build script finds the real one; here only the length of a label matters.
    println!("cargo::rustc-env=BUILT_COMMIT=0123456789ab");
}
