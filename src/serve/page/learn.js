// Learn: what there is, what a lesson takes, how it goes, and what has come of it.

import { device } from "./device.js";
import { chart, count, doing, el, percent, say, size, time } from "./parts.js";

const ENOUGH = 10;
const FEW = 5;

let before, during, after, leftOver;
let classes = [];
let plan = null;
let planned = "";
let lesson = null;
let isOpen = false;
let shownCell = null;
let shownOutcome = "";

export const learn = {
  title: "Learn",
  lead: "A lesson makes of photos what the device knows. It counts only if it is no worse than what was there.",

  build(section) {
    leftOver = el("div", { class: "note", hidden: true });
    before = el("div", { class: "card" });
    during = el("div", { class: "card", hidden: true });
    after = el("div", { class: "card", hidden: true });
    section.append(leftOver, during, after, before);
  },

  state(now) {
    lesson = now.lesson;
    if (isOpen) draw();
  },

  async enter() {
    isOpen = true;
    await load();
  },

  leave() {
    isOpen = false;
  },

  changed: () => load(),

  lesson(now) {
    const wasRunning = lesson?.running;
    lesson = now;
    if (!isOpen) return;
    draw();
    if (wasRunning && !now.running) load().catch((error) => say(error.message));
  },
};

async function load() {
  classes = await device.classes();
  draw();
  const key = JSON.stringify(classes.map(({ name, photos, learned }) => [name, photos, learned]));
  if (!lesson?.running && isTrainable() && planned !== key) {
    planned = key;
    plan = null;
    draw();
    try {
      plan = await device.plan();
    } catch (error) {
      plan = { fault: error.message };
      // Once whatever stood in the way has gone, it is asked for again.
      planned = "";
    }
    if (isOpen) draw();
  }
}

const withPhotos = () => classes.filter(({ photos }) => photos > 0);
const isTrainable = () => withPhotos().length >= 2 || (withPhotos().length === 1 && classes.some(({ learned }) => learned));

function draw() {
  if (!lesson) return;
  drawLeft();
  drawDuring();
  drawAfter();
  drawBefore();
}

function drawLeft() {
  const left = lesson.left;
  leftOver.hidden = !left || lesson.running;
  if (leftOver.hidden || leftOver.contains(document.activeElement)) return;
  leftOver.replaceChildren(
    el("h2", {}, "A lesson is not finished"),
    el("p", {}, left.step === null
      ? `It was cut off before its first step, on ${count(left.photos, "photo")}.`
      : `It stands after step ${left.step}, on ${count(left.photos, "photo")}. It goes on as if it had never stopped.`),
    el("div", { class: "row" },
      el("button", { class: "main", onclick: ({ currentTarget }) => doing(currentTarget, () => device.learn({ resume: true })) }, "Go on with it"),
      el("button", { onclick: ({ currentTarget }) => doing(currentTarget, device.stop) }, "Let it go")));
}

/** How far photos of a class go, in words: colour alone would tell nobody who does not see it. */
function enough({ photos, learned }) {
  if (photos === 0) return learned ? "learned before; no photos here" : "needs photos";
  if (photos === 1) return "one more, at least";
  if (photos < FEW) return "works, more is better";
  return photos < ENOUGH ? "fair" : photos < 2 * ENOUGH ? "good" : "very good";
}

function drawBefore() {
  before.hidden = lesson.running;
  if (before.hidden || before.contains(document.activeElement)) return;
  if (classes.length === 0) {
    before.replaceChildren(el("h2", {}, "There is nothing to learn yet"), el("p", { class: "quiet" }, "Collect photos of two classes first."),
      el("div", { class: "row" }, el("a", { class: "button main", href: "#collect" }, "Collect photos")));
    return;
  }
  const rows = classes.map((known) => el("tr", {}, el("th", { scope: "row" }, known.name), el("td", { class: "number" }, String(known.photos)), el("td", {}, enough(known))));
  const table = el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Class"), el("th", { scope: "col", class: "number" }, "Photos"), el("th", { scope: "col" }, "Enough?"))), el("tbody", {}, rows));
  const photos = classes.reduce((sum, known) => sum + known.photos, 0);
  before.replaceChildren(
    el("h2", {}, `${count(photos, "photo")} of ${count(withPhotos().length, "class", "classes")}`), table,
    isTrainable() ? forecast() : el("p", { class: "quiet" }, "A lesson tells at least two classes apart: collect photos for another one."),
    el("button", { class: "main big", disabled: !isTrainable(), onclick: ({ currentTarget }) => doing(currentTarget, begin) }, "Learn"));
}

