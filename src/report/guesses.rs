//! What photos were taken for: class by class, as a matrix with the photos behind it, and the worst of them.

use super::chart::{Axis, Dot, Look, Row, Rows, beside, figure};
use super::markup::{Markup, name, paragraph, tag};
use super::page::Section;
use super::photos::{Album, called};
use super::table::{Kind, Table, scrolling};
use super::words::{count, percent};
use crate::limits::{MOST_REPORT_CELLS, MOST_REPORT_MATRIX, MOST_REPORT_WORST};
use crate::session::{Evaluation, Ignored, Quarantined, Wrong};

/// Classes that a picture shows; a table has more.
const MOST_DRAWN: usize = 24;
/// Photos behind a cell that are shown.
const MOST_BEHIND: usize = 6;
/// Letters of a class name that a column of figures has room for.
const LONGEST_IN_COLUMN: usize = 3;

/// What a share is written as, on an axis.
pub(crate) fn share_word(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), percent)
}

/// Of each class, which share was recognized before a lesson and is after it.
pub(crate) fn before_and_after(before: Option<&[[usize; 2]]>, after: &Evaluation) -> Section {
    let of = |class: usize| {
        let [right, photos] = before.and_then(|before| before.get(class)).copied().unwrap_or_default();
        (photos > 0).then(|| right as f64 / photos as f64)
    };
    let scores = after.per_class();
    let with_photos = || scores.iter().enumerate().filter(|(_, score)| score.photos > 0);
    let columns = [("class", Kind::Text), ("photos", Kind::Number), ("before", Kind::Number), ("after", Kind::Number)];
    let mut table = Table::new("Share of the photos held back that was recognized, class by class", &columns);
    let (mut rows, mut changes) = (Vec::new(), [0usize; 3]);
    for (class, score) in with_photos() {
        let was = of(class);
        let photos = score.photos.to_string();
        table.row([name(score.class), photos.into(), self::share(was).into(), self::share(score.recall).into()]);
        let recall = score.recall.unwrap_or(0.0);
        if let Some(was) = was {
            changes[if recall > was { 0 } else { 1 + usize::from(recall >= was) }] += 1;
        }
        let dot = |look, value| Dot { look, value, spread: None };
        let dots = was.map(|was| dot(Look::Other, was)).into_iter().chain([dot(Look::Main, recall)]).collect();
        rows.push(Row { name: score.class.to_owned(), dots, figure: percent(recall), joined: true });
    }
    let drawn_of = drawn_of(&mut rows);
    // Same for all: 0 to 100 %, so that a small change looks small.
    let axis = Axis::new([0.0, 1.0], Rows::ACROSS, share_word);
    let said = match before {
        Some(_) => changed(changes),
        None => "What was recognized before the lesson was not measured in this run.".to_owned(),
    };
    let drawn = Rows { title: "Recognized before and after, by class", about: &said, rows, zero: None }.draw(&axis);
    let legend = [Look::Other.key(), "before the lesson".into(), Look::Main.key(), "after it".into(), drawn_of];
    let body = [paragraph(said.clone()), beside(figure(drawn, legend.into_iter().collect::<Markup>()), table.markup())];
    Section::new("classes", "Before and after, class by class", body)
}

/// Leaves as many rows as a picture shows; what is to be said of the others.
fn drawn_of(rows: &mut Vec<Row>) -> Markup {
    let all = rows.len();
    rows.truncate(MOST_DRAWN);
    if all == rows.len() {
        return Markup::default();
    }
    format!(". The picture shows the first {MOST_DRAWN} of {}.", count(all, "class")).into()
}

/// How many classes are recognized better, worse and equally well.
fn changed(changes: [usize; 3]) -> String {
    let told = changes.iter().zip(["better", "worse", "equally well"]).filter(|(classes, _)| **classes > 0);
    let word = |(nth, (classes, how)): (usize, (&usize, &str))| match (nth, classes) {
        (0, 1) => format!("1 is recognized {how}"),
        (0, _) => format!("{classes} are recognized {how}"),
        _ => format!("{classes} {how}"),
    };
    let told: Vec<String> = told.enumerate().map(word).collect();
    let listed = match &told[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        told => told.join(""),
    };
    format!("With the lesson, of {} with photos held back, {listed}.", count(changes.iter().sum(), "class"))
}

