// The operators' page: sessions by filter, ended by a button, kept up to date by the stream of changes.
// The secret stays in this tab: it is sent as a header to this listener and put nowhere else.
"use strict";

const KEY = "tenure.admin-secret";
const PAGE = 100;
const $ = (id) => document.getElementById(id);

let secret = sessionStorage.getItem(KEY);
let pages = 1;
let stream = null;
let due = null;

class Refused extends Error {}

async function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${secret}`, ...(options.body ? { "Content-Type": "application/json" } : {}) };
  const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const text = problem.detail ?? `${answer.status} ${answer.statusText}`;
  throw answer.status === 401 ? new Refused(text) : new Error(text);
}

function tell(error) {
  if (error instanceof Refused) leave();
  $("trouble").textContent = error ? error.message : "";
  $("trouble").hidden = !error;
}

function query(extra) {
  const wanted = new URLSearchParams({ limit: PAGE, ...extra });
  for (const [name, value] of new FormData($("filter"))) if (value.trim()) wanted.set(name, value.trim());
  return wanted;
}

// Names of earlier releases can have what nobody sees: it is written out.
function visible(text) {
  const escape = (found) => [...found].map((c) => `\\u{${c.codePointAt(0).toString(16)}}`).join("");
  return (text ?? "").replace(/[\p{Default_Ignorable_Code_Point}\p{Cc}\ufff9-\ufffb\u2800]|^\s+|\s+$/gu, escape);
}

function cell(text, title) {
  const element = document.createElement("td");
  element.textContent = visible(text);
  if (title) element.title = visible(title);
  return element;
}

function when(text) {
  const seconds = Math.round((Date.parse(text) - Date.now()) / 1000);
  const size = Math.abs(seconds);
  const [unit, length] = size < 60 ? ["second", 1] : size < 3600 ? ["minute", 60] : size < 86400 ? ["hour", 3600] : ["day", 86400];
  return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(Math.trunc(seconds / length), unit);
}

function row(session) {
  const client = session.clientInfo ?? {};
  const element = document.createElement("tr");
  const name = [client.displayName ?? client.id, client.version, client.platform].filter(Boolean).join(" ");
  element.append(
    cell(session.sessionId),
    cell(session.deviceId),
    cell(session.subject),
    cell(name, client.userAgent),
    cell(client.address),
    cell(session.state, session.endText),
    cell(when(session.createdAt), session.createdAt),
    cell(when(session.lastActivity), session.lastActivity),
    cell(session.state === "active" ? when(session.expiresAt) : "", session.expiresAt),
  );
  const last = cell("");
  if (session.state === "active") {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Revoke";
    button.addEventListener("click", () => revoke(session));
    last.append(button);
  } else {
    element.className = "over";
  }
  element.append(last);
  return element;
}

async function load() {
  try {
    const rows = [];
    let next;
    for (let page = 0; page < pages; page += 1) {
      const found = await (await ask(`/api/v1/sessions?${query(next ? { cursor: next } : {})}`)).json();
      rows.push(...found.sessions.map(row));
      next = found.next;
      if (!next) break;
    }
    $("rows").replaceChildren(...rows);
    $("empty").hidden = rows.length > 0;
    $("more").hidden = !next;
    enter(true);
    tell(null);
  } catch (error) {
    tell(error);
  }
}

// Many changes in a row are one reason to look again.
function soon() {
  due ??= setTimeout(() => {
    due = null;
    if (secret) load();
  }, 300);
}

async function revoke(session) {
  if (!confirm(`End session ${session.sessionId} of ${visible(session.deviceId)}?`)) return;
  try {
    await ask(`/api/v1/sessions/${session.sessionId}`, { method: "DELETE" });
  } catch (error) {
    tell(error);
    return;
  }
  load();
}

function target() {
  const { deviceId, subject } = $("filter").elements;
  const [device, owner] = [deviceId.value.trim(), subject.value.trim()];
  // Of one or the other: what the two have in common is no target of a revocation.
  if (Boolean(device) === Boolean(owner)) return null;
  return device ? { deviceId: device } : { subject: owner };
}

async function revokeAll() {
  const wanted = target();
  if (!wanted) return;
  const call = (dryRun) => ask("/api/v1/sessions/revoke", { method: "POST", body: JSON.stringify({ ...wanted, dryRun }) });
  try {
    const { endedCount } = await (await call(true)).json();
    if (endedCount === 0 || !confirm(`End ${endedCount} sessions of ${visible(wanted.deviceId ?? wanted.subject)}?`)) return;
    await call(false);
  } catch (error) {
    tell(error);
    return;
  }
  load();
}

// EventSource sends no headers, so the stream is read by hand: its events end with an empty line.
async function follow() {
  stream?.abort();
  const mine = new AbortController();
  stream = mine;
  while (!mine.signal.aborted) {
    try {
      const answer = await ask("/events", { signal: mine.signal });
      $("live").textContent = "live";
      soon();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        if (events.some((event) => /^event: (change|missed)$/m.test(event))) soon();
      }
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error instanceof Refused) return tell(error);
    }
    $("live").textContent = "not live: trying again";
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

function enter(in_) {
  $("enter").hidden = in_;
  $("view").hidden = !in_;
  $("leave").hidden = !in_;
}

function leave() {
  secret = null;
  sessionStorage.removeItem(KEY);
  stream?.abort();
  $("rows").replaceChildren();
  $("live").textContent = "";
  enter(false);
}

async function start() {
  await load();
  if (secret) follow();
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  secret = $("secret").value.trim();
  $("secret").value = "";
  sessionStorage.setItem(KEY, secret);
  start();
});
$("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  pages = 1;
  load();
});
$("filter").addEventListener("input", () => {
  $("revoke-all").disabled = !target();
});
$("more").addEventListener("click", () => {
  pages += 1;
  load();
});
$("revoke-all").addEventListener("click", revokeAll);
$("leave").addEventListener("click", leave);

enter(false);
if (secret) start();