async function begin() {
  document.activeElement?.blur();
  await device.learn();
  document.getElementById("title-learn").focus({ preventScroll: true });
}

function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function forecast() {
  if (!plan) return el("p", { class: "quiet" }, "Working out what it will take…");
  if (plan.fault) return el("p", { class: "note bad" }, plan.fault);
  return facts([["takes about", time(plan.seconds)], ["memory", plan.peak_rss_bytes ? size(plan.peak_rss_bytes) : "–"], ["writes to the card", size(plan.write_bytes)]]);
}

function drawDuring() {
  during.hidden = !lesson.running;
  if (during.hidden) return;
  if (!during.firstChild) {
    during.append(
      el("h2", {}), el("progress", { "aria-label": "How far the lesson is" }), el("p", { class: "quiet" }), el("div", {}),
      el("p", { class: "row small quiet" }, el("span", { class: "key" }, "photos right"), el("span", { class: "key loss" }, "loss")),
      el("button", { class: "big", onclick: ({ currentTarget }) => doing(currentTarget, device.stop) }, "Stop"));
  }
  const [title, bar, words, drawn, keys, stop] = during.children;
  const isOver = lesson.steps > 0 && lesson.step >= lesson.steps;
  const steps = lesson.step > 0 && !isOver;
  const phase = lesson.phase ? `: ${lesson.phase}` : "";
  title.textContent = lesson.stopping ? "Stopping…" : steps ? "Learning" : isOver ? `Nearly done${phase}` : `Getting ready${phase}`;
  bar.max = steps ? lesson.steps : Math.max(1, lesson.total);
  bar.value = steps ? lesson.step : lesson.done;
  const left = lesson.seconds_left === null ? "" : `, about ${time(lesson.seconds_left)} left`;
  words.textContent = steps
    ? `Step ${lesson.step} of ${lesson.steps}${left}. ${percent(lesson.accuracy)} of the last photos right. You can go on using the device.`
    : `${lesson.total ? `${lesson.done} of ${lesson.total}. ` : ""}You can go on using the device.`;
  drawn.replaceChildren(lesson.step > 0 ? chart(lesson.history, lesson.steps) : "");
  keys.hidden = lesson.step === 0;
  stop.disabled = lesson.stopping;
}

function drawAfter() {
  const last = lesson.last;
  after.hidden = !last || lesson.running;
  if (after.hidden) {
    shownOutcome = "";
    return;
  }
  // What was tapped on stays as it is for as long as the lesson is the same.
  const key = [last.sentence, last.report?.generation, last.report?.aside, last.report?.seconds].join();
  if (key === shownOutcome) return;
  shownOutcome = key;
  shownCell = null;
  const { report, review } = last;
  const parts = [el("h2", {}, last.stopped ? "Stopped" : last.kept ? "Learned" : report ? "Not taken" : "It did not work"), el("p", { class: "verdict", role: "status" }, last.sentence)];
  if (report) {
    parts.push(facts([
      ...(last.after === null ? [] : [["before", percent(last.before)], ["after", percent(last.after)]]), ["took", time(report.seconds)],
      ["memory", report.peak_rss_bytes ? size(report.peak_rss_bytes) : "–"]]));
    for (const { path, reason } of report.quarantined.slice(0, 5)) {
      parts.push(el("p", { class: "note bad small" }, `A photo could not be read: ${path.split("/").at(-1)} (${reason})`));
    }
    if (report.aside !== null) {
      parts.push(el("div", { class: "row" }, el("button", { onclick: ({ currentTarget }) => doing(currentTarget, async () => {
        await device.rollback(report.aside);
        say("The lesson counts now. Undo leads back.");
      }) }, "Take it all the same")));
    }
  }
  if (review?.held_back?.length) {
    parts.push(...matrix(review.held_back, review.classes, "On photos that it had not seen"));
  } else if (review?.left_out?.length) {
    parts.push(...matrix(review.left_out, review.classes, "Its own photos, compared with each other",
      "From 20 photos of each class on, some are held back to judge a lesson by."));
  }
  if (review?.doubtful.length) parts.push(...doubts(review.doubtful));
  if (report) parts.push(el("div", { class: "row" },
    last.kept ? el("a", { class: "button main", href: "#see" }, "See it at work") : null,
    el("a", { class: "button", href: "/api/report.html", download: "lesson.html" }, "Save a report")));
  after.replaceChildren(...parts);
}

