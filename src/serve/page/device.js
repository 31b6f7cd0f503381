// What the device offers, over its HTTP API: everything on this page goes through here.

/** An answer that says why something was not done. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(method, path, { body, query = {}, raw = false } = {}) {
  const address = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) address.searchParams.set(name, value);
  }
  const headers = method === "GET" ? {} : { "X-Srlora": "1" };
  let sent = body;
  if (body !== undefined && !(body instanceof Blob)) {
    headers["Content-Type"] = "application/json";
    sent = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(address, { method, headers, body: sent });
  } catch {
    throw new Refused(0, "The device does not answer. Is it on, and in the same network?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, told.error ? sentence(told.error) : `The device answers ${answer.status}.`);
  }
  return raw ? answer : answer.json();
}

function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

export const device = {
  state: () => ask("GET", "/api/state"),
  classes: async () => (await ask("GET", "/api/classes")).classes,
  makeClass: (name) => ask("POST", "/api/classes", { body: { name } }),
  renameClass: (from, to) => ask("POST", "/api/classes/rename", { body: { from, to } }),
  removeClass: (name) => ask("DELETE", `/api/classes/${encodeURIComponent(name)}`),
  photos: async (name) => (await ask("GET", "/api/photos", { query: { class: name } })).photos,
  addPhoto: (name, blob) => patiently(() => ask("POST", "/api/photos", { query: { class: name }, body: blob })),
  addFromCamera: (name) => ask("POST", "/api/photos", { query: { class: name, from: "camera" } }),
  movePhotos: (ids, name) => ask("POST", "/api/photos/move", { body: { ids, class: name } }),
  removePhotos: (ids) => ask("POST", "/api/photos/delete", { body: { ids } }),
  photo: (id) => `/api/photos/${id}`,
  predict: (blob) => patiently(() => ask("POST", "/api/predict", { body: blob })),
  plan: () => ask("GET", "/api/lesson/plan"),
  learn: (wish = {}) => ask("POST", "/api/lesson", { body: wish }),
  stop: () => ask("DELETE", "/api/lesson"),
  generations: () => ask("GET", "/api/generations"),
  rollback: (to) => ask("POST", "/api/rollback", { body: { to } }),
  forget: (name) => ask("POST", "/api/forget", { body: { class: name } }),
};

/** A device that is busy with other photos is asked again. */
async function patiently(work) {
  for (let wait = 200; ; wait *= 2) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Refused) || ![429, 503].includes(error.status) || wait > 6000) throw error;
      await new Promise((done) => setTimeout(done, wait));
    }
  }
}

/** What happens on the device: `known`, `photos`, `lesson`, `generations`, `guess`; `hello`, `gone` and `unpaired` of the connection itself. */
export const happenings = new EventTarget();

export function listen() {
  const source = new EventSource("/api/events");
  for (const name of ["hello", "known", "photos", "lesson", "generations", "guess"]) {
    source.addEventListener(name, (event) => {
      happenings.dispatchEvent(new CustomEvent(name, { detail: JSON.parse(event.data) }));
    });
  }
  source.addEventListener("error", async () => {
    happenings.dispatchEvent(new CustomEvent("gone"));
    // What was refused is not asked for again by itself: the device may have another token now, or be busy.
    if (source.readyState !== EventSource.CLOSED) return;
    const status = await device.state().then(() => 0, (error) => error.status);
    if (status === 401) happenings.dispatchEvent(new CustomEvent("unpaired"));
    else setTimeout(listen, 3000);
  });
}
