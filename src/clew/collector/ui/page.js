"use strict";
// The page of the collector: recent traces, one trace as a waterfall, its log lines. No library, no build step.
//
// Everything that comes from the API is hostile: it reaches the document as text (`element` below) or as a number in a
// style property, never as markup, and an id only by encodeURIComponent into an address.

const PAGE_SIZE = 50;
const MAX_DRAWN = 2000; // rows a browser draws without stutter; "show all" draws the rest
const main = document.getElementById("main");
let shown = 0; // counts views, so that a late answer does not draw over a newer view

// --- small helpers ---

/** Make an element: attributes (`class`, `href`, ...), event handlers (`onclick`), then children; strings become text. */
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) made.style.setProperty(key, text);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

async function ask(path, parameters) {
  const query = new URLSearchParams(Object.entries(parameters || {}).filter(([, value]) => value !== ""));
  const response = await fetch(`${path}?${query}`);
  if (response.status === 401) throw new NeedsToken();
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  let reason = text;
  try { reason = JSON.parse(text).error || text; } catch { /* plain text it is */ }
  throw new Error(reason || `The collector answered ${response.status}`);
}

class NeedsToken extends Error {}

function duration(us) {
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${(us / 1e3).toFixed(us < 1e4 ? 2 : us < 1e5 ? 1 : 0)} ms`;
  if (us < 6e7) return `${(us / 1e6).toFixed(us < 1e7 ? 2 : 1)} s`;
  return `${Math.floor(us / 6e7)} min ${Math.round((us % 6e7) / 1e6)} s`;
}

function signed(us) {
  return `${us < 0 ? "−" : "+"}${duration(Math.abs(us))}`;
}

function ago(us) {
  const seconds = Math.round(Date.now() / 1000 - us / 1e6);
  if (seconds < 5) return "just now";
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= unit) return `${Math.floor(seconds / unit)} ${name} ago`;
  }
  return `${seconds} s ago`;
}

function clock(us, withDate) {
  if (!us) return "–";
  const date = new Date(us / 1000);
  const two = (number) => String(number).padStart(2, "0");
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const fine = `${time}.${String(date.getMilliseconds()).padStart(3, "0")}`;
  const east = -date.getTimezoneOffset();
  const zone = east ? `UTC${east < 0 ? "−" : "+"}${two(Math.floor(Math.abs(east) / 60))}:${two(Math.abs(east) % 60)}` : "UTC";
  return withDate ? `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${fine} ${zone}` : fine;
}

// Hues that can be told apart, neighbours far from each other; red is left to errors.
const HUES = [212, 28, 158, 284, 48, 322, 186, 92, 250, 128, 305, 68];
const hues = new Map();

/** A colour for a service: its own from view to view, and another one than those of the services seen before it. */
function hue(service) {
  if (!hues.has(service)) {
    let hash = 2166136261;
    for (const char of service || "") hash = Math.imul(hash ^ char.codePointAt(0), 16777619);
    let place = (hash >>> 0) % HUES.length;
    const taken = new Set(hues.values());
    while (taken.size < HUES.length && taken.has(HUES[place])) place = (place + 1) % HUES.length;
    hues.set(service, HUES[place]);
  }
  return hues.get(service);
}

function tint(service) {
  return { "--hue": hue(service) };
}

function plural(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function failed(span) {
  return Object.hasOwn(span.tags, "error");
}

// --- the list ---

async function showList(filter) {
  const view = ++shown;
  document.title = "clew";
  const rows = element("tbody");
  const status = element("p", { class: "status", role: "status" }, "Loading…");
  const more = element("button", { class: "more", hidden: true }, "Older traces");
  const services = element("select", { id: "service", onchange: () => apply({ service: services.value }) });
  const failures = element("input", { type: "checkbox", onchange: () => apply({ errors: failures.checked ? "1" : "" }) });
  failures.checked = filter.errors === "1";
  const apply = (changed) => { location.hash = listHash({ ...filter, ...changed }); };
  main.replaceChildren(
    element("div", { class: "tools" },
      element("h1", {}, "Recent traces"),
      element("label", { class: "field" }, "Service ", services),
      element("label", { class: "field" }, failures, " Only errors"),
      element("button", { onclick: () => showList(filter) }, "Refresh")),
    element("table", { class: "traces" },
      element("thead", {}, element("tr", {},
        ...["Started", "Root", "Duration", "Services", "Spans"].map((title) => element("th", { scope: "col" }, title)))),
      rows),
    status, more);
  fillServices(services, filter.service).catch(() => {});
  let before = "";
  let longest = 1;
  const load = async () => {
    const parameters = { service: filter.service, errors: filter.errors, limit: PAGE_SIZE, before };
    const answer = await ask("api/v1/traces", parameters);
    if (view !== shown) return;
    longest = Math.max(longest, ...answer.traces.map((trace) => trace.durationUs));
    rows.append(...answer.traces.map(traceRow));
    for (const bar of rows.querySelectorAll(".length")) {
      bar.style.setProperty("--share", `${Math.max(0.5, (100 * Number(bar.dataset.us)) / longest)}%`);
    }
    before = answer.before ? String(answer.before) : "";
    more.hidden = !before;
    status.textContent = rows.children.length ? "" : emptyText(filter);
  };
  more.addEventListener("click", () => load().catch(showError));
  await load();
}

function emptyText(filter) {
  if (filter.service || filter.errors) return "No trace matches this filter.";
  return "No traces yet. Send some: clew run -- python your_app.py, or make demo.";
}

function listHash(filter) {
  const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
  return `#/${query.size ? `?${query}` : ""}`;
}

