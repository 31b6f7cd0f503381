// Collect: photos of each class, from the live picture, a phone, or folders.

import { device, Refused } from "./device.js";
import { askName, choose, confirm, count, doing, el, hear, say, size } from "./parts.js";
import { Live, fileButton, hasOwnCamera, small } from "./picture.js";

/** Between two photos while the button is held: fewer would look all the same. */
const EVERY = 300;
/** Photos that are on their way at the same time. */
const AT_ONCE = 2;

let chips, panel, stage, live, hold, from, fromFiles, grid, tools, room, held, menu, empty, panelTitle, panelInfo;
let classes = [];
let photos = [];
let chosen = null;
let state = null;
let isOpen = false;
const selected = new Set();

export const collect = {
  title: "Collect",
  lead: "Ten photos of each class are a good start. Twenty are better.",

  build(section) {
    chips = el("div", { class: "chips", role: "group", "aria-label": "Classes" });
    empty = el("div", { class: "card" },
      el("h2", {}, "What should it learn to tell apart?"),
      el("p", { class: "quiet" }, "Make a class for each thing: two at least."),
      el("div", { class: "row" }, el("button", { class: "main", onclick: ({ currentTarget }) => doing(currentTarget, make) }, "Make a class")));
    stage = el("div", { class: "stage" });
    live = new Live(stage);
    hold = el("button", { class: "main big hold", type: "button" });
    wireHold();
    from = el("div", { class: "row" });
    grid = el("ul", { class: "grid", "aria-label": "Photos" });
    tools = el("div", { class: "tools row", hidden: true });
    panelTitle = el("h2", {});
    panelInfo = el("p", { class: "quiet small" });
    menu = el("div", { class: "row" },
      el("button", { class: "plain-button", onclick: ({ currentTarget }) => doing(currentTarget, rename) }, "Rename"),
      el("button", { class: "plain-button danger", onclick: ({ currentTarget }) => doing(currentTarget, remove) }, "Delete"));
    panel = el("div", { class: "card", hidden: true },
      el("div", { class: "head" }, el("div", {}, panelTitle, panelInfo), menu), stage, hold, from, grid);
    room = el("p", { class: "quiet small" });
    const drop = el("p", { class: "drop" }, "On a computer: drop photos here, or folders. Each folder becomes a class.");
    wireDrop(section, drop);
    section.append(chips, empty, panel, tools, drop, room);
  },

  state(now) {
    state = now;
    room.textContent = `${count(now.photos, "photo")} take ${size(now.photos_bytes)} of the ${size(now.photos_limit_bytes)} that they may.`;
    if (isOpen) tellFrom();
  },

  async enter() {
    isOpen = true;
    await load();
    const asked = decodeURIComponent(location.hash.split("/")[1] ?? "");
    if (classes.some(({ name }) => name === asked)) await pick(asked);
    else if (classes.length && !chosen) await pick(classes[0].name);
    else if (chosen) watch();
  },

  leave() {
    isOpen = false;
    letGo();
    live.end();
  },

  // While photos are collected, nothing but their grid moves.
  changed: () => (held ? list() : load()),
};

async function load() {
  classes = await device.classes();
  if (!classes.some(({ name }) => name === chosen)) chosen = null;
  draw();
  if (chosen) await list();
}

function draw() {
  const focused = document.activeElement?.dataset?.name;
  chips.replaceChildren(
    el("button", { class: "chip", type: "button", onclick: ({ currentTarget }) => doing(currentTarget, make) }, "+ New class"),
    ...classes.map(({ name, photos: n }) => el("button", {
    class: "chip", type: "button", "aria-pressed": String(name === chosen), "data-name": name, onclick: () => pick(name).catch((e) => say(e.message)),
  }, el("span", {}, name), el("span", { class: "count" }, String(n), el("span", { class: "unseen" }, n === 1 ? " photo" : " photos")))));
  if (focused) [...chips.children].find((chip) => chip.dataset.name === focused)?.focus();
  chips.hidden = classes.length === 0;
  empty.hidden = classes.length > 0;
  panel.hidden = chosen === null;
  tellClass();
}

function tellClass() {
  const found = classes.find(({ name }) => name === chosen);
  if (!found) return;
  panelTitle.textContent = found.name;
  const how = found.learned ? "learned" : found.imprinted ? "works already; a lesson makes it better" : "needs photos";
  panelInfo.textContent = `${count(found.photos, "photo")} · ${how}`;
}

async function pick(name) {
  chosen = name;
  selected.clear();
  draw();
  chips.querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  watch();
  await list();
}

