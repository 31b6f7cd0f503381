//! `--report` of every command that has it. The page is read by an XML parser, its tables are compared with the `--json` of the same run,
//! and names that would like to be markup stay text.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use roxmltree::{Document, Node, ParsingOptions};
use serde_json::Value;
use tempfile::TempDir;

/// What a report may take.
const MOST_BYTES: usize = 2 << 20;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn demo(path: &str) -> String {
    project("models/handwriting").join(path).to_str().unwrap().to_owned()
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Place { folder: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_srlora")).args(args).current_dir(self.folder.path()).output().unwrap()
    }

    /// The JSON and the page of a run that must succeed.
    fn both(&self, args: &[&str]) -> (Value, String) {
        let page = self.path("page.html");
        let _ = fs::remove_file(&page);
        let output = self.run(&[args, &["--json", "--report", "page.html"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        (serde_json::from_slice(&output.stdout).unwrap(), fs::read_to_string(page).unwrap())
    }

    fn refuses(&self, args: &[&str], code: i32, words: &[&str]) {
        let output = self.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} should be in: {said}");
        assert!(!said.contains("imprint "), "the work had begun: {said}");
    }

    /// A folder of photos for each of `classes`; those of one class look alike.
    fn photos(&self, name: &str, classes: &[&str], each: usize, side: u32) -> String {
        for (nth, class) in classes.iter().enumerate() {
            let folder = self.folder.path().join(name).join(class);
            fs::create_dir_all(&folder).unwrap();
            for photo in 0..each {
                let mut state = (nth * 7919 + photo * 104_729 + name.len()) as u32;
                let mut noise = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                };
                let picture = image::RgbImage::from_fn(side, side, |_, _| image::Rgb([noise(), noise(), noise()]));
                picture.save(folder.join(format!("{photo}.png"))).unwrap();
            }
        }
        self.path(name)
    }
}

fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|e| panic!("{e}: {page:.400}"))
}

fn text(node: Node) -> String {
    let texts = node.descendants().filter_map(|node| if node.is_text() { node.text() } else { None });
    texts.collect::<String>().replace('\u{a0}', " ")
}

/// The rows of the table with a caption that begins so, its headings first.
fn table(page: &Document, caption: &str) -> Vec<Vec<String>> {
    let is_wanted =
        |table: &Node| table.children().any(|part| part.has_tag_name("caption") && text(part).starts_with(caption));
    let tables = page.descendants().filter(|node| node.has_tag_name("table"));
    let found = tables.into_iter().find(is_wanted).unwrap_or_else(|| panic!("no table {caption}"));
    let rows = found.descendants().filter(|node| node.has_tag_name("tr"));
    rows.map(|row| row.children().filter(Node::is_element).map(text).collect()).collect()
}

