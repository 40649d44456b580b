// Live changes, times in words, and forms that apply at once. Every page works without it.
"use strict";
const lang = document.documentElement.lang;
const words = new Intl.RelativeTimeFormat(lang, { numeric: "auto", style: "short" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

// Times say how long ago they are; the moment itself is one hover away.
const sayAge = time => {
  if (!time.dateTime) return;
  time.dataset.moment ??= time.textContent;
  const seconds = Math.round((Date.parse(time.dateTime) - Date.now()) / 1000);
  const [unit, length] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS[3];
  time.textContent = words.format(Math.trunc(seconds / length), unit);
  time.title = time.dataset.moment;
};
const sayAges = () => document.querySelectorAll("time.at, time.since").forEach(sayAge);
sayAges();
setInterval(sayAges, 5000);

// A monitor that has changed, wherever the page shows it.
const STATES = ["alarm", "failed", "unknown", "maintenance", "ok", "disabled"];
const put = (place, name, text) => {
  const found = place.querySelector(name);
  if (found && found.textContent !== text) found.textContent = text;
};
const putTime = (place, name, moment, text) => {
  const found = place.querySelector(name);
  if (!found) return;
  found.dateTime = moment;
  found.textContent = text;
  delete found.dataset.moment;
  sayAge(found);
};
const show = monitor => {
  let changed = false;
  for (const place of document.querySelectorAll("[data-key]")) {
    if (place.dataset.key !== monitor.key) continue;
    if (!place.classList.contains(`state-${monitor.state}`)) {
      place.classList.remove(...STATES.map(state => `state-${state}`));
      place.classList.add(`state-${monitor.state}`);
      changed = true;
    }
    put(place, ".word", monitor.word);
    put(place, ".value", monitor.value);
    put(place, ".detail", monitor.detail);
    putTime(place, ".at", monitor.at, monitor.at_text);
    putTime(place, ".since", monitor.since, monitor.since_text);
  }
  seen.set(monitor.key, monitor.state);
  return changed;
};

// Counts, order and groups come from the server: the page is fetched again once things have calmed down.
const seen = new Map();
let pending = 0;
const renew = async () => {
  pending = 0;
  const live = document.getElementById("live");
  if (!live || document.hidden) return;
  const typed = field => field.type === "checkbox" ? field.checked !== field.defaultChecked : field.tagName === "INPUT" && field.value !== field.defaultValue;
  const typing = document.activeElement?.closest("form.filter, form.acts") || [...live.querySelectorAll("form.acts input")].some(typed);
  if (typing) { later(); return; }
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) { if (answer.redirected) ended(); return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (!fresh) return;
    const focused = document.activeElement?.getAttribute?.("href");
    live.replaceChildren(...fresh.childNodes);
    document.title = page.title;
    if (focused) live.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    sayAges();
    listenToForms();
  } catch { /* The stream says that the connection is interrupted. */ }
};
// Not all browsers at the same moment.
const later = () => { pending ||= setTimeout(renew, 2000 + Math.random() * 1000); };

// The stream: only while somebody can see the page, because browsers limit connections.
const source = document.querySelector("[data-events]")?.dataset.events;
const offline = document.getElementById("offline");
let stream, lost, heard = Date.now();
const listen = (name, act) => stream.addEventListener(name, event => { heard = Date.now(); act(event); });
const moment = () => new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "medium" }).format(heard);
const say = text => { offline.textContent = text; offline.hidden = !text; document.body.classList.toggle("stale", !!text); };
const ended = () => { stream?.close(); stream = null; say(document.body.dataset.ended); };
const connect = () => {
  if (!source || stream) return;
  stream = new EventSource(source);
  listen("hello", () => {
    clearTimeout(lost);
    lost = 0;
    if (!offline.hidden) { say(""); later(); }
  });
  listen("monitors", event => {
    let changed = false;
    for (const monitor of JSON.parse(event.data)) {
      const before = seen.get(monitor.key);
      changed = show(monitor) || (before && before !== monitor.state) || changed;
    }
    if (changed) { later(); renewFigures(); }
  });
  listen("beat", () => {});
  listen("reload", later);
  stream.addEventListener("error", () => {
    if (stream?.readyState === EventSource.CLOSED) { ended(); return; }
    lost ||= setTimeout(() => say(document.body.dataset.offline.replace("{0}", moment())), 3000);
  });
};
// A network that fails silently ends no stream: the server sends a sign of life every 15 seconds.
setInterval(() => {
  if (!stream || Date.now() - heard < 40000) return;
  say(document.body.dataset.offline.replace("{0}", moment()));
  stream.close();
  stream = null;
  connect();
}, 5000);
const disconnect = () => { stream?.close(); stream = null; clearTimeout(lost); lost = 0; };
document.addEventListener("visibilitychange", () => {
  if (document.hidden) disconnect(); else { connect(); later(); renewFigures(); }
});
if (!document.hidden) connect();
addEventListener("pagehide", disconnect);
addEventListener("pageshow", event => { if (event.persisted) { connect(); later(); } });
// New half-hours, and monitors that no longer match.
setInterval(later, 60000);

