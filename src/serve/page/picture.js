// Where pictures come from: the device's camera, the browser's, or files; and how they are made small.

import { device } from "./device.js";
import { el } from "./parts.js";

/** Shorter side of what is sent, in pixels: twice what most networks look at. A photo of a phone becomes twenty times smaller, and what it
 *  tells of place and time stays here. */
let side = 512;

export function fitTo([height, width]) {
  side = Math.max(384, 2 * Math.max(height, width));
}

async function drawnOn(source, width, height) {
  const scale = Math.min(1, side / Math.min(width, height));
  const canvas = el("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
  // A picture of few pixels would lose most of them to a JPEG's blocks.
  const kind = Math.min(canvas.width, canvas.height) < 160 ? "image/png" : "image/jpeg";
  return new Promise((done, fail) => canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error("This photo cannot be made small."))), kind, 0.9));
}

/** A photo as it is sent. What the browser cannot read is sent as it is: the device says what it is. */
export async function small(file) {
  let picture;
  try {
    picture = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return file;
  }
  try {
    return await drawnOn(picture, picture.width, picture.height);
  } finally {
    picture.close();
  }
}

/** The browser's own camera is for pages from a secure origin alone. */
export const hasOwnCamera = () => window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

/** A live picture, on a stage: of the device's camera or the browser's. Where the device's gives none, it says why. */
export class Live {
  constructor(stage) {
    this.stage = stage;
    this.kind = null;
    this.fault = el("p", { class: "fault", role: "status", hidden: true });
    stage.append(this.fault);
  }

  /** Asks now and then whether the camera gives pictures. */
  async watch() {
    const { camera } = await device.state().catch(() => ({}));
    if (this.kind !== "device") return;
    const why = camera?.fault ? `The camera gives no picture: ${camera.fault}. It is started again.` : "";
    this.fault.hidden = !why;
    // A screen reader reads it once, not every four seconds.
    if (this.fault.textContent !== why) this.fault.textContent = why;
    clearTimeout(this.watching);
    this.watching = setTimeout(() => this.watch(), 4000);
  }

  /** Shows the device's camera. */
  fromDevice() {
    this.end();
    this.kind = "device";
    this.shown = el("img", { src: `/api/stream?${Date.now()}`, alt: "The camera of the device, live" });
    // A stream that ends comes again.
    this.shown.addEventListener("error", () => {
      if (this.kind !== "device") return;
      clearTimeout(this.again);
      this.again = setTimeout(() => { if (this.kind === "device") this.shown.src = `/api/stream?${Date.now()}`; }, 1500);
    });
    this.stage.prepend(this.shown);
    this.watching = setTimeout(() => this.watch(), 1500);
  }

  /** Shows the browser's camera; the one that looks away from who holds the phone, where there is a choice. */
  async fromBrowser() {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } }, audio: false });
    this.end();
    this.kind = "browser";
    this.stream = stream;
    this.shown = el("video", { muted: true, playsinline: true, autoplay: true, "aria-label": "The camera of this browser, live" });
    this.shown.srcObject = stream;
    this.stage.prepend(this.shown);
    await this.shown.play().catch(() => {});
  }

  /** The picture of this moment; null where there is none yet. */
  async take() {
    if (this.kind !== "browser" || !this.shown.videoWidth) return null;
    return drawnOn(this.shown, this.shown.videoWidth, this.shown.videoHeight);
  }

  /** Collects the picture of this moment into a class. */
  async collect(name) {
    if (this.kind === "device") return device.addFromCamera(name);
    const blob = await this.take();
    return blob ? device.addPhoto(name, blob) : null;
  }

  end() {
    clearTimeout(this.again);
    clearTimeout(this.watching);
    this.fault.hidden = true;
    this.stream?.getTracks().forEach((track) => track.stop());
    if (this.shown) {
      // An image goes on to load for as long as it has an address.
      if (this.shown.tagName === "IMG") this.shown.removeAttribute("src");
      this.shown.remove();
    }
    [this.kind, this.stream, this.shown] = [null, null, null];
  }
}

/** A button that takes or chooses photos: phones over plain http can do that too. */
export function fileButton(text, { capture = false, multiple = true, main = false }, taken) {
  const input = el("input", { type: "file", accept: "image/*", multiple, capture: capture ? "environment" : undefined, "aria-label": text });
  input.addEventListener("change", async () => {
    const files = [...input.files];
    input.value = "";
    if (files.length) await taken(files);
  });
  return el("span", { class: `button file${main ? " main" : ""}` }, text, input);
}