async function fillServices(select, chosen) {
  select.append(element("option", { value: "" }, "all"));
  if (chosen) select.append(element("option", { value: chosen }, chosen));
  select.value = chosen;
  const names = await ask("api/v2/services");
  select.append(...names.filter((name) => name !== chosen).map((name) => element("option", { value: name }, name)));
}

function traceRow(trace) {
  const address = `#/trace/${encodeURIComponent(trace.traceId)}`;
  const name = trace.name || "(no name)";
  return element("tr", { class: trace.errors ? "failed" : null, onclick: (event) => {
    if (!event.target.closest("a") && !getSelection().toString()) location.hash = address;
  } },
    element("td", { class: "when", title: clock(trace.timestamp, true) }, ago(trace.timestamp)),
    element("td", { class: "root" },
      element("a", { href: address, title: trace.traceId },
        element("span", { class: "chip", style: tint(trace.service) }, trace.service || "?"), " ",
        element("span", { class: "name" }, name),
        trace.path && METHODS.has(name.toUpperCase()) ? element("span", { class: "note" }, trace.path) : null,
        trace.status >= "400" ? element("span", { class: "note" }, trace.status) : null),
      trace.hasRoot ? null : element("span", { class: "note", title: "The first span of this trace never arrived" }, "root missing")),
    element("td", { class: "duration" },
      element("span", { class: "length", "data-us": trace.durationUs }), element("span", {}, duration(trace.durationUs))),
    element("td", { class: "services" },
      ...trace.services.slice(0, 8).map((service) => element("span", { class: "chip", style: tint(service) }, service)),
      trace.services.length > 8 ? element("span", { class: "note" }, `+${trace.services.length - 8}`) : null),
    element("td", { class: "count" }, String(trace.spans),
      trace.errors ? element("span", { class: "errors" }, ` ${plural(trace.errors, "error")}`) : null));
}

// --- one trace ---

/** Return the whole id for an id in any spelling or the beginning of one, null when several begin like that. */
async function fullId(view, given) {
  const wanted = given.toLowerCase().replaceAll("-", "");
  if (!/^[0-9a-f]{6,31}$/.test(wanted)) return given;
  const found = await ask("api/v1/traceIds", { prefix: wanted, limit: 50 });
  if (found.traceIds.includes(wanted) || !found.traceIds.length) return given;
  if (found.traceIds.length === 1) return found.traceIds[0];
  if (view !== shown) return null;
  main.replaceChildren(
    element("div", { class: "tools" },
      element("a", { class: "back", href: "#/" }, "← All traces"),
      element("h1", {}, `Several traces begin with ${wanted}`)),
    element("ul", { class: "ids" }, ...found.traceIds.map((id) =>
      element("li", {}, element("a", { href: `#/trace/${encodeURIComponent(id)}` }, element("code", {}, id))))),
    found.more ? element("p", { class: "status" }, "And others: give more of the id.") : "");
  return null;
}