fn percent(share: &Value) -> String {
    share.as_f64().map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

/// What holds for every page: it stands alone, and is built as assistive technology expects it.
fn check(page: &str) {
    assert!(page.len() <= MOST_BYTES, "{} bytes", page.len());
    assert!(page.starts_with("<!DOCTYPE html>\n"));
    let document = parsed(page);
    let elements = || document.descendants().filter(Node::is_element);
    for element in elements() {
        let name = element.tag_name().name();
        assert!(!["script", "link", "iframe", "object", "embed", "base", "form"].contains(&name), "<{name}>");
        for attribute in element.attributes() {
            let (key, value) = (attribute.name(), attribute.value());
            assert!(!key.starts_with("on"), "<{name} {key}>");
            match key {
                "href" => assert!(
                    value.starts_with('#') && elements().any(|e| e.attribute("id") == Some(&value[1..])),
                    "{value}"
                ),
                "src" => assert!(name == "img" && value.starts_with("data:image/jpeg;base64,/9j/"), "{value:.60}"),
                "style" | "action" | "srcset" => panic!("<{name} {key}>"),
                _ => {}
            }
        }
        let holds =
            |wanted: &str| element.children().any(|child| child.has_tag_name(wanted) && !text(child).trim().is_empty());
        match name {
            "table" => {
                assert!(holds("caption"), "a table without a caption");
                let headings = element.descendants().filter(|node| node.has_tag_name("th"));
                assert!(
                    headings
                        .into_iter()
                        .all(|heading| ["row", "col"].contains(&heading.attribute("scope").unwrap_or("")))
                );
            }
            "svg" if element.attribute("aria-hidden").is_none() => {
                assert!(holds("title") && holds("desc") && element.attribute("role") == Some("img"));
            }
            "img" => assert!(element.attribute("alt").is_some_and(|alt| alt.len() > 6)),
            _ => {}
        }
    }
    let ids: Vec<&str> = elements().filter_map(|element| element.attribute("id")).collect();
    assert!((1..ids.len()).all(|at| !ids[..at].contains(&ids[at])), "{ids:?}");
    let levels = elements().filter_map(|element| match element.tag_name().name() {
        "h1" => Some(1),
        "h2" => Some(2),
        "h3" => Some(3),
        _ => None,
    });
    let levels: Vec<i32> = levels.collect();
    assert_eq!((levels[0], levels.iter().filter(|level| **level == 1).count()), (1, 1));
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
    let style = elements().find(|element| element.has_tag_name("style")).map(text).unwrap();
    assert!(["url(", "@import", "http"].iter().all(|word| !style.contains(word)));
    assert!(style.contains("@media print") && style.contains("prefers-color-scheme: dark"));
    let policy = elements().find(|element| element.attribute("http-equiv") == Some("Content-Security-Policy")).unwrap();
    assert!(policy.attribute("content").unwrap().starts_with("default-src 'none'"));
}

/// The matrix of an evaluation's JSON, as far as its classes have photos or guesses, beside that of the page.
fn check_guesses(page: &Document, json: &Value) {
    let rows = table(page, "Photos by true class");
    let matrix = json["confusion"].as_array().unwrap();
    assert_eq!(rows.len() - 1, matrix.len());
    for (row, (counts, class)) in rows[1..].iter().zip(matrix.iter().zip(json["classes"].as_array().unwrap())) {
        assert!(row[0].ends_with(class.as_str().unwrap()), "{row:?}");
        let counts: Vec<String> = counts.as_array().unwrap().iter().map(Value::to_string).collect();
        assert_eq!(row[1..], counts, "{class}");
    }
}

#[test]
fn a_lesson_is_told_with_the_figures_of_its_json() {
    let place = Place::new();
    let [bundle, data, val] = ["handwriting.bundle", "train", "val"].map(demo);
    let args =
        ["train", &bundle, "--data", &data, "--val", &val, "-o", "my.store", "--steps", "60", "--interval", "20"];
    let (json, page) = place.both(&args);
    check(&page);
    let document = parsed(&page);
    let title = document.descendants().find(|node| node.has_tag_name("h1")).map(text).unwrap();
    assert_eq!(
        title,
        format!("10 classes learned: {} of 400 photos held back recognized", percent(&json["val_accuracy"]))
    );
    let lead = document.descendants().find(|node| node.has_tag_name("header")).map(text).unwrap();
    for figure in [percent(&json["val_accuracy_before"]), percent(&json["val_accuracy"]), "60 steps".to_owned()] {
        assert!(lead.contains(&figure), "{figure}: {lead}");
    }
    let facts = table(&document, "What was done");
    let fact = |word: &str| facts.iter().find(|row| row[0] == word).unwrap_or_else(|| panic!("{word}"))[1].clone();
    let inspected = place.run(&["inspect", "my.store", "--events", "--json"]);
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(fact("seed"), json["seed"].to_string());
    assert_eq!(fact("values trained"), json["trainable_params"].to_string());
    assert_eq!(fact("sha256 of its contents"), inspected["lesson"]["bundle_sha256"].as_str().unwrap());
    assert_eq!(fact("srlora"), env!("CARGO_PKG_VERSION"));
    assert!(
        fact("command").starts_with("srlora train ") && fact("command").contains(" --interval 20 "),
        "{}",
        fact("command")
    );
    let photos = table(&document, "Photos by class");
    assert!(photos[1..].iter().all(|row| row[1..] == ["12", "40"]) && photos.len() == 11, "{photos:?}");

    // What `eval` says of the same store and photos, which reads the store anew.
    let eval = place.run(&["eval", &bundle, "--store", "my.store", "--data", &val, "--json"]);
    let eval: Value = serde_json::from_slice(&eval.stdout).unwrap();
    check_guesses(&document, &eval);
    let classes = table(&document, "Share of the photos held back");
    for (row, score) in classes[1..].iter().zip(eval["per_class"].as_array().unwrap()) {
        assert_eq!((&row[0][..], &row[3]), (score["class"].as_str().unwrap(), &percent(&score["recall"])));
    }
    // The store's generation 1 is what was there before.
    assert!(place.run(&["rollback", "my.store", "--to", "1"]).status.success());
    let before = place.run(&["eval", &bundle, "--store", "my.store", "--data", &val, "--json"]);
    let before: Value = serde_json::from_slice(&before.stdout).unwrap();
    for (row, score) in classes[1..].iter().zip(before["per_class"].as_array().unwrap()) {
        assert_eq!(row[2], percent(&score["recall"]), "{}", row[0]);
    }

    let journal = fs::read_to_string(place.path("my.store/metrics.jsonl")).unwrap();
    let losses = journal.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["loss"].as_f64());
    let losses: Vec<f64> = losses.collect();
    let curve = table(&document, "Means of the batches");
    let first = losses[..5].iter().sum::<f64>() / 5.0;
    assert_eq!((losses.len(), &curve[1][0][..], &curve[1][1]), (60, "1 to 5", &format!("{first:.3}")));

    let events = inspected["events"].as_array().unwrap();
    assert_eq!((events.len() as u64, events.is_empty()), (json["recompositions"].as_u64().unwrap(), false));
    assert_eq!(table(&document, "Recompositions").len() - 1, events.len().min(64));
    let drawn = |class: &str| page.matches(&format!("<path class=\"{class}\"")).count();
    assert_eq!(drawn("kept") + drawn("undone") + drawn("open"), events.len());
    assert_eq!(drawn("top"), inspected["importance"].as_object().unwrap().len());
    let plan = table(&document, "The plan");
    let mib = |bytes: &Value| format!("{:.1} MiB", bytes.as_f64().unwrap() / 1048576.0);
    assert_eq!(plan[1][1..], [mib(&json["planned_peak_bytes"]), mib(&json["lesson_peak_bytes"])]);
}

