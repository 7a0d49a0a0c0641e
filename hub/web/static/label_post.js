// Answers on their way to the hub. Each is kept in this browser until the hub has taken it: when the connection fails
// it is sent again, also after the page was closed. The hub takes the same answer once, however often it comes.
"use strict";
window.LabelPost = class {
  constructor(cell, csrf, tell) {
    this.kept = `label-answers-${cell}`;
    this.csrf = csrf;
    this.tell = tell;
    this.busy = false;
    this.pause = 1000;
    this.onSaved = () => {};
    window.addEventListener("online", () => this.flush());
  }

  async call(method, address, body) {
    const answer = await fetch(`/ui/label${address}`, {
      method, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body),
      headers: { "X-CSRF-Token": this.csrf, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    });
    const said = await answer.json().catch(() => null);
    if (answer.ok) return said;
    const error = new Error(said?.detail || said?.errors?.[0]?.message || `The hub refused (${answer.status}).`);
    error.status = answer.status;
    throw error;
  }

  read(key) {
    try { return JSON.parse(localStorage.getItem(key)); } catch { return null; }
  }

  write(key, value) {
    try { if (value === null) localStorage.removeItem(key); else localStorage.setItem(key, JSON.stringify(value)); } catch { /* private windows, or no room */ }
  }

  get waiting() { return this.read(this.kept) || this.memory || []; }

  set waiting(list) { this.memory = list.length ? list : null; this.write(this.kept, list.length ? list : null); }

  draft(task) { return `label-draft-${task.id}-${task.version}`; }

  // Keep an answer and send it. Gives what became of it: "saved", "refused" (with the reason told) or "waits".
  async send(task, body) {
    this.waiting = [...this.waiting, { task: task.id, body }];
    return this.flush();
  }

  async flush() {
    if (this.busy) return "waits";
    this.busy = true;
    let result = "saved";
    try {
      while (this.waiting.length) {
        const [first] = this.waiting;
        try {
          await this.one(first);
        } catch (error) {
          if (error.status === undefined || error.status >= 500) { result = "waits"; break; }
          if (error.status === 401) { this.tell("You are signed out. Sign in again in another window; this answer is kept.", true); result = "waits"; break; }
          this.tell(`${error.message} This answer was not kept.`, true);
          result = "refused";
        }
        this.waiting = this.waiting.slice(1);
        this.pause = 1000;
      }
    } finally {
      this.busy = false;
    }
    if (result === "waits") {
      const count = this.waiting.length;
      this.tell(`${count} picture${count === 1 ? " is" : "s are"} not saved yet: the hub does not answer. Trying again; your work is kept in this browser.`, true);
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.flush().then((said) => { if (said === "saved") { this.tell("Saved.", false); this.onSaved(); } }), this.pause);
      this.pause = Math.min(2 * this.pause, 20000);
    }
    return result;
  }

  async one({ task, body }) {
    try {
      return await this.call("POST", `/tasks/${task}/accept`, body);
    } catch (error) {
      if (error.status !== 409) throw error;
      // The time was over while this waited: if nobody else has the picture, take it again and send the same answer.
      const now = await this.call("GET", `/tasks/${task}`);
      if (now.task.version !== body.version && !(now.task.state === "open" || now.task.state === "second_look")) throw error;
      const mine = await this.call("POST", `/tasks/${task}/move`, { what: "take", version: now.task.version });
      return this.call("POST", `/tasks/${task}/accept`, { ...body, version: mine.task.version });
    }
  }
};
