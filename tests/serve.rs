//! `srlora serve`, asked over HTTP by those who may, by those who may not, and by those who mean harm; and killed while it works.
#![cfg(target_os = "linux")]

#[expect(unreachable_pub, reason = "a module of this test")]
#[path = "serve/device.rs"]
mod device;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use device::{Device, handwriting, photos, read};

/// Three classes of ten photos of the demo's data.
fn collected(device: &Device) {
    for class in ["0", "1", "2"] {
        device.collect(class, &photos(class, "train")[..10]);
    }
}

fn classes(device: &Device) -> Vec<(String, u64)> {
    let told = device.get("/api/classes");
    let one = |class: &Value| (class["name"].as_str().unwrap().to_owned(), class["photos"].as_u64().unwrap());
    told["classes"].as_array().unwrap().iter().map(one).collect()
}

fn no_panic(device: &Device) {
    let said = device.stderr();
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_class_is_seen_at_once_learned_in_a_lesson_and_taken_back() {
    let device = Device::start(&[]);
    assert!(device.url.ends_with('/') && device.get("/api/state")["generation"].is_null());
    assert_eq!(device.ask("POST", "/api/predict", &photos("0", "val")[0]).status, 409, "there is no class yet");
    assert_eq!(device.ask("GET", "/api/report.html", b"").status, 409, "there was no lesson yet");
    for (n, class) in ["0", "1", "2"].into_iter().enumerate() {
        device.collect(class, &photos(class, "train")[..10]);
        let begin = Instant::now();
        device.wait("a new class", |device| {
            let answer = device.ask("POST", "/api/predict?top=9", &photos(class, "val")[0]);
            let top = answer.json()["top"].as_array().cloned().unwrap_or_default();
            (top.len() == n + 1).then_some(())
        });
        println!("from the last photo to the class among the guesses: {:.0} ms", begin.elapsed().as_secs_f64() * 1e3);
    }
    let plan = device.get("/api/lesson/plan");
    assert!(plan["seconds"].as_f64().unwrap() > 0.0 && plan["write_bytes"].as_u64().unwrap() > 0);
    assert_eq!(device.ask("POST", "/api/lesson", b"").status, 202);
    let ended = device.lesson();
    assert_eq!((&ended["kept"], &ended["report"]["generation"]), (&json!(true), &json!(2)), "{ended}");
    let review = &ended["review"];
    assert_eq!(review["held_back"].as_array().unwrap().len(), 0, "of few photos, each is worth more to the lesson");
    assert_eq!(review["left_out"].as_array().unwrap().len(), 30);
    let right = |device: &Device| {
        let of = |class: &str| {
            photos(class, "val").iter().filter(|photo| device.best(photo).as_deref() == Some(class)).count()
        };
        ["0", "1", "2"].map(of).iter().sum::<usize>()
    };
    let page = device.ask("GET", "/api/report.html", b"");
    let kept = page.header("Content-Disposition").unwrap().starts_with("attachment");
    let html = String::from_utf8(page.body).unwrap();
    assert!(kept && html.contains("3 classes learned") && html.contains("generation 2") && !html.contains("<script"));
    let learned = right(&device);
    println!("of 120 photos that it has not seen, {learned} are recognized after the lesson");
    assert!(learned > 80);
    let told = device.get("/api/generations");
    assert_eq!((&told["current"], told["generations"].as_array().unwrap().len()), (&json!(2), 2));
    let back = device.post("/api/rollback", json!({ "to": 1 })).json();
    assert_eq!((&back["generation"], &back["contents_of"]), (&json!(3), &json!(1)));
    assert_eq!(device.post("/api/rollback", json!({ "to": 77 })).status, 400);
    assert_eq!(device.post("/api/forget", json!({ "class": "1" })).json()["photos"], 10);
    assert_eq!(classes(&device), [("0".to_owned(), 10), ("2".to_owned(), 10)]);
    device.wait("the class to be forgotten", |device| (device.best(&photos("1", "val")[0])? != "1").then_some(()));
    assert_eq!(device.post("/api/forget", json!({ "class": "1" })).status, 404);
    no_panic(&device);
}

#[test]
fn guesses_go_on_during_a_lesson_and_nobody_else_may_change_the_store() {
    let device = Device::start(&[]);
    collected(&device);
    assert_eq!(device.post("/api/lesson", json!({ "epochs": 5000 })).status, 202);
    let photo = &photos("0", "val")[0];
    device.wait("the first step", |device| (device.get("/api/lesson")["step"].as_u64()? > 0).then_some(()));
    let (begin, mut guesses) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(2) {
        assert_eq!(device.ask("POST", "/api/predict", photo).status, 200);
        guesses += 1;
    }
    println!("{:.0} guesses a second during a lesson", f64::from(guesses) / begin.elapsed().as_secs_f64());
    for (method, path, body) in [
        ("POST", "/api/lesson", json!({})),
        ("POST", "/api/rollback", json!({})),
        ("POST", "/api/forget", json!({ "class": "0" })),
        ("GET", "/api/lesson/plan", json!(null)),
    ] {
        let answer = device.ask(method, path, body.to_string().as_bytes());
        assert!(answer.status == 409 && answer.error().contains("under way"), "{path}: {answer:?}");
    }
    let store = device.place.path().join("store");
    let other = std::process::Command::new(env!("CARGO_BIN_EXE_srlora")).arg("rollback").arg(&store).output().unwrap();
    assert!(!other.status.success() && String::from_utf8_lossy(&other.stderr).contains("another writer"));
    let second = Device::command(device.place.path(), &["--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && said.contains("another srlora serve has these photos"), "{said}");

    assert_eq!(device.ask("DELETE", "/api/lesson", b"").status, 202);
    let ended = device.lesson();
    assert_eq!((&ended["stopped"], &ended["kept"]), (&json!(true), &json!(false)));
    let left = device.get("/api/lesson")["left"].clone();
    assert!(left["step"].as_u64().unwrap() > 0, "{left}");
    assert_eq!(device.ask("DELETE", "/api/lesson", b"").status, 200, "it is let go");
    assert_eq!(device.ask("DELETE", "/api/lesson", b"").status, 409);
    no_panic(&device);
}

#[test]
fn a_class_that_was_learned_is_renamed_and_forgotten_whatever_lies_in_its_folder() {
    let device = Device::start(&[]);
    collected(&device);
    // A plan that somebody waits for keeps nobody from beginning.
    std::thread::scope(|scope| {
        let plans: Vec<_> = (0..4).map(|_| scope.spawn(|| device.ask("GET", "/api/lesson/plan", b"").status)).collect();
        assert_eq!(device.ask("POST", "/api/lesson", b"").status, 202);
        plans.into_iter().for_each(|plan| assert!([200, 409].contains(&plan.join().unwrap())));
    });
    device.lesson();
    let renamed = device.post("/api/classes/rename", json!({ "from": "1", "to": "one" })).json();
    assert_eq!(renamed["forgotten"], json!(true), "{renamed}");
    device.wait("the new name", |device| (device.best(&photos("1", "val")[0])? == "one").then_some(()));
    let known = device.get("/api/state")["known"].clone();
    assert_eq!((&known["learned"], &known["imprinted"]), (&json!(["0", "2"]), &json!(["one"])));
    for name in [".DS_Store", "Thumbs.db", "._photo.png"] {
        fs::write(device.place.path().join("photos/2").join(name), b"x").unwrap();
    }
    assert_eq!(device.post("/api/forget", json!({ "class": "2" })).status, 200);
    assert_eq!(classes(&device), [("0".to_owned(), 10), ("one".to_owned(), 10)]);
    // What another program does to the store is seen.
    let store = device.place.path().join("store");
    let back = std::process::Command::new(env!("CARGO_BIN_EXE_srlora")).arg("rollback").arg(&store).output().unwrap();
    assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
    device.wait("the generation of another program", |device| {
        (device.get("/api/state")["generation"] == device.get("/api/generations")["current"]).then_some(())
    });
    assert_eq!(device.post("/api/forget", json!({ "class": "0" })).status, 200);
    no_panic(&device);
}

#[test]
fn a_lesson_that_a_signal_has_ended_is_offered_and_goes_on() {
    let device = Device::start(&[]);
    collected(&device);
    assert_eq!(device.post("/api/lesson", json!({ "epochs": 200 })).status, 202);
    device.wait("a step", |device| (device.get("/api/lesson")["step"].as_u64()? > 3).then_some(()));
    let (code, place) = device.terminate();
    assert_eq!(code, Some(0));
    let device = Device::start_in(place, &[]);
    let step = device.get("/api/lesson")["left"]["step"].as_u64().unwrap();
    assert!(step > 3);
    assert_eq!(device.post("/api/lesson", json!({ "resume": true })).status, 202);
    let ended = device.lesson();
    assert_eq!(ended["report"]["resumed_after"].as_u64(), Some(step), "{ended}");
    assert!(device.get("/api/lesson")["left"].is_null());
    no_panic(&device);
}

#[test]
fn who_has_no_token_or_comes_from_elsewhere_is_refused() {
    let place = TempDir::new().unwrap();
    let token_file = place.path().join("token");
    let device = Device::start_in(place, &["--listen", "0.0.0.0:0", "--token", token_file.to_str().unwrap()]);
    let token = fs::read_to_string(&token_file).unwrap().trim().to_owned();
    assert!(device.url.ends_with(&format!("/?token={token}")), "{}", device.url);
    let port = device.address().rsplit(':').next().unwrap().to_owned();
    let own = format!("Host: localhost:{port}\n");
    let status = |line: &str, headers: &str| device.raw(&format!("{line} HTTP/1.1\n{headers}\n"), b"").status;
    for (line, headers, expected) in [
        ("GET /api/state", own.clone(), 401),
        ("GET /", own.clone(), 401),
        ("GET /api/stream", own.clone(), 401),
        ("GET /api/events", own.clone(), 401),
        ("POST /api/predict", own.clone(), 401),
        ("POST /api/lesson", format!("{own}X-Srlora: 1\n"), 401),
        ("GET /api/state?token=wrong", own.clone(), 401),
        ("GET /api/state", format!("{own}Authorization: Bearer {token}x\n"), 401),
        ("GET /api/state", format!("{own}Authorization: Bearer {token}\n"), 200),
        ("GET /page.css", own.clone(), 200),
        ("GET /page.css", "Host: evil.example\n".to_owned(), 403),
        ("GET /api/state", format!("Host: evil.example\nAuthorization: Bearer {token}\n"), 403),
        ("GET /api/state", format!("Authorization: Bearer {token}\n"), 403),
        ("GET /api/stream", format!("{own}Sec-Fetch-Site: cross-site\nAuthorization: Bearer {token}\n"), 403),
        ("GET /api/state", format!("{own}Origin: http://evil.example\nAuthorization: Bearer {token}\n"), 403),
        ("POST /api/lesson", format!("{own}Authorization: Bearer {token}\n"), 403),
        ("POST /api/rollback", format!("{own}X-Srlora: 1\nOrigin: null\nAuthorization: Bearer {token}\n"), 403),
        ("POST /api/rollback", format!("{own}X-Srlora: 1\nAuthorization: Bearer {token}\n"), 409),
        ("GET /api/state", format!("{own}{own}"), 400),
    ] {
        assert_eq!(status(line, &headers), expected, "{line} {headers}");
    }
    let paired = device.raw(&format!("GET /?token={token} HTTP/1.1\n{own}\n"), b"");
    let cookie = paired.header("Set-Cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(&token), "{cookie}");
    assert!(paired.header("Content-Security-Policy").unwrap().contains("default-src 'self'"));
    let cookie = format!("{own}Cookie: {}\n", cookie.split(';').next().unwrap());
    assert_eq!((status("GET /", &cookie), status("GET /api/state", &cookie)), (200, 200));
    assert_eq!(status("POST /api/rollback", &cookie), 403, "no page of this server has sent it");
    // Every route that changes something, whatever it is.
    let described = fs::read_to_string(project("src/serve/page/openapi.json")).unwrap();
    let described: Value = serde_json::from_str(&described).unwrap();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in
            methods.as_object().unwrap().keys().filter(|method| *method != "get" && path.as_str() != "/api/predict")
        {
            let line = format!(
                "{} {}",
                method.to_uppercase(),
                path.replace("{name}", "x").replace("{id}", "0123456789abcdef")
            );
            assert_eq!((status(&line, &format!("{own}X-Srlora: 1\n")), status(&line, &cookie)), (401, 403), "{line}");
        }
    }
    no_panic(&device);
}

fn project(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn all_addresses_are_described_and_no_other_leads_anywhere() {
    let device = Device::start(&[]);
    let described = device.get("/api/openapi.json");
    assert_eq!(described["openapi"], "3.1.0");
    let mut known = 0;
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, about) in methods.as_object().unwrap() {
            assert!(about["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            if path == "/api/events" {
                continue;
            }
            let path = path.replace("{name}", "x").replace("{id}", "0123456789abcdef");
            let answer = device.ask(&method.to_uppercase(), &path, b"");
            let unknown = answer.status == 404 && answer.error().contains("no such address");
            assert!(!unknown && answer.status != 500, "{method} {path}: {answer:?}");
            known += 1;
        }
    }
    println!("{known} addresses are described");
    for path in [
        "/api",
        "/api/",
        "/api/nothing",
        "/../Cargo.toml",
        "/..%2f..%2fetc/passwd",
        "/api/photos/../../../etc/passwd",
        "/api/photos/..%2f..%2f..%2fetc%2fpasswd",
        "/api/photos/%2e%2e",
        "/page/index.html",
        "//etc/passwd",
        "/api/photos/0123456789abcdeF",
    ] {
        assert_eq!(device.ask("GET", path, b"").status, 404, "{path}");
    }
    for class in ["..", "%2e%2e", "..%2fphotos2", "a%2fb", "a%5cb", "%00", "a%0ab", ".srlora-lesson.json", ""] {
        let answer = device.ask("POST", &format!("/api/photos?class={class}"), &photos("0", "train")[0]);
        assert_eq!(answer.status, 400, "{class}: {answer:?}");
        assert_eq!(device.ask("DELETE", &format!("/api/classes/{class}"), b"").status, 404, "{class}");
    }
    assert_eq!(device.post("/api/classes", json!({ "name": "../x" })).status, 400);
    assert_eq!(device.post("/api/photos/move", json!({ "ids": ["../../x"], "class": "a" })).status, 404);
    assert_eq!(device.post("/api/photos/move", json!({ "ids": [], "class": "../a" })).status, 400);
    assert_eq!(device.post("/api/classes", json!({ "name": "a", "more": 1 })).status, 400);
    let names: BTreeSet<_> =
        fs::read_dir(device.place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["photos", "stderr"].map(Into::into).into(), "nothing was written elsewhere");
    no_panic(&device);
}

/// A PNG of 20000 x 20000 pixels in some kilobytes.
fn bomb() -> Vec<u8> {
    let encoded = image::codecs::png::PngEncoder::new_with_quality;
    let mut bytes = Vec::new();
    let encoder =
        encoded(&mut bytes, image::codecs::png::CompressionType::Best, image::codecs::png::FilterType::NoFilter);
    image::ImageEncoder::write_image(encoder, &vec![0; 6000 * 6000], 6000, 6000, image::ExtendedColorType::L8).unwrap();
    bytes
}

#[test]
fn what_is_no_photo_is_too_large_or_finds_no_room_is_refused_and_memory_stays() {
    let device = Device::start(&["--photos-limit", "20KiB"]);
    device.collect("a", &photos("0", "train")[..3]);
    let before = device.memory("VmHWM:");
    let bomb = bomb();
    println!("a bomb of {} bytes for 36 megapixels", bomb.len());
    for (body, status, words) in [
        (&b""[..], 400, "send the bytes of a photo"),
        (b"GIF89a nothing that is read", 422, "photo"),
        (b"\xff\xd8\xff\xe0 half a JPEG", 422, "photo"),
        (&photos("1", "train")[0][..100], 422, "photo"),
        (&bomb[..], 507, "of the 0 MiB that they may"),
    ] {
        let answer = device.ask("POST", "/api/photos?class=a", body);
        assert!(answer.status == status && answer.error().contains(words), "{status} {answer:?}");
    }
    assert_eq!(device.ask("POST", "/api/predict", &bomb).status, 422);
    // A gigabyte that is told is not waited for; one that is sent all the same is not read.
    let host = device.address();
    for path in ["/api/photos?class=a", "/api/predict", "/api/classes"] {
        let mut stream = device.connect();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nX-Srlora: 1\r\nContent-Length: 1073741824\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let piece = vec![7; 1 << 20];
        let sent = (0..1024).take_while(|_| stream.write_all(&piece).is_ok()).count();
        let answer = read(&mut stream);
        println!("{path}: {} after {sent} MiB", answer.status);
        assert!(answer.status == 413 || answer.status == 0, "{answer:?}");
        assert!(sent < 64, "it was read");
    }
    let chunked =
        format!("POST /api/photos?class=a HTTP/1.1\nHost: {host}\nX-Srlora: 1\nTransfer-Encoding: chunked\n\n");
    assert_eq!(device.raw(&chunked, b"5\r\nhello\r\n0\r\n\r\n").status, 411);
    let long = format!("GET /{} HTTP/1.1\nHost: {host}\n\n", "x".repeat(40_000));
    assert!([431, 0].contains(&device.raw(&long, b"").status));
    let grown = device.memory("VmHWM:") - before;
    println!("the largest resident size has grown by {grown} KiB");
    assert!(grown < 64 << 10);
    assert_eq!(device.ask("POST", "/api/photos?class=b", b"no photo").status, 422);
    assert_eq!(classes(&device), [("a".to_owned(), 3)], "what was refused leaves nothing");
    let there: Vec<String> = fs::read_dir(device.place.path().join("photos"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".srlora-tmp"))
        .collect();
    assert!(there.is_empty(), "{there:?}");
    no_panic(&device);
}

#[test]
fn a_certificate_that_is_none_is_refused_by_its_name() {
    let place = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (none, half) = (file("none.pem", "no PEM"), file("half.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"));
    let missing = place.path().join("missing.pem").to_str().unwrap().to_owned();
    for (certificate, key, words) in [
        (&none, &none, vec!["--tls-cert", "none.pem", "holds no certificate in PEM"]),
        (&half, &none, vec!["--tls-cert", "half.pem", "is no PEM file with a certificate"]),
        (&missing, &none, vec!["missing.pem", "No such file"]),
    ] {
        let refused = Device::command(place.path(), &["--tls-cert", certificate, "--tls-key", key]).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains("panicked"), "{said}");
    }
    let alone = Device::command(place.path(), &["--tls-cert", &none]).output().unwrap();
    assert_eq!(alone.status.code(), Some(2), "a certificate has a key");
}

#[test]
fn slow_connections_keep_nobody_out_and_many_requests_take_no_memory() {
    let device = Device::start(&[]);
    collected(&device);
    let host = device.address().to_owned();
    let slow: Vec<_> = (0..100)
        .map(|nth| {
            let mut stream = device.connect();
            let part = if nth % 2 == 0 { "GET /api/st" } else { "" };
            let _ = stream.write_all(part.as_bytes());
            stream
        })
        .collect();
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(device.ask("GET", "/api/state", b"").status, 200);
    }
    println!("20 answers beside {} slow connections: {:.0} ms", slow.len(), begin.elapsed().as_secs_f64() * 1e3);
    drop(slow);
    for _ in 0..100 {
        let mut events = device.connect();
        write!(events, "GET /api/events HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        assert!(events.read(&mut [0; 16]).unwrap() > 0);
    }
    device.wait("the threads of pages that have gone", |device| (device.memory("Threads:") < 20).then_some(()));

    let resident = device.memory("VmRSS:");
    let (mut stream, mut answered, mut told_to_wait) = (device.connect(), 0, 0);
    let begin = Instant::now();
    while answered + told_to_wait < 10_000 {
        let path = ["/api/state", "/api/classes", "/page.js", "/api/nothing"][answered % 4];
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        match read(&mut stream).status {
            200 | 404 => answered += 1,
            429 => {
                told_to_wait += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            other => panic!("{other}"),
        }
    }
    let grown = device.memory("VmRSS:").saturating_sub(resident);
    println!(
        "{answered} answers and {told_to_wait} asked to wait in {:.1} s; {grown} KiB more memory",
        begin.elapsed().as_secs_f64()
    );
    assert!(grown < 4 << 10, "{grown} KiB");
    no_panic(&device);
}

#[test]
fn the_camera_is_shown_and_photos_are_taken_from_it() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("frame.jpg");
    image::open(handwriting("val/7/0061.png")).unwrap().to_rgb8().save(&file).unwrap();
    let frame = fs::read(&file).unwrap();
    let camera = format!("while cat {}; do sleep 0.03; done", file.display());
    let device = Device::start_in(place, &["--camera", &camera]);
    device.collect("0", &photos("0", "train")[..5]);
    device.collect("7", &photos("7", "train")[..5]);
    assert_eq!(device.ask("GET", "/api/frame", b"").body, frame);
    let taken = device.ask("POST", "/api/photos?class=seven&from=camera", b"");
    assert_eq!(taken.status, 201);
    let id = taken.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(device.ask("GET", &format!("/api/photos/{id}"), b"").body, frame);
    assert_eq!(device.ask("POST", "/api/photos?class=seven&from=camera", b"").status, 200, "the same picture");
    assert_eq!(device.ask("POST", "/api/predict?from=camera", b"").status, 200);

    let host = device.address();
    let mut events = device.connect();
    write!(events, "GET /api/events HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut stream = device.connect();
    write!(stream, "GET /api/stream HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    while bytes.windows(9).filter(|nine| nine == b"--picture").count() < 5 {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0);
        bytes.extend_from_slice(&piece[..read]);
    }
    let mut told = String::new();
    while !told.contains("event: guess") {
        let mut piece = [0; 4096];
        let read = events.read(&mut piece).unwrap();
        assert!(read > 0, "{told}");
        told += &String::from_utf8_lossy(&piece[..read]);
    }
    assert!(told.contains("\"label\""), "{told}");
    // Whatever it has started ends with it.
    let group = format!("/proc/{}/task", device.id());
    assert!(fs::read_dir(group).is_ok());
    let (code, _place) = device.terminate();
    assert_eq!(code, Some(0));
    no_process_with(&camera);
}

fn no_process_with(words: &str) {
    let begin = Instant::now();
    loop {
        let found =
            fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
        let found = found.filter(|line| String::from_utf8_lossy(line).contains(words)).count();
        if found == 0 {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{found} are left");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A session as a page has it: classes, photos, a lesson, an undo.
fn session(device: &Device) {
    let quietly = |method: &str, path: &str, body: &[u8]| {
        let _ = ask_quietly(device, method, path, body);
    };
    for nth in 0..10 {
        for class in ["0", "1", "2"] {
            quietly("POST", &format!("/api/photos?class={class}"), &photos(class, "train")[nth]);
        }
    }
    quietly("POST", "/api/lesson", b"{\"epochs\":40}");
    for nth in 0..6 {
        quietly("POST", "/api/photos?class=3", &photos("3", "train")[nth]);
        quietly("POST", "/api/predict", &photos("0", "val")[nth]);
    }
    quietly("POST", "/api/classes/rename", b"{\"from\":\"3\",\"to\":\"three\"}");
    for _ in 0..20 {
        quietly("GET", "/api/lesson", b"");
        std::thread::sleep(Duration::from_millis(20));
    }
    quietly("POST", "/api/rollback", b"{}");
}

/// The same as [`Device::ask`], of a device that may be gone.
fn ask_quietly(device: &Device, method: &str, path: &str, body: &[u8]) -> Option<()> {
    let mut stream = std::net::TcpStream::connect(device.address()).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nX-Srlora: 1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        device.address(),
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok().map(drop)
}

#[test]
fn killed_at_random_moments_no_photo_is_half_there_and_the_page_goes_on() {
    const KILLS: usize = 50;
    let known: BTreeSet<Vec<u8>> = ["0", "1", "2", "3"].into_iter().flat_map(|class| photos(class, "train")).collect();
    let whole = Device::start(&[]);
    let begin = Instant::now();
    session(&whole);
    let lasts = begin.elapsed();
    drop(whole);
    let (mut kept, mut offered, mut stores) = (0, 0, 0);
    for run in 0..KILLS {
        let device = Device::start(&[]);
        let moment = lasts.mul_f64((run as f64 * 0.618_034).fract());
        std::thread::scope(|scope| {
            let asks = scope.spawn(|| session(&device));
            std::thread::sleep(moment);
            std::process::Command::new("kill").args(["-KILL", &device.id().to_string()]).status().unwrap();
            asks.join().unwrap();
        });
        let device = Device::start_in(device.kill(), &[]);
        for (class, _) in classes(&device).into_iter().filter(|(_, photos)| *photos > 0) {
            for photo in device.get(&format!("/api/photos?class={class}"))["photos"].as_array().unwrap() {
                let bytes = device.ask("GET", &format!("/api/photos/{}", photo["id"].as_str().unwrap()), b"").body;
                assert!(known.contains(&bytes), "run {run}: a photo of {} bytes is none that was sent", bytes.len());
                kept += 1;
            }
        }
        let hidden = fs::read_dir(device.place.path().join("photos")).unwrap();
        let hidden = hidden.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(hidden.into_iter().all(|name| !name.starts_with(".srlora-tmp")), "run {run}");
        stores += usize::from(device.get("/api/generations")["current"].is_u64());
        // It is usable: a lesson that was under way goes on, or one begins.
        let resume = !device.get("/api/lesson")["left"].is_null();
        offered += usize::from(resume);
        device.collect("5", &photos("5", "train")[..3]);
        if !resume {
            device.collect("6", &photos("6", "train")[..3]);
        }
        let wish = json!({ "resume": resume, "epochs": if resume { Value::Null } else { json!(2) } });
        let begun = device.post("/api/lesson", wish);
        assert_eq!(begun.status, 202, "run {run}: {begun:?}");
        let ended = device.lesson();
        assert!(ended["report"].is_object(), "run {run}: {ended}");
        assert!(device.best(&photos("5", "val")[0]).is_some());
        no_panic(&device);
    }
    println!("{KILLS} kills: {kept} photos whole, {stores} stores with a generation, {offered} lessons taken up");
    assert!(offered > 0 && stores > 0);
}
