// The page: four views, one at a time.

import { device, happenings, listen } from "./device.js";
import { el, percent, say } from "./parts.js";
import { fitTo } from "./picture.js";
import { collect } from "./collect.js";
import { learn } from "./learn.js";
import { see } from "./see.js";
import { undo } from "./undo.js";

const views = { see, collect, learn, undo };
let open = null;

function show() {
  const asked = location.hash.slice(1).split("/")[0];
  if (asked === "main") return;
  const name = asked in views ? asked : "see";
  if (name === open) return;
  if (open) views[open].leave?.();
  const isFirst = open === null;
  open = name;
  for (const other of Object.keys(views)) {
    document.getElementById(`view-${other}`).hidden = other !== name;
    const tab = document.querySelector(`.tabs a[href="#${other}"]`);
    if (other === name) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  const title = document.getElementById(`title-${name}`);
  document.title = `${title.textContent} – srlora`;
  window.scrollTo(0, 0);
  if (!isFirst) title.focus({ preventScroll: true });
  Promise.resolve(views[name].enter()).catch((error) => say(error.message));
}

/** What counts now, in the upper corner. */
function tellNow(state) {
  const now = document.getElementById("now");
  const { lesson, known } = state;
  if (lesson.running) {
    const share = lesson.steps ? lesson.step / lesson.steps : 0;
    now.textContent = `Learning, ${percent(share)}`;
  } else if (known.generation !== null) {
    now.textContent = `Generation ${known.generation}`;
  } else {
    now.textContent = "Nothing learned yet";
  }
}

let state = null;
/** How the lesson stands, as was told last. */
let newest = null;

/** Events and answers come on ways of their own, so an older one may come later: what is newer counts. */
function newer(lesson) {
  if (newest === null || !(lesson.at < newest.at)) newest = lesson;
  return newest;
}

async function refresh() {
  state = await device.state();
  state.lesson = newer(state.lesson);
  fitTo(state.input);
  tellNow(state);
  for (const view of Object.values(views)) view.state?.(state);
}

function tellUnpaired(why) {
  document.getElementById("main").replaceChildren(el("div", { class: "note bad" }, el("h1", {}, "Not paired"), el("p", {}, why)));
}

async function begin() {
  for (const [name, view] of Object.entries(views)) {
    const section = document.getElementById(`view-${name}`);
    section.append(el("div", {}, el("h1", { id: `title-${name}`, tabindex: "-1" }, view.title), el("p", { class: "lead" }, view.lead)));
    view.build(section);
  }
  try {
    await refresh();
  } catch (error) {
    if (error.status === 401) {
      tellUnpaired(error.message);
      return;
    }
    say(error.message);
  }
  let isGone = false;
  happenings.addEventListener("hello", () => {
    if (isGone) say("The device is back.");
    isGone = false;
    // It may have been started again, with a clock of its own.
    newest = null;
    refresh().then(() => views[open]?.changed?.()).catch(() => {});
  });
  happenings.addEventListener("gone", () => {
    if (!isGone) say("The device does not answer. The page tries again by itself.");
    isGone = true;
  });
  happenings.addEventListener("unpaired", () => tellUnpaired("The device has another token now. Open the address that srlora serve has printed, or scan its code."));
  for (const name of ["known", "photos", "generations"]) {
    happenings.addEventListener(name, () => refresh().then(() => views[open]?.changed?.(name)).catch(() => {}));
  }
  happenings.addEventListener("lesson", ({ detail }) => {
    const lesson = newer(detail);
    if (!state || lesson !== detail) return;
    state.lesson = lesson;
    tellNow(state);
    for (const view of Object.values(views)) view.lesson?.(lesson);
  });
  window.addEventListener("hashchange", show);
  show();
  listen();
}

begin();
