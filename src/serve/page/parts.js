// Small parts that the views are built of.

/** An element: `el("button", { class: "main", onclick: f }, "Learn")`. Nothing that comes from outside is ever read as HTML. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (typeof value === "boolean") made.toggleAttribute(key, value);
    else if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

let hides;
/** Says something at the lower edge of the page, and to screen readers. */
export function say(text) {
  const said = document.getElementById("said");
  said.textContent = text;
  clearTimeout(hides);
  hides = setTimeout(() => { said.textContent = ""; }, 3000 + 60 * text.length);
}

/** Says something to screen readers alone. */
export function hear(text) {
  document.getElementById("heard").textContent = text;
}

/** Runs what a button does: once at a time, and what goes wrong is said. */
export async function doing(button, work) {
  if (button.disabled) return undefined;
  button.disabled = true;
  try {
    return await work();
  } catch (error) {
    say(error.message);
    return undefined;
  } finally {
    button.disabled = false;
  }
}

function shown(dialog) {
  document.body.append(dialog);
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue);
    });
    dialog.showModal();
  });
}

/** Asks before something that is not easily undone; whether to do it. */
export async function confirm(title, text, act) {
  const dialog = el("dialog", { "aria-labelledby": "asked" },
    el("form", { method: "dialog" },
      el("h2", { id: "asked" }, title), el("p", { class: "quiet" }, text),
      el("div", { class: "row" },
        el("button", { value: "do", class: "danger" }, act),
        el("button", { value: "", autofocus: true }, "Cancel"))));
  return (await shown(dialog)) === "do";
}

/** Asks for a name; null where none is given. */
export async function askName(title, label, act, given = "") {
  const input = el("input", { type: "text", value: given, maxlength: "80", autocomplete: "off", autofocus: true, required: true });
  const dialog = el("dialog", { "aria-labelledby": "asked" },
    el("form", { method: "dialog" },
      el("h2", { id: "asked" }, title), el("label", {}, label, input),
      el("div", { class: "row" },
        el("button", { value: "do", class: "main" }, act),
        el("button", { value: "", formnovalidate: true }, "Cancel"))));
  const answer = await shown(dialog);
  return answer === "do" && input.value.trim() ? input.value.trim() : null;
}

/** Asks for one of several; null where none is chosen. */
export async function choose(title, names, act) {
  const select = el("select", { "aria-label": title, autofocus: true }, names.map((name) => el("option", { value: name }, name)));
  const dialog = el("dialog", { "aria-labelledby": "asked" },
    el("form", { method: "dialog" },
      el("h2", { id: "asked" }, title), select,
      el("div", { class: "row" },
        el("button", { value: "do", class: "main" }, act),
        el("button", { value: "" }, "Cancel"))));
  return (await shown(dialog)) === "do" ? select.value : null;
}

export const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(100 * share)} %`);

export const count = (n, noun, plural = `${noun}s`) => `${n} ${n === 1 ? noun : plural}`;

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < 3) {
    bytes /= 1024;
    unit += 1;
  }
  return `${bytes < 10 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

export function time(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function date(seconds) {
  if (!seconds) return "";
  return new Date(1000 * seconds).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

/** Classes with their probabilities; the same list is kept and moved, so that it does not flicker. */
export class Bars {
  constructor() {
    this.list = el("ol", { class: "bars", "aria-label": "What is recognized" });
    this.doubt = el("p", { class: "quiet small", hidden: true }, "It looks unlike the photos that the device has learned from: perhaps it is none of these.");
    this.said = "";
    this.saidAt = 0;
  }

  show(guess) {
    guess.top.forEach(({ label, probability }, nth) => {
      const bar = this.list.children[nth] ?? this.list.appendChild(el("li", { class: "bar" },
        el("span", { class: "name" }), el("span", { class: "share" }), el("span", { class: "track", "aria-hidden": "true" }, el("i"))));
      bar.classList.toggle("first", nth === 0);
      bar.children[0].textContent = label;
      bar.children[1].textContent = percent(probability);
      bar.children[2].firstChild.style.setProperty("--share", probability);
    });
    while (this.list.children.length > guess.top.length) this.list.lastChild.remove();
    this.doubt.hidden = !guess.unknown;
    const first = guess.top[0];
    // A screen reader hears of another class, and not of every picture.
    if (first && first.label !== this.said && Date.now() - this.saidAt > 2500) {
      [this.said, this.saidAt] = [first.label, Date.now()];
      hear(`${first.label}, ${percent(first.probability)}`);
    }
  }

  clear() {
    this.doubt.hidden = true;
    this.list.replaceChildren();
  }
}

const SVG = "http://www.w3.org/2000/svg";

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Loss and accuracy over the steps of a lesson. */
export function chart(history, steps) {
  const [width, height, left, right, top, bottom] = [420, 170, 34, 34, 10, 22];
  const svg = drawn("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img" });
  const most = Math.max(0.1, ...history.map(([, loss]) => loss));
  const x = (step) => left + (width - left - right) * (step / Math.max(1, steps));
  const y = (share) => top + (height - top - bottom) * (1 - Math.min(1, Math.max(0, share)));
  const last = history.at(-1);
  svg.setAttribute("aria-label", last ? `After step ${last[0]} of ${steps}: loss ${last[1].toFixed(2)}, ${percent(last[2])} of the photos right` : "No step yet");
  for (const share of [0, 0.5, 1]) {
    svg.append(drawn("line", { class: "axis", x1: left, x2: width - right, y1: y(share), y2: y(share) }));
    svg.append(drawn("text", { x: left - 5, y: y(share) + 4, "text-anchor": "end" }, `${100 * share}%`));
    svg.append(drawn("text", { x: width - right + 5, y: y(share) + 4 }, (most * share).toFixed(1)));
  }
  svg.append(drawn("text", { x: left, y: height - 4 }, "step 0"));
  svg.append(drawn("text", { x: width - right, y: height - 4, "text-anchor": "end" }, `${steps}`));
  const line = (name, of) => {
    const points = history.map((point) => `${x(point[0]).toFixed(1)},${y(of(point)).toFixed(1)}`).join(" ");
    svg.append(drawn("polyline", { class: name, points, fill: "none" }));
  };
  line("loss", ([, loss]) => loss / most);
  line("accuracy", ([, , accuracy]) => accuracy);
  return svg;
}
