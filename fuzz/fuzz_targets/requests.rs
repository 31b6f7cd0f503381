#![no_main]

#[global_allocator]
static ALLOCATOR: srlora_fuzz::Capped = srlora_fuzz::Capped::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| srlora_fuzz::targets::requests(bytes));
