// Keeps a page up to date: when the server says that something has changed, the same page is fetched again
// and what is different is put in. Without this script every page and every form works as it is.
"use strict";
(() => {
  const root = document.body;
  const liveOn = (root.dataset.liveOn || "").split(" ").filter(Boolean);
  const link = document.getElementById("link");
  const told = document.getElementById("told");
  const BACK_OFF = [1000, 2000, 4000, 8000, 15000];
  // The server gives a sign of life every 15 s.
  const SILENCE = 40000;

  // --- times -------------------------------------------------------------------------------------------
  const span = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 120) return `${s} s`;
    if (s < 7200) return `${Math.floor(s / 60)} min`;
    if (s < 172800) return `${Math.floor(s / 3600)} h`;
    return `${Math.floor(s / 86400)} days`;
  };
  // By the server's clock, as far as it is known: the machine's own may be wrong.
  let ahead = 0;
  const now = () => Date.now() + ahead;
  const tick = () => {
    for (const el of document.querySelectorAll("time.ago, time.ahead")) {
      const at = Date.parse(el.dateTime);
      const left = at - now();
      const text = el.className === "ago" ? `${span(-left)} ago` : left > 0 ? `in ${span(left)}` : "now";
      if (el.textContent !== text) el.textContent = text;
    }
  };

  // --- putting in what is different --------------------------------------------------------------------
  const busy = (el) => {
    const at = document.activeElement;
    const typing = at && el.contains(at) && at.matches("input, textarea, select");
    return typing || [...el.querySelectorAll("details[open] form")].length > 0;
  };
  // What the page itself has changed is not a difference.
  const essence = (el) => {
    const copy = el.cloneNode(true);
    for (const open of [copy, ...copy.querySelectorAll("details[open]")]) if (open.tagName === "DETAILS") open.removeAttribute("open");
    for (const time of copy.querySelectorAll("time.ago, time.ahead")) time.textContent = "";
    copy.classList.remove("fresh");
    return copy.outerHTML;
  };
  const put = (from, to) => {
    if (essence(from) === essence(to)) return false;
    const listed = (el) => el.children.length > 0 && [...el.children].every((c) => c.id);
    if (from.tagName === to.tagName && listed(from) && listed(to)) {
      // By id: what stays keeps its place, its focus and what is open in it.
      for (const old of [...from.children]) if (!to.querySelector(`:scope > #${CSS.escape(old.id)}`)) old.remove();
      let place = from.firstElementChild;
      for (const fresh of [...to.children]) {
        const old = from.querySelector(`:scope > #${CSS.escape(fresh.id)}`);
        if (!old) {
          const added = document.importNode(fresh, true);
          added.classList.add("fresh");
          from.insertBefore(added, place);
        } else {
          if (old === place) place = place.nextElementSibling;
          else from.insertBefore(old, place);
          if (essence(old) !== essence(fresh)) replace(old, fresh);
        }
      }
      return true;
    }
    if (from.tagName === to.tagName && from.children.length === 1 && to.children.length === 1 && from.children[0].tagName === to.children[0].tagName && from.children[0].tagName === "OL") {
      return put(from.children[0], to.children[0]);
    }
    replace(from, to);
    return true;
  };
  const replace = (from, to) => {
    const open = [...from.querySelectorAll("details[open][id]")].map((d) => d.id);
    const at = document.activeElement;
    const focused = at && from.contains(at) ? at.id : "";
    const added = document.importNode(to, true);
    from.replaceWith(added);
    for (const id of open) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  };
  let fetching = false;
  let again = false;
  const refresh = async () => {
    if (fetching) {
      again = true;
      return;
    }
    fetching = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect") return void location.reload();
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      let changed = false;
      for (const fresh of page.querySelectorAll("[data-live]")) {
        const old = document.getElementById(fresh.id);
        if (old && !busy(old)) changed = put(old, fresh) || changed;
      }
      tick();
      if (changed && told) say("The page was updated.");
    } catch {
      // The connection is lost; the feed says so and comes back.
    } finally {
      fetching = false;
      if (again) {
        again = false;
        setTimeout(refresh, 400);
      }
    }
  };
  let saying = 0;
  const say = (text) => {
    clearTimeout(saying);
    // Not more often than one can listen.
    saying = setTimeout(() => { told.textContent = text; setTimeout(() => { told.textContent = ""; }, 4000); }, 1500);
  };

  // --- the feed ----------------------------------------------------------------------------------------
  const state = (name, text) => {
    if (!link || link.dataset.state === name) return;
    link.dataset.state = name;
    document.getElementById("link-text").textContent = text;
  };
  let source = null;
  let failures = 0;
  let lastHeard = 0;
  let wanted = 0;
  let retry = 0;
  const want = () => {
    clearTimeout(wanted);
    wanted = setTimeout(refresh, 120);
  };
  const meant = (kind, data) => {
    if (kind !== "incident" || liveOn.includes("any")) return true;
    return !!data.incident && (liveOn.includes(data.incident.id) || (data.incident.cause && liveOn.includes(data.incident.cause.incident)));
  };
  const connect = () => {
    clearTimeout(retry);
    if (source) source.close();
    source = new EventSource(root.dataset.events);
    lastHeard = Date.now();
    source.onopen = () => {
      lastHeard = Date.now();
      // What happened meanwhile is not known here: the page as it was served may be old.
      if (failures > 0) refresh();
      failures = 0;
      state("live", "Live");
    };
    source.onerror = () => {
      state("lost", "Reconnecting…");
      failures += 1;
      // A refused connection is not tried again by the browser itself.
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(connect, BACK_OFF[Math.min(failures, BACK_OFF.length) - 1]);
    };
    for (const kind of ["incident", "freeze", "targets", "policy", "reset", "ping"]) {
      source.addEventListener(kind, (event) => {
        lastHeard = Date.now();
        let data = {};
        try { data = JSON.parse(event.data); } catch { /* not meant for this version */ }
        if (data.at) ahead = Date.parse(data.at) - Date.now();
        if (kind !== "ping" && meant(kind, data)) want();
      });
    }
  };
  if (liveOn.length && root.dataset.events && "EventSource" in window) {
    connect();
    setInterval(() => {
      if (Date.now() - lastHeard > SILENCE) {
        state("lost", "Reconnecting…");
        failures += 1;
        connect();
      }
    }, 5000);
    window.addEventListener("online", connect);
    window.addEventListener("pagehide", () => source && source.close());
    window.addEventListener("pageshow", (event) => { if (event.persisted) { failures = 1; connect(); } });
  } else if (link && !liveOn.length) {
    link.hidden = true;
  }
  tick();
  setInterval(tick, 5000);

  // --- keys --------------------------------------------------------------------------------------------
  const rows = () => [...document.querySelectorAll(".incidents h2 a, .decisions:not(.plain) > li a")];
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      for (const open of document.querySelectorAll(".switch[open], .offers details[open]")) {
        open.open = false;
        open.querySelector("summary").focus();
      }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (event.key !== "j" && event.key !== "k") return;
    const all = rows();
    const at = all.indexOf(document.activeElement);
    const next = event.key === "j" ? at + 1 : at < 0 ? all.length - 1 : at - 1;
    const link = all[Math.min(Math.max(next, 0), all.length - 1)];
    if (link) {
      link.focus();
      event.preventDefault();
    }
  });
  document.addEventListener("click", (event) => {
    for (const open of document.querySelectorAll(".switch[open]")) if (!open.contains(event.target)) open.open = false;
  });
})();
