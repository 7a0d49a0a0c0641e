// The live page of a job: server-sent events move the bar, the log is fetched now and then, the end loads the page anew.
"use strict";
const live = document.getElementById("live");
if (live) {
  const stage = document.getElementById("stage"), bar = document.getElementById("bar");
  const message = document.getElementById("message"), log = document.getElementById("log");
  const time = (seconds) => seconds >= 90 ? `${Math.round(seconds / 60)} minutes` : `${Math.round(seconds)} seconds`;
  const readLog = async () => {
    const answer = await fetch(live.dataset.log, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return;
    const life = document.getElementById("life"), told = answer.headers.get("X-Job-Life");
    if (told && life.textContent !== told) life.textContent = told;
    const below = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.textContent = await answer.text();
    if (below) log.scrollTop = log.scrollHeight;
  };
  const show = (data) => {
    let before = true;
    live.querySelectorAll("[data-stage]").forEach((item) => {
      const now = item.dataset.stage === data.stage;
      if (now) { before = false; if (stage.textContent !== item.dataset.title) stage.textContent = item.dataset.title; }
      item.className = now ? "now" : before ? "done" : "";
    });
    bar.max = data.total || 1;
    bar.value = data.step;
    const parts = [data.message];
    if (data.images_per_second) parts.push(`${data.images_per_second.toFixed(1)} images/s`);
    if (data.eta_seconds) parts.push(`about ${time(data.eta_seconds)} left`);
    message.textContent = parts.filter(Boolean).join(" · ");
  };
  const source = new EventSource(live.dataset.events);
  source.addEventListener("progress", (event) => show(JSON.parse(event.data).data));
  source.addEventListener("state", (event) => {
    const { state } = JSON.parse(event.data).data;
    const chip = document.getElementById("state");
    chip.textContent = state;
    chip.className = `chip ${state}`;
    if (state === "running") stage.textContent = "Starting";
  });
  source.addEventListener("end", () => { source.close(); location.reload(); });
  const ticking = setInterval(() => { if (!document.hidden) readLog().catch(() => {}); }, 4000);
  window.addEventListener("pagehide", () => { source.close(); clearInterval(ticking); });
}