async function showTrace(given) {
  const view = ++shown;
  document.title = `clew · ${given.slice(0, 8)}`;
  main.replaceChildren(element("p", { class: "status", role: "status" }, "Loading…"));
  const id = await fullId(view, given);
  if (id === null || view !== shown) return;
  const [trace, logs] = await Promise.all([
    ask(`api/v1/traces/${encodeURIComponent(id)}`),
    ask("api/v1/logs", { trace_id: id, limit: 5000 }).catch(() => []),
  ]);
  if (view !== shown) return;
  const root = trace.spans[0];
  document.title = `clew · ${root ? root.name || "" : ""}`;
  main.replaceChildren(
    element("div", { class: "tools" },
      element("a", { class: "back", href: "#/" }, "← All traces"),
      element("h1", {}, root ? chipOf(root) : null, ` ${(root && root.name) || "(no name)"}`)),
    facts(trace, logs), ...warnings(trace), waterfall(trace, logs), logTable(trace, logs));
}

function chipOf(span) {
  const service = serviceOf(span);
  return element("span", { class: "chip", style: tint(service) }, service || "?");
}

function serviceOf(span) {
  return (span.localEndpoint && span.localEndpoint.serviceName) || "";
}

// A span named by its method alone, as calls are (a path would make a name for each user), shows what it called.
const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY", "HTTP"]);