async function list() {
  const name = chosen;
  const found = await device.photos(name).catch((error) => {
    if (error instanceof Refused && error.status === 404) return [];
    throw error;
  });
  if (name !== chosen) return;
  photos = found;
  const there = new Set(photos.map(({ id }) => id));
  for (const id of selected) if (!there.has(id)) selected.delete(id);
  // Those that are there already stay, so that nothing flickers and the focus stays where it is.
  const old = new Map([...grid.children].map((item) => [item.dataset.id, item]));
  grid.replaceChildren(...photos.map(({ id }, nth) => {
    const item = old.get(id) ?? tile(id);
    item.firstChild.setAttribute("aria-label", `Photo ${photos.length - nth} of ${name}`);
    item.firstChild.setAttribute("aria-pressed", String(selected.has(id)));
    return item;
  }));
  const known = classes.find((known) => known.name === name);
  if (known && known.photos !== photos.length) {
    known.photos = photos.length;
    if (held) tellClass();
    else draw();
  }
  drawTools();
}

function tile(id) {
  return el("li", { "data-id": id }, el("button", {
    class: "thumb", type: "button", onclick: ({ currentTarget }) => {
      if (!selected.delete(id)) selected.add(id);
      currentTarget.setAttribute("aria-pressed", String(selected.has(id)));
      drawTools();
    },
  }, el("img", { src: device.photo(id), alt: "", loading: "lazy", decoding: "async" })));
}

function drawTools() {
  const n = selected.size;
  tools.hidden = n === 0;
  if (n === 0) return;
  tools.replaceChildren(
    el("strong", {}, `${n} chosen`),
    el("button", { onclick: ({ currentTarget }) => doing(currentTarget, moveChosen) }, "Move to…"),
    el("button", { class: "danger", onclick: ({ currentTarget }) => doing(currentTarget, removeChosen) }, "Delete"),
    el("button", { class: "plain-button", onclick: () => { photos.forEach(({ id }) => selected.add(id)); list(); } }, "All"),
    el("button", { class: "plain-button", onclick: () => { selected.clear(); list(); } }, "None"));
}

async function make() {
  const name = await askName("New class", "What is it called?", "Make it");
  if (!name) return;
  const made = await device.makeClass(name);
  await load();
  await pick(made.name);
  hold.hidden ? panelTitle.scrollIntoView({ block: "nearest" }) : hold.focus();
}

async function rename() {
  const name = await askName(`Rename ${chosen}`, "New name. The name of another class joins both.", "Rename", chosen);
  if (!name || name === chosen) return;
  const { name: now, forgotten } = await device.renameClass(chosen, name);
  if (forgotten) say(`${now} is known by its photos, until the next lesson learns it under this name.`);
  chosen = now;
  await load();
}

async function remove() {
  const found = classes.find(({ name }) => name === chosen);
  if (found.learned && !found.photos) {
    if (!(await confirm(`Forget ${chosen}?`, "It has no photos any more, and is no longer recognized then.", "Forget"))) return;
    await device.forget(chosen);
    chosen = null;
    await load();
    if (classes.length) await pick(classes[0].name);
    return;
  }
  const learned = found.learned ? " What was learned of it stays until you forget it, under Undo." : "";
  if (!(await confirm(`Delete ${chosen}?`, `Its ${count(found.photos, "photo")} cannot be brought back.${learned}`, "Delete"))) return;
  await device.removeClass(chosen).catch((error) => { if (error.status !== 404) throw error; });
  chosen = null;
  live.end();
  await load();
  if (classes.length) await pick(classes[0].name);
}

async function moveChosen() {
  const others = classes.map(({ name }) => name).filter((name) => name !== chosen);
  if (!others.length) {
    say("There is no other class yet. Make one first.");
    return;
  }
  const to = await choose(`Move ${count(selected.size, "photo")} to`, others, "Move");
  if (!to) return;
  const ids = [...selected];
  await device.movePhotos(ids, to);
  selected.clear();
  say(`${count(ids.length, "photo")} moved to ${to}.`);
  await load();
}

async function removeChosen() {
  if (!(await confirm(`Delete ${count(selected.size, "photo")}?`, "They cannot be brought back.", "Delete"))) return;
  await device.removePhotos([...selected]);
  selected.clear();
  await load();
}

/** Shows the camera that there is, and what else photos can come from. */
function watch() {
  if (state?.camera && !live.kind) live.fromDevice();
  tellFrom();
}