/// Recall and precision of each class.
pub(crate) fn by_class(evaluation: &Evaluation) -> Section {
    let mut scores = evaluation.per_class();
    scores.retain(|score| score.recall.or(score.precision).is_some());
    let lowest = scores.iter().filter_map(|score| Some((score.recall?, score.class)));
    let lowest = lowest.min_by(|a, b| a.0.total_cmp(&b.0));
    let columns =
        [("class", Kind::Text), ("photos", Kind::Number), ("recall", Kind::Number), ("precision", Kind::Number)];
    let mut table = Table::new("Recall and precision, class by class", &columns);
    let mut rows = Vec::new();
    for score in &scores {
        let [recall, precision] = [score.recall, score.precision].map(|value| Markup::from(share(value)));
        table.row([name(score.class), score.photos.to_string().into(), recall, precision]);
        let dot = |look, value: Option<f64>| value.map(|value| Dot { look, value, spread: None });
        let dots = [dot(Look::Other, score.precision), dot(Look::Main, score.recall)].into_iter().flatten().collect();
        rows.push(Row { name: score.class.to_owned(), dots, figure: share(score.recall), joined: false });
    }
    let drawn_of = drawn_of(&mut rows);
    let axis = Axis::new([0.0, 1.0], Rows::ACROSS, share_word);
    let about = "Recall is the share of a class's photos that was recognized; precision is the share of the photos taken for it that \
                 are its own.";
    let drawn = Rows { title: "Recall and precision, by class", about, rows, zero: None }.draw(&axis);
    let legend = [Look::Main.key(), "recall".into(), Look::Other.key(), "precision".into(), drawn_of];
    let said = match lowest {
        Some((recall, class)) if recall < 1.0 => paragraph(
            Markup::from("The lowest recall is that of ").then(name(class)).then(format!(": {}.", percent(recall))),
        ),
        _ => paragraph("Every photo was recognized."),
    };
    let body = [said, paragraph(about), beside(figure(drawn, legend.into_iter().collect::<Markup>()), table.markup())];
    Section::new("classes", "Class by class", body)
}

/// Which classes are taken for which, and the photos behind the wrong cells.
pub(crate) fn confusion(evaluation: &Evaluation, album: &mut Album<'_>) -> Section {
    let wrong = evaluation.confusion.wrong();
    let class = |class: usize| name(&evaluation.classes[class]);
    let said = match wrong.first() {
        None => paragraph("No photo was taken for another class."),
        Some((first, guess, photos)) => paragraph(
            [
                format!(
                    "{} of {} taken for another class. Most often ",
                    wrong.iter().map(|cell| cell.2).sum::<usize>(),
                    were(evaluation.n)
                )
                .into(),
                class(*first),
                " was taken for ".into(),
                class(*guess),
                format!(": {}.", count(*photos, "photo")).into(),
            ]
            .into_iter()
            .collect::<Markup>(),
        ),
    };
    let groups: Vec<_> =
        wrong.iter().take(MOST_REPORT_CELLS).map(|cell| (*cell, behind(evaluation, *cell, album))).collect();
    let linked = |row: usize, column: usize| {
        groups.iter().any(|((c, g, _), photos)| (*c, *g) == (row, column) && !photos.is_empty())
    };
    let overview = if evaluation.classes.len() <= MOST_REPORT_MATRIX {
        matrix(evaluation, linked)
    } else {
        let columns = [("class", Kind::Text), ("taken for", Kind::Text), ("photos", Kind::Number)];
        let listed = wrong.len().min(MOST_REPORT_CELLS);
        let mut table = Table::new(format!("The most frequent confusions ({listed} of {})", wrong.len()), &columns);
        wrong
            .iter()
            .take(listed)
            .for_each(|(c, guess, photos)| table.row([class(*c), class(*guess), photos.to_string().into()]));
        if table.is_empty() { Markup::default() } else { table.markup() }
    };
    let shown = groups.into_iter().filter(|(_, photos)| !photos.is_empty()).map(|((of, guess, photos), list)| {
        let words = [class(of), " taken for ".into(), class(guess), format!(": {}", count(photos, "photo")).into()];
        let heading = tag("h3").with("id", format_args!("taken-{}-{}", of + 1, guess + 1)).all(words);
        tag("div").holding(heading.line().then(list)).line()
    });
    let behind: Vec<Markup> = shown.collect();
    let behind = if behind.is_empty() { Markup::default() } else { tag("div").class("cells").all(behind).line() };
    let more = "The photos behind the wrong cells, as the network sees them; of each cell those with the largest loss.";
    let intro = if behind.is_empty() { Markup::default() } else { paragraph(more) };
    Section::new("confusion", "Which classes are taken for which", [said, overview, intro, behind])
}

fn were(photos: usize) -> String {
    format!("{} {}", count(photos, "photo"), if photos == 1 { "was" } else { "were" })
}

