// The half of the upload that runs in the page; dashboard_input.py is the other, and says which
// messages go between them. A file is here { name, file }, its File null if it cannot be read.

const PAGE = `
  <div class="cf-zone" role="group" aria-label="Your images">
    <button type="button" class="cf-choose">Choose images</button>
    <input type="file" multiple hidden>
    <div class="cf-sending" hidden>
      <progress aria-label="Upload"></progress>
      <button type="button">Cancel</button>
    </div>
    <p class="cf-hint">Drop, paste or choose images or a zip</p>
    <p class="cf-said" role="status" aria-live="polite"></p>
  </div>`;
const LEFT_BEHIND = /^(\.DS_Store|Thumbs\.db)$/i; // by systems, in folders
const WINDOW = 8; // chunks that may be on their way: the socket is kept busy, not flooded
const PATIENCE = 10_000; // milliseconds until a silent server is mentioned
const INTERRUPTION = 4_000; // milliseconds that a connection may be lost before the page says so

const megabytes = (bytes, digits = 1) => `${(bytes / 2 ** 20).toFixed(digits)} MB`;
const size = (bytes) => (bytes < 2 ** 20 ? `${Math.ceil(bytes / 2 ** 10)} KB` : megabytes(bytes));
const files = (number) => (number === 1 ? "1 file" : `${number} files`);
const unreadable = (name) =>
  `${name} could not be read by the browser: please choose it again.`;
const promise = (start) => new Promise((resolve, reject) => start(resolve, reject));

function named(list) {
  return [...list].map((file) => ({ name: file.name, file }));
}

/** The files of an entry that was dropped; those of a folder sorted, at any depth. */
async function* walk(entry) {
  if (entry.isFile) {
    const file = await promise((...ends) => entry.file(...ends)).catch(() => null);
    if (!LEFT_BEHIND.test(entry.name)) yield { name: entry.fullPath.slice(1), file };
    return;
  }
  const reader = entry.createReader();
  const children = [];
  const more = () => promise((...ends) => reader.readEntries(...ends)).catch(() => []);
  for (let part = await more(); part.length; part = await more()) children.push(...part);
  children.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const child of children) yield* walk(child);
}

/** The files of a drop: no more than one above the limit, however large a folder is. */
async function dropped(transfer, limits) {
  // Must be asked for at once: the list is emptied when the event is over.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  const plain = named(transfer.files);
  if (!entries.every(Boolean)) return plain;
  const found = [];
  for (const entry of entries) {
    for await (const file of walk(entry)) {
      if (found.push(file) > limits.files) return found;
    }
  }
  return found;
}

/** Part the files into those to send and a sentence for each of the others, as the kernel does. */
function withinLimits(chosen, limits) {
  const taken = [];
  const leftOut = [];
  let total = 0;
  for (const { name, file } of chosen.slice(0, limits.files)) {
    const most = name.toLowerCase().endsWith(".zip") ? limits.total : limits.file;
    if (!file) {
      leftOut.push(unreadable(name));
    } else if (file.size > most) {
      leftOut.push(
        `${name} is too large: expected at most ${megabytes(most, 0)}, ` +
          `received ${megabytes(file.size)}; please choose a smaller copy.`,
      );
    } else if (total + file.size > limits.total) {
      leftOut.push(
        `${name} was left out: expected at most ${megabytes(limits.total, 0)} at once; ` +
          "please choose it again by itself.",
      );
    } else {
      taken.push({ name, file });
      total += file.size;
    }
  }
  if (chosen.length > limits.files) {
    leftOut.push(`At most ${limits.files} files at once: the first ${limits.files} were taken.`);
  }
  return { taken, leftOut, total };
}

/** One upload: messages to the kernel, and its answers, which come in the same order. */
class Upload {
  constructor(model, onSilence) {
    this.model = model;
    this.key = Math.random().toString(36).slice(2);
    this.onSilence = onSilence;
    this.waiting = [];
  }

  async ask(kind, more = {}, buffers = []) {
    if (this.stopped) throw this.stopped;
    const timer = setTimeout(this.onSilence, PATIENCE);
    try {
      return await promise((resolve, reject) => {
        this.waiting.push({ resolve, reject });
        this.model.send({ kind, upload: this.key, ...more }, undefined, buffers);
      });
    } finally {
      clearTimeout(timer);
    }
  }

  answer(message) {
    if (message.kind === "stopped") this.stop("The upload was stopped: choose the files again.");
    else this.waiting.shift()?.resolve(message);
  }

  /** Give up, with the reason in words. */
  stop(words) {
    this.stopped = Error(words);
    for (const { reject } of this.waiting.splice(0)) reject(this.stopped);
  }

