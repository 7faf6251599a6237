// Keeps the page fresh. Without scripts it is the same page, reloaded by hand.
"use strict";

const clear = document.getElementById("clear");
clear.hidden = false;
clear.addEventListener("click", async () => {
  if (confirm("Forget all notifications?")) {
    await fetch("v1/notifications", { method: "DELETE" });
    await refresh();
  }
});

async function refresh() {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const open = new Set([...document.querySelectorAll("article:has(details[open])")].map((a) => a.id));
  const fresh = page.getElementById("list");
  for (const id of open) {
    const details = page.querySelector(`#${id} details`);
    if (details) details.open = true;
  }
  document.getElementById("list").replaceWith(document.adoptNode(fresh));
  document.title = page.title;
}

let looks = 0;
setInterval(async () => {
  if (document.hidden) return;
  try {
    const query = new URLSearchParams(location.search);
    query.set("limit", "1");
    const { notifications } = await (await fetch(`v1/notifications?${query}`)).json();
    const { newest } = document.getElementById("list").dataset;
    const changed = notifications[0]?.id ?? 0;
    // A message that is changed has no new id: looked at now and then.
    if (String(changed) !== newest || ++looks % 5 === 0) await refresh();
  } catch {
    // The receiver restarts; the next try will tell.
  }
}, 3000);
