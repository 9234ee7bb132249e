#[derive(describe::Describe)]
struct Program;

fn main() {
    println!("{} compiled on {}", Program::describe(), env!("BUILT_ON"));
}