  /**
   * Send files by their places; `onArrived` gets the bytes of each chunk that was answered.
   * Returns a sentence for each file that could not be read.
   */
  async sendFiles(list, places, onArrived) {
    const { chunk } = this.model.get("limits");
    const unanswered = [];
    const lost = [];
    for (const place of places) {
      const { name, file } = list[place];
      for (let offset = 0; offset < file.size; offset += chunk) {
        let bytes;
        try {
          bytes = await file.slice(offset, offset + chunk).arrayBuffer();
        } catch {
          lost.push(unreadable(name)); // moved or changed meanwhile
          await this.ask("unreadable", { file: place });
          break;
        }
        const answer = this.ask("chunk", { file: place, offset }, [bytes]);
        unanswered.push(answer.then(() => onArrived(bytes.byteLength)));
        unanswered.at(-1).catch(() => {}); // one that fails is met below
        if (unanswered.length === WINDOW) await unanswered.shift();
      }
    }
    await Promise.all(unanswered);
    return lost;
  }
}

function render({ model, el, signal }) {
  el.innerHTML = PAGE;
  const [zone, choose, input, sending, bar, cancel, hint, said] = [
    ".cf-zone", ".cf-choose", "input", ".cf-sending", "progress", ".cf-sending button",
    ".cf-hint", ".cf-said",
  ].map((selector) => el.querySelector(selector));
  const limits = model.get("limits");
  let upload = null;
  let pasted = 0;
  input.accept = limits.accept;

  const say = (words) => (said.textContent = words);
  const ready = () => el.getClientRects().length > 0 && !model.get("disabled"); // on this tab
  // A file that is dropped beside the zone must not replace the page, which would lose the results.
  const around = () => el.closest("[data-voila]") ?? el.closest(".cifake") ?? el;

  function show() {
    const focused = zone.contains(document.activeElement);
    choose.disabled = model.get("disabled");
    choose.hidden = hint.hidden = Boolean(upload);
    sending.hidden = !upload;
    if (focused) (upload ? cancel : choose).focus();
  }

  /** Send what was chosen: a list of files, or a promise of one. */
  async function send(chosen) {
    if (upload) return say("An upload is on its way: wait for it, or cancel it first.");
    const own = (upload = new Upload(model, () =>
      say("The server has not answered for a while. If it stays so, cancel and reload the page."),
    ));
    bar.removeAttribute("value"); // not known yet
    show();
    try {
      const { taken, leftOut, total } = withinLimits(await chosen, limits);
      say([`Sending ${files(taken.length)}, ${size(total)} …`, ...leftOut].join(" "));
      const announced = taken.map(({ name, file }) => ({ name, size: file.size }));
      const answer = await own.ask("start", { files: announced, left_out: leftOut });
      bar.max = total || 1;
      bar.value = 0;
      const lost = await own.sendFiles(taken, answer.files, (bytes) => (bar.value += bytes));
      const sent = taken.length - lost.length;
      say([sent ? `${files(sent)} sent.` : "Nothing was sent.", ...leftOut, ...lost].join(" "));
    } catch (error) {
      const lost = "The files could not be sent: reload the page and choose them again.";
      say(error === own.stopped ? error.message : lost);
    } finally {
      upload = null;
      show();
    }
  }

  model.on("change:disabled", show);
  model.on("msg:custom", (message) => {
    if (message.upload === upload?.key) upload.answer(message);
  });
  choose.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const chosen = named(input.files);
    input.value = ""; // so that the same file can be chosen again
    if (chosen.length) send(chosen);
  });
  cancel.addEventListener("click", () => {
    model.send({ kind: "cancel", upload: upload.key });
    upload.stop("The upload was cancelled.");
  });

  // The listeners of the page live as long as this view.
  const listen = (name, act) => document.addEventListener(name, act, { signal });
  const carriesFiles = (event) =>
    event.dataTransfer?.types.includes("Files") && around().contains(event.target);
  listen("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = ready() ? "copy" : "none";
    zone.classList.toggle("cf-over", ready());
  });
  listen("dragleave", (event) => {
    if (!around().contains(event.relatedTarget)) zone.classList.remove("cf-over");
  });
  listen("drop", (event) => {
    zone.classList.remove("cf-over");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    if (ready()) send(dropped(event.dataTransfer, limits));
  });
  listen("paste", (event) => {
    if (!ready() || event.target.closest?.("input, textarea, [contenteditable]")) return;
    const images = [...(event.clipboardData?.files ?? [])].filter((file) =>
      file.type.startsWith("image/"),
    );
    if (!images.length) return;
    event.preventDefault();
    // Browsers call every copied picture image.png; a copied file keeps its name.
    const name = ({ name }) => (name === "image.png" ? `pasted-${++pasted}.png` : name);
    send(images.map((file) => ({ name: name(file), file })));
  });
  show();

  // Without its server a page looks as ever, and nothing that is clicked has an effect.
  const kernel = model.widget_manager?.kernel;
  let interruption;
  const watch = () => {
    const mark = (lost) => el.closest(".cifake")?.classList.toggle("cf-lost", lost);
    clearTimeout(interruption);
    if (kernel.connectionStatus === "connected" && kernel.status !== "dead") mark(false);
    else interruption = setTimeout(mark, INTERRUPTION, true);
  };
  for (const change of [kernel?.connectionStatusChanged, kernel?.statusChanged]) {
    change?.connect(watch);
    signal.addEventListener("abort", () => change?.disconnect(watch));
  }
}

export default { render };