#[test]
fn an_evaluation_is_told_with_the_figures_of_its_json() {
    let place = Place::new();
    let [bundle, data, val] = ["handwriting.bundle", "train", "val"].map(demo);
    assert!(place.run(&["train", &bundle, "--data", &data, "-o", "my.store", "--steps", "20"]).status.success());
    let unknown = place.photos("other", &["x"], 12, 24);
    let args = ["eval", &bundle, "--store", "my.store", "--data", &val, "--unknown", &unknown];
    let (json, page) = place.both(&args);
    check(&page);
    let document = parsed(&page);
    check_guesses(&document, &json);
    let scores = table(&document, "Recall and precision");
    for (row, score) in scores[1..].iter().zip(json["per_class"].as_array().unwrap()) {
        let figures = [score["photos"].to_string(), percent(&score["recall"]), percent(&score["precision"])];
        assert_eq!((&row[0][..], &row[1..]), (score["class"].as_str().unwrap(), &figures[..]));
    }
    let all = text(document.root_element());
    let points = |key: &str| format!("{:.1} points", 100.0 * json[key].as_f64().unwrap());
    for figure in [points("calibration_error"), points("calibration_error_before"), percent(&json["unknown_found"])] {
        assert!(all.contains(&figure), "{figure}");
    }
    assert!(all.contains(&format!("AUROC of {:.3}", json["auroc"].as_f64().unwrap())));
    // Worst first, and no more than are shown.
    let losses: Vec<f64> = document
        .descendants()
        .filter(|node| node.has_tag_name("strong"))
        .map(|node| text(node).trim_start_matches("loss ").parse().unwrap())
        .collect();
    assert!(losses.len() == 24 && losses.is_sorted_by(|a, b| a >= b), "{losses:?}");
}

#[test]
fn a_comparison_is_told_with_the_figures_of_its_json() {
    let place = Place::new();
    let [bundle, data, val] = ["handwriting.bundle", "train", "val"].map(demo);
    let flags =
        ["--steps", "12", "--seeds", "2", "--tries", "1", "--points", "3", "--lrs", "1e-3,1e-2", "--head-lrs", "1e-3"];
    let (json, page) = place.both(&[&["compare", &bundle, "--data", &data, "--val", &val][..], &flags].concat());
    check(&page);
    let document = parsed(&page);
    let methods = json["methods"].as_array().unwrap();
    assert_eq!(methods.len(), 6);
    let rows = table(&document, "Accuracy over the runs");
    let differences = table(&document, "Difference to lora");
    let signed = |value: f64| format!("{:+.1}", 100.0 * value);
    for (row, method) in rows[1..].iter().zip(methods) {
        let name = method["method"].as_str().unwrap();
        assert_eq!((&row[0][..], &row[1]), (name, &percent(&method["accuracy_mean"])));
        assert_eq!(row[2], format!("{:.1}", 100.0 * method["accuracy_sd"].as_f64().unwrap()));
        let Some(found) = differences.iter().find(|row| row[0] == name) else {
            assert_eq!(name, "lora");
            continue;
        };
        let difference = &method["difference_to_lora"];
        assert_eq!(found[1], signed(difference["mean"].as_f64().unwrap()));
        assert_eq!(found[2], format!("{:.1}", 100.0 * difference["standard_error"].as_f64().unwrap()));
    }
    let curves = table(&document, "Mean accuracy by step");
    for (at, name) in curves[0].iter().enumerate().skip(1) {
        let method = methods.iter().find(|method| method["method"] == **name).unwrap();
        for point in method["curve"].as_array().unwrap() {
            let step = point[0].to_string();
            let row = curves.iter().find(|row| row[0] == step).unwrap();
            assert_eq!(row[at], percent(&point[1]), "{name}");
        }
    }
    let rates = table(&document, "Rates that were tried");
    let tried = methods.iter().flat_map(|method| method["rates"].as_array().unwrap());
    let tried: Vec<String> = tried.map(|rate| percent(&rate["accuracy"])).collect();
    assert_eq!(rates[1..].iter().map(|row| row[2].clone()).collect::<Vec<_>>(), tried);
    assert_eq!(rates.iter().filter(|row| row[3] == "chosen").count() - 1, 4, "and a heading");
}

