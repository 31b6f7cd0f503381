// Undo: the line of generations, a way back to each, and what can be forgotten or taken away.

import { device } from "./device.js";
import { confirm, count, date, doing, el, percent, say, size } from "./parts.js";

let line, classes, away;

export const undo = {
  title: "Undo",
  lead: "Everything that was learned can be taken back. Going back can be taken back, too.",

  build(section) {
    line = el("ol", { class: "line" });
    classes = el("div", { class: "card" });
    away = el("div", { class: "card" });
    section.append(el("div", { class: "card" }, el("h2", {}, "What the device has known"), line), classes, away);
  },

  enter: () => load(),
  changed: () => load(),
};

async function load() {
  const [{ generations, current }, known] = await Promise.all([device.generations(), device.classes()]);
  line.replaceChildren(...(generations.length ? generations.map((generation) => entry(generation, generations)) : [el("li", {}, el("p", { class: "quiet" }, "Nothing yet. The first lesson begins the line."))]));
  const learned = known.filter((one) => one.learned || one.photos > 0);
  classes.hidden = learned.length === 0;
  classes.replaceChildren(el("h2", {}, "Forget a class"), el("p", { class: "quiet small" }, "It leaves what was learned, and its photos are deleted."),
    el("div", { class: "row" }, learned.map(({ name, photos }) => el("button", { class: "danger", onclick: ({ currentTarget }) => doing(currentTarget, () => forget(name, photos)) }, `Forget ${name}`))));
  away.hidden = current === null;
  away.replaceChildren(el("h2", {}, "Take it with you"), el("p", { class: "quiet small" }, "Files for other programs and devices. They need no photos."),
    el("div", { class: "row" },
      el("a", { class: "button", href: "/api/store.tar", download: "store.tar" }, "What was learned (store)"),
      el("a", { class: "button", href: "/api/model.onnx", download: "model.onnx" }, "The network with it (ONNX)"),
      el("a", { class: "button", href: "/api/adapter.tar", download: "adapter.tar" }, "The adapter (PEFT)")),
    el("p", { class: "small" }, el("a", { href: "/api/openapi.json" }, "Description of the HTTP API")));
}

/** What a generation is, in words. */
function what(generation) {
  if (generation.forgot) return `Forgot ${generation.forgot}`;
  if (generation.aside) return "Lesson, kept aside";
  if (generation.steps === 0) return "Class means, before any training";
  return `Lesson of ${count(generation.steps, "step")}`;
}

function entry(generation, all) {
  const accuracy = generation.accuracy ?? all.find((other) => other.parent === generation.number && other.accuracy_before !== null)?.accuracy_before ?? null;
  const known = generation.classes.length > 6 ? `${generation.classes.slice(0, 6).join(", ")} and ${generation.classes.length - 6} more` : generation.classes.join(", ");
  const act = generation.aside ? "Take it all the same" : "Go back to this";
  return el("li", { class: `${generation.current ? "current" : ""} ${generation.aside ? "aside" : ""}`, "aria-current": generation.current ? "true" : undefined },
    el("div", { class: "what" },
      el("div", { class: "row" }, el("strong", {}, `${generation.number}. ${what(generation)}`), generation.current ? el("span", { class: "tag" }, "in use") : null),
      el("p", { class: "quiet small" }, [accuracy === null ? null : `${percent(accuracy)} right`, date(generation.written), size(generation.bytes ?? 0)].filter(Boolean).join(" · ")),
      el("p", { class: "small" }, known),
      generation.current ? null : el("div", { class: "row" }, el("button", {
        "aria-label": `${act}: ${generation.number}`, onclick: ({ currentTarget }) => doing(currentTarget, async () => {
          await device.rollback(generation.number);
          say(`The device knows again what it knew in ${generation.number}.`);
        }),
      }, act))));
}

async function forget(name, photos) {
  const text = `It is no longer recognized, and its ${count(photos, "photo")} are deleted. Earlier generations still know it until they leave.`;
  if (!(await confirm(`Forget ${name}?`, text, "Forget"))) return;
  await device.forget(name);
  say(`${name} is forgotten.`);
  await load();
}
