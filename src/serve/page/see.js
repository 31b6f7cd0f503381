// See: the live picture, and what is recognized in it.

import { device, happenings } from "./device.js";
import { Bars, doing, el, say } from "./parts.js";
import { Live, fileButton, hasOwnCamera, small } from "./picture.js";

const bars = new Bars();
let stage, rate, empty, hint, choice, live, state;
let isOpen = false;
let shownPhoto = null;
let guessedAt = 0;

export const see = {
  title: "See",
  lead: "What the device recognizes, right now.",

  build(section) {
    rate = el("span", { class: "rate", hidden: true });
    empty = el("div", { class: "empty" });
    stage = el("div", { class: "stage" }, empty, rate);
    live = new Live(stage);
    hint = el("p", { class: "quiet" });
    choice = el("div", { class: "row" });
    // What was seen last is not what is there now.
    setInterval(() => {
      if (live.kind !== "device" || Date.now() - guessedAt < 4000) return;
      rate.hidden = true;
      bars.clear();
      tell();
    }, 4000);
    section.append(stage, el("div", { class: "card" }, bars.list, bars.doubt, hint), choice);
    happenings.addEventListener("guess", ({ detail }) => {
      if (!isOpen || live.kind !== "device") return;
      guessedAt = Date.now();
      bars.show(detail);
      hint.hidden = true;
      rate.hidden = false;
      rate.textContent = `${detail.fps.toFixed(detail.fps < 9.5 ? 1 : 0)} a second`;
    });
  },

  state(now) {
    state = now;
    if (isOpen) tell();
  },

  enter() {
    isOpen = true;
    if (!live.kind && !shownPhoto && state?.camera) live.fromDevice();
    tell();
  },

  leave() {
    isOpen = false;
    live.end();
    rate.hidden = true;
  },

  changed() {
    tell();
  },
};

/** What stands around the picture: it depends on the cameras that there are, and on what is known. */
function tell() {
  if (!state) return;
  const known = state.known.learned.length + state.known.imprinted.length;
  const hasLive = live.kind !== null;
  empty.hidden = hasLive || shownPhoto !== null;
  empty.replaceChildren(
    el("p", {}, state.camera ? "The camera starts when you look." : "This device has no camera of its own."),
    el("p", { class: "small" }, "Take a photo, or choose one, to see what it is taken for."));
  hint.hidden = bars.list.children.length > 0;
  hint.textContent = known === 0
    ? "There is no class yet. Collect some photos of two things, and they are recognized at once."
    : `${known === 1 ? "One class is" : `${known} classes are`} known. Show something to the camera, or take a photo.`;
  const buttons = [fileButton("Take a photo", { capture: true, multiple: false, main: !hasLive }, look), fileButton("Choose a photo", { multiple: false }, look)];
  if (state.camera && live.kind !== "device") {
    buttons.push(el("button", { onclick: () => { forgetPhoto(); live.fromDevice(); tell(); } }, "The device's camera"));
  }
  if (hasOwnCamera() && live.kind !== "browser") {
    buttons.push(el("button", { onclick: ({ currentTarget }) => doing(currentTarget, watchBrowser) }, "This browser's camera"));
  }
  if (!choice.contains(document.activeElement)) choice.replaceChildren(...buttons);
}

function forgetPhoto() {
  if (shownPhoto) {
    URL.revokeObjectURL(shownPhoto.src);
    shownPhoto.remove();
    shownPhoto = null;
  }
  stage.classList.remove("whole");
  bars.clear();
}

/** What a single photo shows. */
async function look([file]) {
  try {
    const photo = await small(file);
    live.end();
    forgetPhoto();
    shownPhoto = el("img", { src: URL.createObjectURL(photo), alt: "The photo that you have chosen" });
    stage.classList.add("whole");
    stage.prepend(shownPhoto);
    rate.hidden = true;
    const guess = await device.predict(photo);
    bars.show(guess);
    rate.textContent = `${Math.round(guess.ms)} ms`;
    rate.hidden = false;
  } catch (error) {
    say(error.message);
  }
  document.activeElement?.blur();
  tell();
}

/** Sends one picture after the other, as fast as answers come. */
async function watchBrowser() {
  try {
    await live.fromBrowser();
  } catch {
    say("The browser does not give its camera. Allow it in the address bar, and try again.");
    return;
  }
  forgetPhoto();
  tell();
  const times = [];
  while (live.kind === "browser") {
    const blob = await live.take();
    if (!blob) {
      await new Promise((done) => setTimeout(done, 100));
      continue;
    }
    try {
      const guess = await device.predict(blob);
      if (live.kind !== "browser") break;
      bars.show(guess);
      hint.hidden = true;
      times.push(performance.now());
      while (times.length > 10) times.shift();
      if (times.length > 1) {
        rate.hidden = false;
        rate.textContent = `${(1000 * (times.length - 1) / (times.at(-1) - times[0])).toFixed(1)} a second`;
      }
    } catch (error) {
      hint.hidden = false;
      hint.textContent = error.message;
      await new Promise((done) => setTimeout(done, 1500));
    }
  }
}