#[test]
fn a_simulation_is_told_with_the_figures_of_its_json_and_one_that_fails_too() {
    let place = Place::new();
    let [bundle, data, val] = ["handwriting.bundle", "train", "val"].map(demo);
    let args = ["simulate", &bundle, "--profile", "pi-zero-2w", "--data", &data, "--val", &val, "--steps", "24"];
    let (json, page) = place.both(&[&args[..], &["--cut-at", "imprint,9", "--cuts", "2"]].concat());
    check(&page);
    let document = parsed(&page);
    let (cuts, told) = (json["cuts"].as_array().unwrap(), table(&document, "Power cuts"));
    assert_eq!((cuts.len(), told.len()), (4, 5));
    for (row, cut) in told[1..].iter().zip(cuts) {
        assert_eq!(row[5], cut["lost_steps"].to_string());
        let generation = cut["generation"].as_u64();
        let left = generation.map_or("no store yet".to_owned(), |number| format!("generation {number} survives"));
        assert!(row[4].starts_with(&left), "{row:?}");
    }
    // An upright line for each cut.
    assert_eq!(page.matches("<line class=\"b\"").count(), cuts.len() + 1, "and one of the legend");
    let curve = table(&document, "Work that has lasted");
    for (row, point) in curve[1..].iter().zip(json["curve"].as_array().unwrap()) {
        assert_eq!((&row[0], &row[2]), (&point["step"].to_string(), &percent(&point["val_accuracy"])));
    }
    let memory = table(&document, "Memory");
    let mib = |bytes: &Value| format!("{:.1} MiB", bytes.as_f64().unwrap() / 1048576.0);
    assert_eq!((&memory[2][1], &memory[4][1]), (&mib(&json["ram"]["cap_bytes"]), &mib(&json["ram"]["peak_bytes"])));

    // The device's time with power is too short for anything: the page says so, and the program fails.
    let profile = fs::read_to_string(project("targets/raspberry-pi/zero-2w.toml")).unwrap();
    let profile = format!("{profile}\n[schedule]\non_minutes = 0.001\noff_minutes = 1\n");
    fs::write(place.path("short.toml"), profile).unwrap();
    let output = place.run(&[
        "simulate",
        &bundle,
        "--profile",
        "short.toml",
        "--data",
        &data,
        "--steps",
        "4",
        "--report",
        "short.html",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let page = fs::read_to_string(place.path("short.html")).unwrap();
    check(&page);
    assert!(page.contains("the lesson never ends"), "{page:.900}");
}

#[cfg(unix)]
#[test]
fn names_that_would_like_to_be_markup_stay_text() {
    let place = Place::new();
    let hostile = ["<script>", "\"><img src=x onerror=alert(1)>", "a&lt;b'", "]]><!--", "\u{202e}gpj"];
    let train = place.photos("train", &hostile, 4, 16);
    let val = place.photos("val <b>", &hostile, 6, 16);
    fs::rename(format!("{val}/<script>/0.png"), format!("{val}/<script>/\" onload=\"x\u{1b}[2J\n<i>.png")).unwrap();
    fs::write(format!("{val}/<script>/<broken>&.png"), "no photo").unwrap();
    let bundle = demo("handwriting.bundle");
    let (json, page) =
        place.both(&["train", &bundle, "--data", &train, "--val", &val, "-o", "<my> \"store\"", "--steps", "2"]);
    check(&page);
    let document = parsed(&page);
    let mut classes = json["classes"].as_array().unwrap().iter().map(|class| class.as_str().unwrap().to_owned());
    let told = table(&document, "Photos by class");
    assert!(told[1..].iter().all(|row| classes.next().as_ref() == Some(&row[0])), "{told:?}");
    assert_eq!((told.len(), classes.next()), (6, None));
    assert!(!page.contains("<script") && !page.contains("<img src=x") && !page.contains("<i>"));
    let unread = table(&document, "Photos that could not be read");
    assert!(unread[1][0].ends_with("<script>/<broken>&.png"), "{unread:?}");
    let (_, page) = place.both(&["eval", &bundle, "--store", "<my> \"store\"", "--data", &val]);
    check(&page);
    let alts = page.matches("alt=\"photo ").count();
    assert!(alts > 0 && !page.contains(['\u{1b}']), "{alts} photos");
    let (_, page) = place.both(&[
        "compare",
        &bundle,
        "--data",
        &train,
        "--val",
        &val,
        "--steps",
        "2",
        "--seeds",
        "1",
        "--methods",
        "imprint",
    ]);
    check(&page);
    assert!(table(&parsed(&page), "Classes")[1..].iter().any(|row| row[1] == "<script>"));
}

#[test]
fn a_report_of_the_most_and_largest_photos_stays_within_its_size() {
    let place = Place::new();
    let classes = ["a", "b", "c", "d", "e"];
    // Noise does not shrink, and cannot be learned: four of five guesses are wrong.
    let (train, val) = (place.photos("train", &classes, 3, 200), place.photos("val", &classes, 60, 200));
    let (json, page) = place.both(&[
        "train",
        &demo("handwriting.bundle"),
        "--data",
        &train,
        "--val",
        &val,
        "-o",
        "my.store",
        "--steps",
        "2",
    ]);
    check(&page);
    let photos = page.matches("data:image/jpeg").count();
    println!("{} bytes with {photos} photos; accuracy {}", page.len(), percent(&json["val_accuracy"]));
    assert!(photos > 40 && page.len() > MOST_BYTES / 4, "{} bytes, {photos} photos", page.len());
}

#[test]
fn what_is_there_is_refused_before_the_work_and_left_alone() {
    let place = Place::new();
    let [bundle, data] = ["handwriting.bundle", "train"].map(demo);
    fs::write(place.path("there.html"), "mine").unwrap();
    let train = ["train", &bundle, "--data", &data, "--val-split", "0.2", "-o", "my.store", "--report"];
    let compare = ["compare", &bundle, "--data", &data, "--val-split", "0.2", "--report"];
    let simulate = ["simulate", &bundle, "--data", &data, "--profile", "pi-4", "--report"];
    let eval = ["eval", &bundle, "--data", &data, "--store", "none.store", "--report"];
    for command in [&train[..], &compare, &simulate, &eval] {
        place.refuses(&[command, &["there.html"]].concat(), 1, &["there.html", "already there"]);
        place.refuses(&[command, &["no/page.html"]].concat(), 1, &["no/page.html", "does not exist"]);
    }
    assert_eq!(fs::read_to_string(place.path("there.html")).unwrap(), "mine");
    place.refuses(&[&train[..], &["my.store"]].concat(), 2, &["my.store", "writes itself"]);
    place.refuses(&[&compare[..], &["runs.jsonl", "-o", "./runs.jsonl"]].concat(), 2, &["writes itself"]);
    place.refuses(&[&simulate[..], &["my.store", "-o", "my.store"]].concat(), 2, &["writes itself"]);
    assert!(!Path::new(&place.path("my.store")).exists() && !Path::new(&place.path("runs.jsonl")).exists());
    assert!(place.run(&[&train[..], &["page.html", "--steps", "2"]].concat()).status.success());
    let again = ["train", &bundle, "--data", &data, "--from", "my.store", "--report", "my.store/page.html"];
    place.refuses(&again, 2, &["my.store/page.html", "writes itself"]);
    let left = fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".srlora")), "{left:?}");
}

#[test]
fn the_same_run_writes_the_same_page_but_for_measured_times() {
    let [bundle, data] = ["handwriting.bundle", "train"].map(demo);
    let [first, second] = [Place::new(), Place::new()].map(|place| {
        let args = [
            "train",
            &bundle,
            "--data",
            &data,
            "--val-split",
            "0.5",
            "-o",
            "my.store",
            "--steps",
            "30",
            "--interval",
            "10",
        ];
        let (_, page) = place.both(&args);
        let (taken, plan) = (page.find(" It took ").unwrap(), page.find("<section id=\"plan\"").unwrap());
        let [after, end] = [(taken, "</p>"), (plan, "</section>")].map(|(at, end)| at + page[at..].find(end).unwrap());
        [&page[..taken], &page[after..plan], &page[end..]].concat()
    });
    assert!(first.len() > 20_000 && first == second);
}