/// Rows by true class, columns by guess.
fn matrix(evaluation: &Evaluation, linked: impl Fn(usize, usize) -> bool) -> Markup {
    let scores = evaluation.per_class();
    let known: Vec<usize> =
        (0..scores.len()).filter(|&at| scores[at].recall.or(scores[at].precision).is_some()).collect();
    // Long names would make columns that are wider than their figures; numbers stand for them.
    let is_numbered = known.iter().any(|&at| evaluation.classes[at].chars().count() > LONGEST_IN_COLUMN);
    let column = |at: usize| tag("th").with("scope", "col").with("abbr", &evaluation.classes[at]);
    let head = known.iter().map(|&at| match is_numbered {
        true => column(at).holding((at + 1).to_string()),
        false => column(at).all([name(&evaluation.classes[at])]),
    });
    let head = [tag("th").with("scope", "col").holding("true class")].into_iter().chain(head);
    let rows = known.iter().map(|&row| {
        let cells = known.iter().map(|&column| {
            let photos = evaluation.confusion.cell(row, column);
            match photos {
                0 => tag("td").class("none").holding("0"),
                _ if row == column => tag("td").class("right").holding(photos.to_string()),
                _ if linked(row, column) => {
                    let link = tag("a").with("href", format_args!("#taken-{}-{}", row + 1, column + 1));
                    tag("td").class("wrong").holding(link.holding(photos.to_string()))
                }
                _ => tag("td").class("wrong").holding(photos.to_string()),
            }
        });
        let class = name(&evaluation.classes[row]);
        let heading = match is_numbered {
            true => tag("span").class("no").holding((row + 1).to_string()).then(" ").then(class),
            false => class,
        };
        tag("tr").all([tag("th").with("scope", "row").holding(heading)].into_iter().chain(cells)).line()
    });
    let caption = match is_numbered {
        true => "Photos by true class (rows) and by what they were taken for (columns, numbered as the rows)",
        false => "Photos by true class (rows) and by what they were taken for (columns)",
    };
    let parts =
        [tag("caption").holding(caption), tag("thead").holding(tag("tr").all(head)).line(), tag("tbody").all(rows)];
    scrolling(caption, true, tag("table").class("matrix").all(parts))
}

/// The photos of a cell, as a list.
fn behind(evaluation: &Evaluation, (class, guess, _): (usize, usize, usize), album: &mut Album<'_>) -> Markup {
    let photos = evaluation.wrong.iter().filter(|wrong| (wrong.class, wrong.guess) == (class, guess));
    let shown = photos.take(MOST_BEHIND).filter_map(|wrong| {
        let parts = [album.show(&wrong.picture)?, tag("span").all([name(called(&wrong.picture))])];
        Some(tag("li").all(parts).line())
    });
    let shown: Vec<Markup> = shown.collect();
    if shown.is_empty() { Markup::default() } else { tag("ul").class("photos").all(shown).line() }
}

/// The photos with the largest loss.
pub(crate) fn worst(evaluation: &Evaluation, album: &mut Album<'_>) -> Option<Section> {
    let shown = evaluation.wrong.iter().take(MOST_REPORT_WORST).filter_map(|wrong| {
        let Wrong { picture, class, guess, probability, loss } = wrong;
        let words = [
            "is ".into(),
            name(&evaluation.classes[*class]),
            ", taken for ".into(),
            name(&evaluation.classes[*guess]),
            format!(" with {}", percent(f64::from(*probability))).into(),
        ];
        let lines = [
            album.show(picture)?,
            tag("strong").holding(format!("loss {loss:.2}")),
            tag("span").all(words),
            tag("span").all([name(called(picture))]),
        ];
        Some(tag("li").all(lines).line())
    });
    let shown: Vec<Markup> = shown.collect();
    let first = evaluation.wrong.first().filter(|_| !shown.is_empty())?;
    let said = format!(
        "The loss is -ln of how likely the classifier held the true class to be; the largest is {:.2}. A photo up here is hard, or lies in \
         the wrong folder.",
        first.loss
    );
    let list = tag("ol").class("photos").all(shown).line();
    Some(Section::new("worst", "Worst mistakes", [paragraph(said), list]))
}

/// Photos that did not count.
pub(crate) fn not_used(quarantined: &[Quarantined], ignored: &[Ignored]) -> Option<Section> {
    let mut parts = Vec::new();
    if !quarantined.is_empty() {
        let photos = count(quarantined.len(), "photo");
        parts.push(paragraph(format!("{photos} could not be read and did not count.")));
        let mut table = Table::new("Photos that could not be read", &[("photo", Kind::Text), ("why", Kind::Text)]);
        quarantined.iter().for_each(|photo| table.row([name(&photo.path), photo.reason.as_str().into()]));
        parts.push(table.markup());
    }
    parts.extend(ignored.iter().map(|format| paragraph(format!("{format}."))));
    (!parts.is_empty()).then(|| Section::new("unused", "Photos that were not used", parts))
}