function targetOf(span) {
  if (!METHODS.has((span.name || "").toUpperCase()) || !span.tags) return "";
  const url = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*([^?#]*)/i.exec(span.tags["http.url"] || "");
  return (url && url[1]) || span.tags["http.path"] || "";
}

function facts(trace, logs) {
  const fact = (title, ...value) => element("div", { class: "fact" }, element("dt", {}, title), element("dd", {}, ...value));
  return element("dl", { class: "facts" },
    fact("Trace", element("code", {}, trace.traceId)),
    fact("Started", clock(trace.timestamp, true)),
    fact("Duration", duration(trace.durationUs)),
    fact("Spans", String(trace.spans.length)),
    fact("Errors", trace.errors ? element("span", { class: "errors" }, String(trace.errors)) : "0"),
    fact("Log lines", String(logs.length)),
    fact("Services", ...trace.services.map((service) =>
      element("span", { class: "chip", style: tint(service.name) }, `${service.name} ${service.spans}`))));
}

function warnings(trace) {
  const texts = [];
  const lost = Object.entries(trace.dropped);
  if (trace.traceDropped) texts.push(`${plural(trace.traceDropped, "span")} of this trace never left their process.`);
  if (lost.length) texts.push(`Its processes lost spans lately: ${lost.map(([reason, count]) => `${reason} ${count}`).join(", ")}.`);
  if (trace.missing.root) texts.push("The root never arrived; what is known hangs beneath nothing.");
  if (trace.missing.parents.length) texts.push(`${plural(trace.missing.parents.length, "parent")} never arrived; their children are marked “orphan”.`);
  if (trace.truncated) texts.push("This trace has more spans than are shown.");
  const moved = trace.spans.filter((span) => span.skewUs).length;
  if (moved) texts.push(`Clocks differ: ${plural(moved, "span")} moved to fit (⇄, raw time in the details).`);
  return texts.map((text) => element("p", { class: "warning" }, text));
}

function waterfall(trace, logs) {
  const lines = new Map();
  for (const record of logs) if (record.id) lines.set(record.id, (lines.get(record.id) || 0) + 1);
  const list = element("div", { class: "waterfall", role: "tree", "aria-label": "Spans", onkeydown: moveFocus });
  const draw = (limit) => list.replaceChildren(scale(trace), ...trace.spans.slice(0, limit).map((span, index) =>
    spanRow(trace, span, index, lines)));
  draw(MAX_DRAWN);
  if (trace.spans.length > MAX_DRAWN) {
    list.append(element("button", { class: "more", onclick: () => draw(Infinity) }, `Show all ${plural(trace.spans.length, "span")}`));
  }
  return list;
}

function scale(trace) {
  const marks = [0, 0.25, 0.5, 0.75, 1].map((share) =>
    element("span", { class: "mark", style: { left: `${share * 100}%` } }, duration(Math.round(trace.durationUs * share))));
  return element("div", { class: "scale", "aria-hidden": "true" }, element("div", { class: "label" }), element("div", { class: "lane" }, ...marks));
}

function spanRow(trace, span, index, lines) {
  const total = Math.max(1, trace.durationUs);
  const left = span.timestamp ? Math.min(100, Math.max(0, (100 * (span.timestamp - trace.timestamp)) / total)) : 0;
  const width = Math.min(100 - left, (100 * span.duration) / total);
  const details = element("div", { class: "details", hidden: true });
  const toggle = () => {
    if (!details.children.length) details.append(...spanDetails(trace, span));
    details.hidden = !details.hidden;
    button.setAttribute("aria-expanded", String(!details.hidden));
  };
  const notes = [
    span.kind ? element("span", { class: "note kind" }, span.kind.toLowerCase()) : null,
    span.skewUs ? element("span", { class: "note", title: `Moved by ${signed(-span.skewUs)}: its clock differs` }, "⇄") : null,
    span.orphan ? element("span", { class: "note" }, "orphan") : null,
    lines.get(span.id) ? element("span", { class: "note", title: "Log lines" }, `≡ ${lines.get(span.id)}`) : null,
  ];
  const button = element("button", {
    class: failed(span) ? "span failed" : "span", id: `span-${index}`, "data-id": span.id, role: "treeitem",
    "aria-level": span.depth + 1, "aria-expanded": "false", onclick: toggle, style: tint(serviceOf(span)),
  },
    element("span", { class: "label", style: { "--depth": Math.min(span.depth, 24) } },
      element("span", { class: "service" }, serviceOf(span) || "?"),
      element("span", { class: "name" }, span.name || "(no name)"),
      element("span", { class: "note" }, targetOf(span)), ...notes),
    element("span", { class: "lane" },
      element("span", { class: "time", style: { left: `${left}%`, width: `max(2px, ${width}%)` } }),
      lengthLabel(span, left, width)));
  return element("div", { class: "row" }, button, details);
}

/** Say how long a span took: behind its bar, or before it, or, when the bar fills the lane, on it. */
function lengthLabel(span, left, width) {
  const text = span.duration ? duration(span.duration) : "–";
  const right = left + width;
  if (right <= 85) return element("span", { class: "length", style: { left: `${right}%` } }, text);
  if (left >= 15) return element("span", { class: "length", style: { right: `${100 - left}%` } }, text);
  return element("span", { class: "length on", style: { right: `${100 - right}%` } }, text);
}

function spanDetails(trace, span) {
  const pairs = [
    ["span id", span.id], ["parent id", span.parentId], ["kind", span.kind],
    ["started", `${clock(span.timestamp, true)} (${signed(span.timestamp - trace.timestamp)})`],
    ["raw start", span.skewUs ? `${clock(span.rawTimestamp, true)} (moved by ${signed(-span.skewUs)})` : ""],
    ["duration", span.duration ? duration(span.duration) : ""],
    ["local", endpointText(span.localEndpoint)], ["remote", endpointText(span.remoteEndpoint)],
    ["shared", span.shared ? "yes" : ""], ["debug", span.debug ? "yes" : ""],
  ].filter(([, value]) => value);
  const tags = Object.entries(span.tags);
  const stack = tags.find(([key]) => key === "error.stack");
  const found = [pairTable("Span", pairs)];
  if (tags.length) found.push(pairTable("Tags", tags.filter((tag) => tag !== stack), (key) => key.startsWith("error")));
  if (span.annotations.length) {
    found.push(pairTable("Annotations", span.annotations.map((moment) => [signed(moment.timestamp - span.timestamp), moment.value])));
  }
  if (stack) found.push(element("section", { class: "wide" }, element("h3", {}, "Stack"), element("pre", { tabindex: 0 }, stack[1])));
  return found;
}

function endpointText(endpoint) {
  if (!endpoint) return "";
  const address = [endpoint.ipv4 || endpoint.ipv6, endpoint.port].filter(Boolean).join(":");
  return [endpoint.serviceName, address].filter(Boolean).join(" ");
}

function pairTable(title, pairs, alarming) {
  return element("section", {}, element("h3", {}, title), element("table", { class: "pairs" }, element("tbody", {},
    ...pairs.map(([key, value]) => element("tr", { class: alarming && alarming(key) ? "failed" : null },
      element("th", { scope: "row" }, key), element("td", {}, value || element("em", {}, "empty")))))));
}

/** Arrows walk over the spans, Home and End jump, as in any tree. */
function moveFocus(event) {
  const spans = [...event.currentTarget.querySelectorAll("button.span")];
  const place = spans.indexOf(document.activeElement);
  if (place < 0) return;
  const target = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: spans.length - 1 }[event.key];
  const open = document.activeElement.getAttribute("aria-expanded") === "true";
  if (target !== undefined && spans[target]) spans[target].focus();
  else if ((event.key === "ArrowRight" && !open) || (event.key === "ArrowLeft" && open)) document.activeElement.click();
  else return;
  event.preventDefault();
}

function logTable(trace, logs) {
  if (!logs.length) return element("section", { class: "logs" }, element("h2", {}, "Log lines"), element("p", { class: "status" }, "No service sent log lines for this trace (client option logs=True)."));
  const names = new Map(trace.spans.map((span, index) => [span.id, [span, index]]));
  return element("section", { class: "logs" }, element("h2", {}, "Log lines"), element("table", {}, element("tbody", {},
    ...logs.map((record) => logRow(trace, record, names.get(record.id))))));
}

function logRow(trace, record, place) {
  const level = (record.level || "").toUpperCase();
  const bad = ["ERROR", "CRITICAL", "FATAL"].includes(level);
  const jump = place ? element("button", { class: "link", onclick: () => revealSpan(place[1]) }, place[0].name || record.id) : null;
  return element("tr", { class: bad ? "failed" : level === "WARNING" || level === "WARN" ? "warned" : null },
    element("td", { class: "when", title: clock(record.timestamp, true) }, trace.timestamp ? signed(record.timestamp - trace.timestamp) : clock(record.timestamp)),
    element("td", { class: "service" }, element("span", { class: "chip", style: tint(record.service) }, record.service || "?")),
    element("td", { class: "level" }, level),
    element("td", { class: "message" }, element("span", { class: "logger" }, record.logger ? `${record.logger} ` : ""), record.message || "",
      record.exception ? element("details", {}, element("summary", {}, "Traceback"), element("pre", {}, record.exception)) : null),
    element("td", { class: "of" }, jump));
}

function revealSpan(index) {
  const button = document.getElementById(`span-${index}`);
  if (!button) return;
  if (button.getAttribute("aria-expanded") === "false") button.click();
  button.scrollIntoView({ block: "center" });
  button.focus({ preventScroll: true });
}

// --- where we are, and whether we may ---

function showError(error) {
  if (error instanceof NeedsToken) return showTokenForm();
  main.replaceChildren(element("p", { class: "warning", role: "alert" }, error.message),
    element("p", {}, element("a", { href: "#/" }, "All traces")));
}

function showTokenForm(refused) {
  const field = element("input", { type: "password", id: "token", autocomplete: "off", required: true });
  main.replaceChildren(element("form", { class: "token", onsubmit: (event) => {
    event.preventDefault();
    enter(field.value.trim()).catch(showError);
  } }, element("label", { for: "token" }, refused || "This collector wants its token"), field, element("button", {}, "Go on")));
  field.focus();
}

/** Change the token for a cookie that no script can read; the token itself is kept nowhere. */
async function enter(token) {
  const headers = new Headers();
  try { headers.set("Authorization", `Bearer ${token}`); } catch { /* no token has such characters */ }
  const response = await fetch("api/v1/session", { method: "POST", headers });
  if (response.ok) show();
  else showTokenForm(response.status === 401 ? "That is not the token of this collector" : await response.text());
}

/** ?traceId= is a way in. (?token= never gets here: the collector has led on without it.) */
function readAddress() {
  const id = new URLSearchParams(location.search).get("traceId");
  const hash = id ? `#/trace/${encodeURIComponent(id)}` : location.hash;
  if (location.search) history.replaceState(null, "", location.pathname + hash);
}

function show() {
  const [path, query] = location.hash.replace(/^#/, "").split("?");
  const match = /^\/trace\/([^/]+)$/.exec(path);
  const parameters = new URLSearchParams(query || "");
  let id = match ? match[1] : "";
  try { id = decodeURIComponent(id); } catch { /* taken as it stands; the collector will say what is wrong with it */ }
  const view = match ? showTrace(id) : showList({ service: parameters.get("service") || "", errors: parameters.get("errors") || "" });
  view.catch(showError);
}

document.getElementById("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = document.getElementById("find-id").value.trim();
  if (id) location.hash = `#/trace/${encodeURIComponent(id)}`;
});
window.addEventListener("hashchange", () => { show(); window.scrollTo(0, 0); });
readAddress();
show();