// Figures of the current period.
const figures = document.getElementById("figures");
let renewed = Date.now();
const renewFigures = async () => {
  // The first test of a new monitor is shown soon.
  const every = figures?.querySelector(".empty") ? 5000 : Number(figures?.dataset.refresh ?? 0) * 1000;
  if (!every || document.hidden || Date.now() - renewed < every) return;
  if (figures.querySelector("details[open]") || figures.matches(":hover") || figures.contains(document.activeElement)) return;
  renewed = Date.now();
  try {
    const answer = await fetch(`${location.pathname}/figures${location.search}`);
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    figures.replaceChildren(...page.body.childNodes);
    enhance();
  } catch { /* The stream says that the connection is interrupted. */ }
};
setInterval(renewFigures, 15000);

// Filters apply when they are chosen; the search when somebody stops typing.
const listenToForms = () => {
  const form = document.querySelector("form.filter");
  if (!form) return;
  form.classList.add("scripted");
  form.addEventListener("submit", event => {
    event.preventDefault();
    const query = new URLSearchParams();
    const usual = { group: "none", sort: "state", view: "tiles" };
    for (const [name, value] of new FormData(form)) if (value && usual[name] !== value) query.append(name, value);
    const text = query.toString();
    location.assign(text ? `/?${text}` : "/");
  });
  for (const select of form.querySelectorAll("select")) select.addEventListener("change", () => form.requestSubmit());
};
listenToForms();
addEventListener("keydown", event => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea")) return;
  const search = document.getElementById("q");
  if (search) { event.preventDefault(); search.select(); }
});
for (const secret of document.querySelectorAll("input.secret")) secret.addEventListener("focus", () => secret.select());
for (const button of document.querySelectorAll("button.danger")) {
  // The first click asks, the second one does it.
  button.addEventListener("click", event => {
    if (button.classList.contains("sure")) return;
    event.preventDefault();
    button.classList.add("sure");
    button.textContent += "?";
  });
}
// A report that is being made: the page is loaded again when there is more to see.
const making = document.querySelector("[data-poll]");
const poll = async () => {
  try {
    const answer = await fetch(making.dataset.poll);
    if (answer.status === 401) { ended(); return; }
    if (answer.status === 404) { location.reload(); return; }
    if (answer.ok) {
      const report = await answer.json();
      making.dataset.files ??= report.files.length;
      if (report.is_over || report.files.length > making.dataset.files) { location.reload(); return; }
      if (report.words) put(making, ".word", report.words);
    }
  } catch { /* Tried again in a moment. */ }
  setTimeout(poll, 1000);
};
if (making) setTimeout(poll, 500);