function tellFrom() {
  const hasLive = live.kind !== null;
  stage.hidden = !hasLive;
  hold.hidden = !hasLive;
  if (!held) hold.textContent = "Hold to collect";
  const browser = hasOwnCamera() && live.kind !== "browser"
    ? el("button", { onclick: ({ currentTarget }) => doing(currentTarget, async () => {
      await live.fromBrowser().catch(() => { throw new Error("The browser does not give its camera. Allow it in the address bar, and try again."); });
      tellFrom();
    }) }, "Use this browser's camera")
    : null;
  const own = state?.camera && live.kind === "browser"
    ? el("button", { onclick: () => { live.fromDevice(); tellFrom(); } }, "Use the device's camera")
    : null;
  fromFiles ??= [fileButton("Take photos", { capture: true }, (files) => send(files.map((file) => [chosen, file]))),
    fileButton("Choose photos", {}, (files) => send(files.map((file) => [chosen, file])))];
  fromFiles[0].classList.toggle("main", !hasLive);
  if (!from.contains(document.activeElement)) from.replaceChildren(...fromFiles, ...[browser, own].filter(Boolean));
}

/** Holding the button collects; so does Space or Enter. A single click, as a screen reader makes it, takes one photo. */
function wireHold() {
  hold.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    hold.setPointerCapture(event.pointerId);
    hold.focus();
    begin();
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) hold.addEventListener(name, letGo);
  hold.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) begin();
  });
  hold.addEventListener("keyup", (event) => { if (event.key === " " || event.key === "Enter") letGo(); });
  hold.addEventListener("click", (event) => { if (event.detail === 0 && !held) begin().then(letGo); });
  hold.addEventListener("contextmenu", (event) => event.preventDefault());
}

async function begin() {
  if (held) return;
  const mine = { name: chosen, taken: 0 };
  held = mine;
  hold.classList.add("on");
  do {
    const wait = new Promise((done) => setTimeout(done, EVERY));
    try {
      const came = await live.collect(mine.name);
      if (came?.new) mine.taken += 1;
      hold.textContent = `Collecting: ${mine.taken}`;
    } catch (error) {
      say(error.message);
      break;
    }
    if (held === mine) await wait;
  } while (held === mine);
  if (held === mine) letGo();
  hear(`${count(mine.taken, "photo")} collected`);
  if (isOpen) await load().catch((error) => say(error.message));
}

function letGo() {
  held = null;
  hold.classList.remove("on");
  hold.textContent = "Hold to collect";
}

/** Sends photos, a few at a time; what is not taken is said at the end. */
async function send(pairs) {
  const total = pairs.length;
  let done = 0;
  const faults = [];
  const waiting = [...pairs];
  const work = async () => {
    while (waiting.length) {
      const [name, file] = waiting.shift();
      try {
        await device.addPhoto(name, await small(file));
      } catch (error) {
        faults.push(`${file.name}: ${error.message}`);
        if (error.status === 507 || error.status === 0) waiting.length = 0;
      }
      done += 1;
      say(`${done} of ${count(total, "photo")} sent`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const good = done - faults.length;
  say(faults.length ? `${good} of ${total} taken. ${faults.slice(0, 2).join(" ")}${faults.length > 2 ? ` And ${faults.length - 2} more.` : ""}` : `${count(good, "photo")} taken.`);
  await load();
}

/** Photos and folders can be dropped anywhere on the view. */
function wireDrop(section, drop) {
  for (const name of ["dragenter", "dragover"]) {
    section.addEventListener(name, (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  section.addEventListener("dragleave", (event) => { if (!section.contains(event.relatedTarget)) drop.classList.remove("over"); });
  section.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const pairs = (await Promise.all(entries.map((entry) => found(entry, null)))).flat();
    const homeless = pairs.filter(([name]) => name === null);
    if (homeless.length && !chosen) {
      say("Make a class first, or drop a folder: its name becomes the class.");
      return;
    }
    if (!pairs.length) {
      say("There is no photo in that.");
      return;
    }
    await send(pairs.map(([name, file]) => [name ?? chosen, file]));
    if (!chosen && classes.length) await pick(classes[0].name);
  });
}

/** The photos of a dropped file or folder, each with the name of the folder that it lies in. */
async function found(entry, folder) {
  if (entry.isFile) {
    const file = await new Promise((done, fail) => entry.file(done, fail));
    return file.type.startsWith("image/") && !file.name.startsWith(".") ? [[folder, file]] : [];
  }
  const reader = entry.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) break;
    all.push(...some);
  }
  return (await Promise.all(all.map((inner) => found(inner, entry.name)))).flat();
}
