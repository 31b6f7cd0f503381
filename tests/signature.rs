//! Signed bundles by the command line, against OpenSSL: it makes the keys, checks our signature, and gives the same one.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use srlora::bundle::{Container, Kind};
use tempfile::TempDir;

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"))
}

fn openssl(args: &[&str]) {
    let output = run("openssl", args);
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn srlora(args: &[&str]) -> (Option<i32>, String) {
    let output = run(env!("CARGO_BIN_EXE_srlora"), args);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

struct Place(TempDir);

impl Place {
    fn name(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A key pair in `name.key` and `name.pem`.
    fn keys(&self, name: &str) -> [String; 2] {
        let [key, pem] = ["key", "pem"].map(|end| self.name(&format!("{name}.{end}")));
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", &key]);
        openssl(&["pkey", "-in", &key, "-pubout", "-out", &pem]);
        [key, pem]
    }

    fn pack(&self, name: &str, more: &[&str]) -> String {
        let (bundle, model) =
            (self.name(name), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/good.onnx"));
        let args = ["pack", model.to_str().unwrap(), "-o", &bundle, "--sites", "all", "--rank", "2"];
        let (code, said) = srlora(&[&args, more].concat());
        assert_eq!(code, Some(0), "{said}");
        bundle
    }
}

#[test]
fn openssl_takes_our_signature_and_gives_the_same() {
    let place = Place(TempDir::new().unwrap());
    let [key, pem] = place.keys("vendor");
    let bundle = place.pack("signed", &["--sign", &key, "--release", "7"]);
    let container = Container::open(Path::new(&bundle), Kind::Bundle).unwrap();
    let message = format!("srlora bundle signature 1\n{}", container.text("content_sha256").unwrap());
    let digits = container.text("signature").unwrap();
    let signature: Vec<u8> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    let [text, ours, theirs] = ["message", "ours", "theirs"].map(|name| place.name(name));
    fs::write(&text, message).unwrap();
    fs::write(&ours, &signature).unwrap();
    openssl(&["pkeyutl", "-verify", "-pubin", "-inkey", &pem, "-rawin", "-in", &text, "-sigfile", &ours]);
    openssl(&["pkeyutl", "-sign", "-inkey", &key, "-rawin", "-in", &text, "-out", &theirs]);
    assert_eq!(fs::read(theirs).unwrap(), signature);
}

#[test]
fn with_a_key_only_its_bundles_are_taken_by_every_command() {
    let place = Place(TempDir::new().unwrap());
    let ([key, pem], [_, other]) = (place.keys("vendor"), place.keys("other"));
    let signed = place.pack("signed", &["--sign", &key, "--release", "7"]);
    let unsigned = place.pack("unsigned", &[]);
    // Whoever can write a file can give it any hash, but not this signature.
    let mut container = Container::open(Path::new(&signed), Kind::Bundle).unwrap();
    container.metadata.insert("release".into(), "8".into());
    let edited = place.name("edited");
    container.write_new(Path::new(&edited)).unwrap();
    let photo = place.name("photo.png");
    image::RgbImage::new(8, 8).save(&photo).unwrap();

    assert_eq!(srlora(&["inspect", &signed, "--verify-key", &pem, "--min-release", "7"]), (Some(0), String::new()));
    for open in [&signed, &unsigned, &edited] {
        assert_eq!(srlora(&["inspect", open]).0, Some(0), "without a key any bundle opens");
    }
    let (data, out) = (place.0.path().to_str().unwrap().to_owned(), place.name("out"));
    let commands: [&[&str]; 7] = [
        &["train", "--data", &data, "-o", &out],
        &["eval", "--data", &data],
        &["predict", &photo],
        &["inspect"],
        &["bench"],
        &["compare", "--data", &data, "--val", &data, "-o", &out],
        &["simulate", "--data", &data, "--profile", "pi-4"],
    ];
    for command in commands {
        for (bundle, key, release, words) in [
            (&unsigned, &pem, "0", "is not signed"),
            (&signed, &other, "0", "not one of the key"),
            (&edited, &pem, "0", "not one of the key"),
            (&signed, &pem, "8", "of release 7, and --min-release asks for 8"),
        ] {
            let args =
                [&[command[0], bundle], &command[1..], &["--verify-key", key, "--min-release", release]].concat();
            let (code, said) = srlora(&args);
            assert!(code == Some(1) && said.contains(words) && said.contains(bundle.as_str()), "{args:?}: {said}");
        }
        let args = [&[command[0], &signed], &command[1..], &["--min-release", "1"]].concat();
        assert_eq!(srlora(&args).0, Some(2), "--min-release alone means nothing: {args:?}");
    }
    let (code, said) = srlora(&["inspect", &signed, "--verify-key", &key]);
    assert!(code == Some(2) && said.contains("no Ed25519 public key") && said.contains(&key), "{said}");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/good.onnx");
    let (code, said) = srlora(&["pack", model.to_str().unwrap(), "-o", &out, "--sign", &pem]);
    assert!(code == Some(2) && said.contains("no Ed25519 private key") && !Path::new(&out).exists(), "{said}");
}
