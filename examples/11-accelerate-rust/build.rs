fn main() {
    println!("cargo:rustc-env=BUILT_ON={}", std::env::consts::ARCH);
}