/** Which classes were taken for which; behind each number are its photos. */
function matrix(photos, names, title, more = "") {
  const of = (own, guess) => photos.filter((photo) => photo.class === own && photo.guess === guess);
  const rows = names.filter((name) => photos.some((photo) => photo.class === name));
  const behind = el("div", { "aria-live": "polite" });
  const cell = (own, guess) => {
    const found = of(own, guess);
    if (!found.length) return el("td", {}, el("span", { class: "none" }, el("span", { "aria-hidden": "true" }, "·"), el("span", { class: "unseen" }, "none")));
    const what = own === guess ? `${count(found.length, "photo")} of ${own}, recognized` : `${count(found.length, "photo")} of ${own}, taken for ${guess}`;
    return el("td", {}, el("button", {
      class: own === guess ? "right" : "wrong", "aria-label": `${what}: show`, onclick: () => {
        const key = `${own}\0${guess}`;
        shownCell = shownCell === key ? null : key;
        behind.replaceChildren(...(shownCell ? [el("p", { class: "small quiet" }, what), el("ul", { class: "grid" },
          found.map(({ id }) => el("li", {}, el("span", { class: "thumb" }, el("img", { src: device.photo(id), alt: what, loading: "lazy" })))))] : []));
      },
    }, String(found.length)));
  };
  const table = el("table", { class: "matrix" },
    el("thead", {}, el("tr", {}, el("td", {}), names.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((own) => el("tr", {}, el("th", { scope: "row" }, own), names.map((guess) => cell(own, guess))))));
  return [el("h2", {}, title),
    el("p", { class: "small quiet" }, `A row is what a photo shows, a column what it was taken for. Tap a number to see its photos. ${more}`),
    el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Which class was taken for which" }, table), behind];
}

/** Photos that look like another class: often they lie in the wrong folder. */
function doubts(list) {
  const one = ({ id, class: own, guess }) => {
    const row = el("div", { class: "doubt" },
      el("img", { src: device.photo(id), alt: `A photo of ${own} that looks like ${guess}`, loading: "lazy" }),
      el("div", {}, el("p", {}, `Filed under ${own}, looks like ${guess}.`),
        el("div", { class: "row" },
          el("button", { onclick: ({ currentTarget }) => doing(currentTarget, async () => {
            await device.movePhotos([id], guess);
            row.replaceChildren(el("p", { class: "quiet" }, `Moved to ${guess}. The next lesson learns it so.`));
          }) }, `It is ${guess}`),
          el("button", { class: "plain-button danger", onclick: ({ currentTarget }) => doing(currentTarget, async () => {
            await device.removePhotos([id]);
            row.replaceChildren(el("p", { class: "quiet" }, "Deleted."));
          }) }, "Delete"),
          el("button", { class: "plain-button", onclick: () => row.remove() }, "It is right"))));
    return row;
  };
  return [el("h2", {}, "Perhaps filed wrongly"), el("p", { class: "small quiet" }, "These look more like another class than like the rest of their own."), ...list.slice(0, 6).map(one)];
}