// Definitions: a trial is shown while it runs, and nothing that was typed is lost by accident.
document.getElementById("problems")?.focus();
const definition = document.querySelector("form.definition");
let isTyped = false;
definition?.addEventListener("input", () => { isTyped = true; });
definition?.addEventListener("change", event => {
  if (event.target.value !== "+new") return;
  const account = document.getElementById("new-account");
  if (account) account.open = true;
});
addEventListener("beforeunload", event => { if (isTyped) event.preventDefault(); });
const tryNow = async button => {
  const place = document.getElementById("trial");
  place.setAttribute("aria-busy", "true");
  button.disabled = true;
  try {
    const body = new URLSearchParams(new FormData(definition));
    const answer = await fetch(definition.dataset.try, { method: "POST", body });
    if (!answer.headers.get("content-type")?.startsWith("application/x-ndjson")) {
      // The page shows the problems at their fields.
      button.disabled = false;
      definition.dataset.plain = "1";
      definition.requestSubmit(button);
      return;
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const part = new DOMParser().parseFromString(JSON.parse(line).html, "text/html");
        place.replaceChildren(...part.body.childNodes);
      }
      place.scrollIntoView({ block: "nearest" });
    }
  } catch {
    place.textContent = place.dataset.failed;
  }
  place.removeAttribute("aria-busy");
  button.disabled = false;
};
definition?.addEventListener("submit", event => {
  if (event.submitter?.value === "try" && definition.dataset.try && !definition.dataset.plain) {
    event.preventDefault();
    tryNow(event.submitter);
    return;
  }
  isTyped = false;
});
// Zoom: drag over several parts of the period, or mark the first with Space and open the last.
const zoom = document.querySelector(".parts");
if (zoom) {
  const parts = [...zoom.querySelectorAll("a")];
  zoom.title = zoom.dataset.help;
  let first = null;
  const range = last => {
    const [a, b] = [parts.indexOf(first), parts.indexOf(last)].sort((x, y) => x - y);
    return parts.slice(a, b + 1);
  };
  const mark = last => {
    for (const part of parts) part.classList.remove("marked");
    if (first && last) for (const part of range(last)) part.classList.add("marked");
  };
  const open = last => {
    const chosen = range(last);
    location.assign(`${zoom.dataset.base}?from=${chosen[0].dataset.from}&to=${chosen.at(-1).dataset.to}`);
  };
  const at = event => document.elementFromPoint(event.clientX, event.clientY)?.closest(".parts a");
  zoom.addEventListener("dragstart", event => event.preventDefault());
  zoom.addEventListener("pointerdown", event => { first = event.button === 0 ? at(event) : null; });
  addEventListener("pointermove", event => { if (first && event.buttons === 1) mark(at(event)); });
  addEventListener("pointerup", event => {
    const last = first && at(event);
    if (last && last !== first) open(last);
    mark(first = null);
  });
  zoom.addEventListener("keydown", event => {
    const part = event.target.closest("a"), next = parts[parts.indexOf(part) + { ArrowRight: 1, ArrowLeft: -1 }[event.key]];
    if (event.key === " ") { event.preventDefault(); first = first === part ? null : part; mark(part); }
    else if (event.key === "Escape") mark(first = null);
    else if (event.key === "Enter" && first && first !== part) { event.preventDefault(); open(part); }
    else if (next) { event.preventDefault(); next.focus(); mark(next); }
  });

  // The same on a chart: drag over a span of it, or click one of the parts. On touch screens, dragging scrolls.
  const MINUTE = 60000;
  const leave = (from, to) => {
    const ends = [Math.floor(from / MINUTE), Math.ceil(to / MINUTE)].map(minute => new Date(minute * MINUTE).toISOString());
    location.assign(`${zoom.dataset.base}?from=${ends[0]}&to=${ends[1]}`);
  };
  const within = event => {
    const svg = event.target.closest?.("#figures figure[data-from] .plot svg");
    return svg && { svg, ...svg.closest("figure").dataset };
  };
  // The share of the period at a pointer; outside of 0 to 1 beside the plot.
  const shareAt = (chart, event) => {
    const box = chart.svg.getBoundingClientRect(), x = (event.clientX - box.left) * chart.svg.viewBox.baseVal.width / box.width;
    return (x - chart.left) / (chart.right - chart.left);
  };
  const timeAt = (chart, share) => {
    const [from, to] = [Date.parse(chart.from), Date.parse(chart.to)];
    return from + Math.min(1, Math.max(0, share)) * (to - from);
  };
  const band = document.createElement("div");
  band.className = "zoomed";
  let drag = null;
  const cancel = () => { band.remove(); drag = null; };
  figures.addEventListener("pointerover", event => { within(event)?.svg.closest("figure").classList.add("zooms"); });
  figures.addEventListener("pointerdown", event => {
    const chart = event.button === 0 && event.pointerType !== "touch" && within(event);
    const begin = chart ? shareAt(chart, event) : -1;
    if (begin < 0 || begin > 1) return;
    event.preventDefault();
    drag = { chart, begin, x: event.clientX, is_wide: false };
  });
  addEventListener("pointermove", event => {
    if (!drag) return;
    if (event.buttons !== 1) { cancel(); return; }
    drag.is_wide ||= Math.abs(event.clientX - drag.x) > 4;
    if (!drag.is_wide) return;
    const { chart, begin } = drag, end = Math.min(1, Math.max(0, shareAt(chart, event)));
    const box = chart.svg.getBoundingClientRect(), scale = box.width / chart.svg.viewBox.baseVal.width;
    const at = share => (Number(chart.left) + share * (chart.right - chart.left)) * scale + chart.svg.parentElement.scrollLeft + box.left - chart.svg.parentElement.getBoundingClientRect().left;
    band.style.left = `${at(Math.min(begin, end))}px`;
    band.style.width = `${at(Math.max(begin, end)) - at(Math.min(begin, end))}px`;
    chart.svg.after(band);
  });
  addEventListener("pointerup", event => {
    if (!drag) return;
    const { chart, begin, is_wide } = drag, [a, b] = [begin, shareAt(chart, event)].sort((x, y) => x - y).map(share => timeAt(chart, share));
    cancel();
    if (is_wide) { leave(a, b); return; }
    const part = parts.find(part => Date.parse(part.dataset.from) <= a && a < Date.parse(part.dataset.to));
    if (part) location.assign(part.href);
  });
  addEventListener("pointercancel", cancel);
  addEventListener("keydown", event => { if (event.key === "Escape") cancel(); });
}
