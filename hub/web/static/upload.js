// A dataset from a folder or a ZIP archive to the hub: what it misses goes up in parts, several files at a time. The hub
// knows an upload by the list of its files, so after a reload the same folder goes on where it was.
"use strict";
(() => {
  const form = document.getElementById("upload");
  if (!form) return;
  const find = (id) => document.getElementById(id);
  const [bar, said, problem, cancel, drop] = ["bar", "said", "problem", "cancel", "drop"].map(find);
  const csrf = form.elements.csrf.value, kinds = new Set(form.dataset.kinds.split(" "));
  const PART = 4 * 2 ** 20, PARALLEL = 3, PATIENCE = 6, KEPT = "upload";
  let running = null;
  find("folder-field").hidden = find("archive-field").hidden = drop.hidden = false;

  const tell = (text) => { said.textContent = text; };
  const fail = (text) => { problem.textContent = text; problem.hidden = !text; if (text) problem.focus(); };
  const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`);
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const keep = (value) => { try { if (value) localStorage.setItem(KEPT, value); else localStorage.removeItem(KEPT); } catch { /* private windows */ } };
  const kept = () => { try { return localStorage.getItem(KEPT); } catch { return null; } };

  class Refused extends Error { constructor(status, detail) { super(detail); this.status = status; } }
  const call = async (method, address, signal, body, headers = {}) => {
    for (let attempt = 1; ; attempt += 1) {
      let answer = null;
      try {
        answer = await fetch(address, { method, body, signal, credentials: "same-origin", headers: { "X-CSRF-Token": csrf, ...headers } });
      } catch (error) {
        if (signal.aborted || attempt >= PATIENCE) throw signal.aborted ? error : new Error("The hub does not answer. Choose the same files again to go on.");
      }
      if (answer && answer.status < 500) {
        const document_ = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
        if (!answer.ok) throw new Refused(answer.status, document_.detail || `The hub refused (${answer.status}).`);
        return document_;
      }
      if (answer && attempt >= PATIENCE) throw new Error(`The hub failed (${answer.status}). Choose the same files again to go on.`);
      tell("The hub does not answer; trying again…");
      await pause(500 * 2 ** attempt);
    }
  };

  // Names as the dataset has them: without the one folder that all lie in, hidden files and those that no dataset holds.
  const chosen = (files) => {
    const plain = files.filter((file) => !file.path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX"));
    const tops = new Set(plain.map((file) => file.path.split("/")[0]));
    const cut = tops.size === 1 && plain.every((file) => file.path.includes("/")) ? [...tops][0].length + 1 : 0;
    const wanted = plain.filter((file) => kinds.has(file.path.slice(file.path.lastIndexOf(".")).toLowerCase()));
    return { files: wanted.map((file) => ({ ...file, path: file.path.slice(cut) })), left: plain.length - wanted.length };
  };

  const isPicture = (path) => /\.(jpe?g|png)$/i.test(path);
  const send = async (upload, file, have, signal, told) => {
    const blob = await file.blob();
    let at = have;
    do {
      const end = Math.min(blob.size, at + PART);
      const range = blob.size > PART || at ? { "Content-Range": `bytes ${at}-${end - 1}/${blob.size}` } : {};
      let answer = null;
      try {
        answer = await call("PUT", `/ui/uploads/${upload.id}/files/${file.sha256}`, signal, blob.slice(at, end), { "Content-Type": "application/octet-stream", ...range });
      } catch (error) {
        if (!(error instanceof Refused) || error.status !== 409) throw error;
        // A part arrived whose answer did not: ask where to go on.
        const now = (await call("GET", `/ui/uploads/${upload.id}`, signal)).missing.find((one) => one.sha256 === file.sha256);
        if (now && now.received === at) throw error;
        answer = { received: now ? now.received : blob.size };
      }
      told(answer.received - at);
      at = answer.received;
    } while (at < blob.size);
  };

  const run = async (list, signal) => {
    const { files, left } = chosen(list);
    const refused = [];
    if (!files.length) throw new Error("There is no file in it that a dataset holds: JPEG or PNG images, and JSON, XML, YAML, CSV or text with the labels.");
    const name = `${form.elements.team.value.trim()}/${form.elements.name.value.trim()}`;
    let read = 0;
    for (const file of files) {
      signal.throwIfAborted();
      try {
        file.sha256 = await sha256(await file.blob(), signal);
      } catch (error) {
        // A picture that the archive holds damaged is left out as one that the hub refuses.
        if (signal.aborted || !isPicture(file.path)) throw error;
        refused.push({ ...file, why: "it cannot be unpacked" });
      }
      read += 1;
      bar.value = read / files.length / 5;
      tell(`Reading ${read.toLocaleString("en")} of ${files.length.toLocaleString("en")} files`);
    }
    const words = (count) => `${count.toLocaleString("en")} ${count === 1 ? "picture" : "pictures"}`;
    const begin = async () => {
      const bad = new Set(refused.map((one) => one.sha256)), kept_ = files.filter((file) => !bad.has(file.sha256));
      if (!kept_.length) throw new Error("None of the files can be used.");
      const message = `Uploaded in the browser: ${kept_.length} files${refused.length ? `, ${words(refused.length)} left out` : ""}`;
      const manifest = kept_.map(({ path, size: bytes, sha256: digest }) => ({ path, size: bytes, sha256: digest }));
      const asked = { files: manifest, message, private: form.elements.private.checked };
      const made = await call("POST", `/ui/uploads/${name.split("/").map(encodeURIComponent).join("/")}`, signal, JSON.stringify(asked), { "Content-Type": "application/json" });
      form.dataset.upload = made.id;
      return made;
    };
    // The hub refuses a list with an empty picture in it: known before anything is sent.
    for (const file of files) if (file.sha256 && isPicture(file.path) && !file.size) refused.push({ ...file, why: "it is empty" });
    let upload = await begin();
    keep(name);
    let done = upload.bytes - upload.missing.reduce((sum, one) => sum + one.size - one.received, 0);
    const began = Date.now(), first = done, byDigest = new Map(files.map((file) => [file.sha256, file]));
    const told = (more) => {
      done += more;
      bar.value = 0.2 + 0.8 * (upload.bytes ? done / upload.bytes : 1);
      const rate = (done - first) / Math.max(0.5, (Date.now() - began) / 1000), ahead = rate > 0 ? Math.ceil((upload.bytes - done) / rate) : 0;
      tell(`${size(done)} of ${size(upload.bytes)}${ahead > 5 ? `, about ${ahead < 90 ? `${ahead} seconds` : `${Math.ceil(ahead / 60)} minutes`} to go` : ""}`);
    };
    told(0);
    const sendAll = async () => {
      const queue = [...upload.missing];
      const sender = async () => {
        for (let one = queue.shift(); one; one = queue.shift()) {
          const file = byDigest.get(one.sha256);
          try {
            await send(upload, file, one.received, signal, told);
          } catch (error) {
            // One damaged picture does not stop the others; labels that are refused do.
            if (!(error instanceof Refused) || error.status !== 422 || !isPicture(file.path)) throw error;
            refused.push({ ...file, why: error.message.replace(/^'[^']*': /, "") });
            told(one.size - one.received);
          }
        }
      };
      await Promise.all(Array.from({ length: PARALLEL }, sender));
    };
    const before = refused.length;
    await sendAll();
    if (refused.length > before) {
      const first_ = upload.id;
      upload = await begin();
      await sendAll();
      await call("DELETE", `/ui/uploads/${first_}`, signal).catch(() => {});
    }
    tell("All files have arrived. The hub makes them one revision…");
    const made = await call("POST", `/ui/uploads/${upload.id}/commit`, signal, JSON.stringify({ left_out: refused.slice(0, 10000).map((one) => ({ path: one.path.slice(0, 1000), why: one.why.slice(0, 500) })) }), { "Content-Type": "application/json" });
    keep("");
    tell(`Done${refused.length ? `; ${words(refused.length)} could not be used and ${refused.length === 1 ? "was" : "were"} left out` : ""}${left ? `; ${left.toLocaleString("en")} files of other kinds were left out` : ""}. The check begins.`);
    location.assign(made.address);
  };

  // What was chosen stays chosen until the fields are filled in: their order does not matter.
  const suggestion = (label) => label.replace(/\.zip$/i, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+|-+$/g, "").slice(0, 96);
  let waiting = null;
  const start = async (listing, label) => {
    if (running) return;
    fail("");
    waiting = listing;
    if (!form.checkValidity()) {
      const name = form.elements.name;
      if (!name.value && suggestion(label)) name.value = suggestion(label);
      find("ready").hidden = false;
      find("chosen").textContent = `Chosen: ${label}. Fill in what is missing, then press Upload.`;
      (form.querySelector("input:invalid") || name).focus();
      return;
    }
    waiting = null;
    find("ready").hidden = true;
    running = new AbortController();
    const mine = running;
    form.dataset.upload = "";
    find("way").hidden = false;
    form.querySelectorAll("input, select").forEach((field) => { field.disabled = true; });
    cancel.focus();
    try {
      await run(await listing(), mine.signal);
    } catch (error) {
      mine.abort();
      find("way").hidden = true;
      fail(error.name === "AbortError" ? "" : error.message || String(error));
      if (error.name === "AbortError") tell("");
    } finally {
      running = null;
      form.querySelectorAll("input, select").forEach((field) => { field.disabled = false; });
      find("folder").value = find("archive").value = "";
    }
  };

  cancel.addEventListener("click", async () => {
    const id = form.dataset.upload;
    running?.abort(new DOMException("cancelled", "AbortError"));
    keep("");
    if (id) await call("DELETE", `/ui/uploads/${id}`, new AbortController().signal).catch(() => {});
    find("folder").focus();
  });
  const plain = (file, path = file.webkitRelativePath || file.name) => ({ path, size: file.size, blob: async () => file });
  find("folder").addEventListener("change", (event) => { const files = [...event.target.files]; if (files.length) start(async () => files.map((file) => plain(file)), (files[0].webkitRelativePath || files[0].name).split("/")[0]); });
  find("archive").addEventListener("change", (event) => { const [file] = event.target.files; if (file) start(() => unzip(file), file.name); });

  // Dropped: one archive, or files and folders.
  const walk = async (entry, path, found) => {
    if (entry.isFile) found.push(plain(await new Promise((done, wrong) => entry.file(done, wrong)), path + entry.name));
    else {
      const reader = entry.createReader();
      for (let more = true; more;) {
        const part = await new Promise((done, wrong) => reader.readEntries(done, wrong));
        more = part.length > 0;
        for (const one of part) await walk(one, `${path}${entry.name}/`, found);
      }
    }
    return found;
  };
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.toggle("over", kind === "dragenter" || kind === "dragover"); });
  }
  drop.addEventListener("drop", (event) => {
    const files = [...event.dataTransfer.files];
    const dropped = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (files.length === 1 && /\.zip$/i.test(files[0].name)) start(() => unzip(files[0]), files[0].name);
    else if (dropped.length) start(async () => { const found = []; for (const entry of dropped) await walk(entry, "", found); return found; }, dropped[0].name);
    else if (files.length) start(async () => files.map((file) => plain(file)), files[0].name);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (waiting) start(waiting, "");
  });
  window.addEventListener("beforeunload", (event) => { if (running && !running.signal.aborted) event.preventDefault(); });
  const open = kept();
  if (open) {
    const [team, name] = open.split("/");
    if (form.elements.team.tagName !== "SELECT" || [...form.elements.team.options].some((one) => one.value === team)) form.elements.team.value = team;
    form.elements.name.value = name;
    tell(`The upload to ${open} was interrupted. Choose the same folder or archive again: what has arrived is not sent twice.`);
    find("resume").hidden = false;
    find("resume").textContent = said.textContent;
  }
})();
