use proc_macro::{TokenStream, TokenTree};

/// Gives a struct a function that returns its name.
#[proc_macro_derive(Describe)]
pub fn describe(input: TokenStream) -> TokenStream {
    let mut words = input.into_iter().filter_map(|t| match t {
        TokenTree::Ident(word) => Some(word.to_string()),
        _ => None,
    });
    let name = words.find(|w| w == "struct").and_then(|_| words.next()).expect("a struct");
    format!("impl {name} {{ fn describe() -> &'static str {{ {name:?} }} }}").parse().expect("Rust")
}
