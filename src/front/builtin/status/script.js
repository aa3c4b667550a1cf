"use strict";
// Keeps the page up to date. Everything that is told is put in as text, never as HTML.
(() => {
  const HISTORY = 60;   // samples that a line shows
  const EVENTS = 50;    // rows of recent events
  const $ = (id) => document.getElementById(id);
  const histories = new Map();
  const rows = new Map();
  let last = null;      // the snapshot before
  let seen = -1;        // the newest event that is shown

  const grouped = (n) => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ",");
  const rated = (n) => (n === null ? "–" : (n === 0 ? "0" : n < 10 ? n.toFixed(1) : grouped(n)) + "/s");

  function span(us) {
    if (us < 1e3) return us + " µs";
    const cut = (unit) => (us < 10 * unit ? (Math.floor(us * 10 / unit) / 10).toFixed(1) : Math.floor(us / unit));
    if (us < 1e6) return cut(1e3) + " ms";
    if (us < 6e7) return cut(1e6) + " s";
    const minutes = Math.floor(us / 6e7);
    if (minutes < 60) return minutes + " min";
    const hours = Math.floor(minutes / 60);
    return hours < 48 ? hours + " h " + (minutes % 60) + " min" : Math.floor(hours / 24) + " d " + (hours % 24) + " h";
  }

  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function badge(element, word) {
    put(element, word);
    if (element.dataset.is !== word) element.dataset.is = word;
  }

  // How many of each bucket came since `before`; all of them if it was none.
  function since(now, before) {
    const old = new Map((before || []).map(([bound, count]) => [bound, count]));
    return now.map(([bound, count]) => [bound, count - (old.get(bound) || 0)]).filter(([, count]) => count > 0);
  }

  function percentile(buckets, share) {
    const all = buckets.reduce((sum, [, count]) => sum + count, 0);
    let left = all * share;
    for (const [bound, count] of buckets) {
      left -= count;
      if (left <= 1e-9) return bound === null ? "> 1 h" : span(bound);
    }
    return null;
  }

  // Of the last minute if something happened in it, else of all time.
  function percentiles(now, before) {
    const lately = since(now, before);
    const buckets = lately.length > 0 ? lately : now;
    return buckets.length === 0 ? "–" : percentile(buckets, 0.5) + " / " + percentile(buckets, 0.99);
  }

  function history(key) {
    if (!histories.has(key)) histories.set(key, { values: [], spans: [] });
    return histories.get(key);
  }

  function push(list, value) {
    if (value === null) return;
    list.push(value);
    if (list.length > HISTORY) list.shift();
  }

  // A line with the newest value at the right edge; the highest one touches the top.
  function draw(svg, values) {
    if (values.length === 0) return;
    const top = Math.max(...values, 1e-9);
    const points = values.map((value, nth) => {
      const x = 100 - (values.length - 1 - nth) * (100 / (HISTORY - 1));
      return x.toFixed(1) + "," + (19 - (value / top) * 17).toFixed(1);
    });
    const line = "M" + points.join("L");
    const first = points[0].split(",")[0];
    svg.querySelector(".line").setAttribute("d", line);
    svg.querySelector(".area").setAttribute("d", line + "L100,20L" + first + ",20Z");
  }

  // None before the second snapshot; counts start over with a new front.
  function rate(now, before, seconds) {
    if (seconds <= 0) return null;
    return before === undefined || now < before ? 0 : (now - before) / seconds;
  }

  function sum(counts) {
    return Object.values(counts || {}).reduce((all, count) => all + count, 0);
  }

  function card(id, value, text) {
    const values = history("card " + id).values;
    push(values, value);
    const element = $(id);
    put(element.querySelector(".value"), text);
    draw(element.querySelector("svg"), values);
  }

  function showDaemon(now, before, seconds) {
    const daemon = now.daemon;
    badge($("state"), daemon.draining ? "draining" : "serving");
    put($("version"), daemon.version);
    put($("uptime"), span(daemon.uptime_ms * 1000));
    for (const key of ["services", "listeners", "fronts"]) put($(key), grouped(daemon[key]));
    put($("degraded-list"), "");
    for (const what of daemon.degraded) {
      $("degraded-list").append(Object.assign(document.createElement("li"), { textContent: what }));
    }
    $("degraded").hidden = daemon.degraded.length === 0;
    const requests = rate(now.total.accepted, before && before.total.accepted, seconds);
    const refused = rate(sum(now.total.refused), before && sum(before.total.refused), seconds);
    card("card-requests", requests, rated(requests));
    card("card-running", daemon.running, grouped(daemon.running));
    card("card-refused", refused, rated(refused));
    card("card-undecided", daemon.undecided, grouped(daemon.undecided));
    put($("card-requests").querySelector("small"), grouped(now.total.accepted) + " in all");
    put($("card-refused").querySelector("small"), grouped(sum(now.total.refused)) + " in all");
  }

  function rowOf(name) {
    if (!rows.has(name)) rows.set(name, $("service-row").content.firstElementChild.cloneNode(true));
    return rows.get(name);
  }

  function exitText(exit) {
    if (!exit) return "–";
    return exit.signal !== undefined ? "signal " + exit.signal + (exit.core ? ", core" : "") : "status " + exit.status;
  }

  function count(element, number) {
    put(element, grouped(number));
    element.classList.toggle("zero", number === 0);
    element.classList.toggle("alarm", number > 0 && element.classList.contains("worry"));
  }

  function showService(service, before, seconds) {
    const row = rowOf(service.name);
    const cell = (name) => row.querySelector("." + name);
    const past = history("service " + service.name);
    const requests = rate(service.accepted, before && before.accepted, seconds);
    push(past.values, requests);
    push(past.spans, { start: service.start, run: service.run });
    put(cell("name"), service.name);
    put(cell("description"), service.description || "");
    put(cell("serves"), service.serves + " at " + service.listeners.map((l) => l.address).join(", "));
    badge(cell("badge"), service.state);
    put(cell("reason"), service.reason || "");
    put(cell("running"), grouped(service.running));
    put(cell("limit"), service.instances > 0 ? "of " + grouped(service.instances) : "");
    put(cell("rate"), rated(requests));
    put(cell("accepted"), grouped(service.accepted));
    count(cell("refused"), service.refused);
    count(cell("failed"), service.failed);
    put(cell("start"), percentiles(service.start || [], past.spans[0].start));
    put(cell("run"), percentiles(service.run || [], past.spans[0].run));
    const cpu = rate(service.cpu_us, before && before.cpu_us, seconds);
    put(cell("cpu"), cpu === null ? "–" : (cpu / 1e4).toFixed(1) + " %");
    put(cell("memory"), service.memory > 0 ? grouped(Math.ceil(service.memory / 1048576)) + " MiB" : "");
    put(cell("last-exit"), exitText(service.last_exit));
    put(cell("ago"), service.last_exit ? span(service.last_exit.ago_ms * 1000) + " ago" : "");
    draw(cell("spark"), past.values);
    return row;
  }

  function showServices(now, before, seconds) {
    const earlier = new Map(before ? before.services.map((service) => [service.name, service]) : []);
    const body = $("services-body");
    const shown = now.services.map((service) => showService(service, earlier.get(service.name), seconds));
    // Rows move only if the table has changed.
    if (body.children.length !== shown.length || shown.some((row, nth) => body.children[nth] !== row)) body.replaceChildren(...shown);
    const names = new Set(now.services.map((service) => service.name));
    for (const name of rows.keys()) {
      if (!names.has(name)) {
        rows.delete(name);
        histories.delete("service " + name);
      }
    }
  }

  function cells(texts) {
    const row = document.createElement("tr");
    row.setAttribute("role", "row");
    for (const [kind, text] of texts) {
      const cell = document.createElement(kind === "service" ? "th" : "td");
      if (kind === "service") cell.scope = "row";
      cell.setAttribute("role", kind === "service" ? "rowheader" : "cell");
      cell.className = kind;
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  }

  // The same rows as the page has at first: what belongs to no service comes last.
  function showReasons(now) {
    const found = [];
    const rest = new Map(Object.entries(now.total.refused || {}));
    for (const service of now.services) {
      for (const [reason, number] of Object.entries(service.refused_by || {})) {
        found.push([service.name, "refused: " + reason, number]);
        rest.set(reason, (rest.get(reason) || 0) - number);
      }
      for (const [step, number] of Object.entries(service.failed_by || {})) found.push([service.name, "failed: " + step, number]);
    }
    for (const [reason, number] of rest) if (number > 0) found.push(["–", "refused: " + reason, number]);
    const text = JSON.stringify(found);
    if (showReasons.shown === text) return;
    showReasons.shown = text;
    $("reasons-body").replaceChildren(...found.map(([service, reason, number]) => cells([["service", service], ["reason", reason], ["number", grouped(number)]])));
  }

  function eventRow(event) {
    const row = cells([["when", ""], ["kind", ""], ["of", event.service || ""], ["peer", event.peer || ""], ["text", event.text]]);
    const time = document.createElement("time");
    const at = new Date(event.time_us / 1000);
    time.dateTime = at.toISOString();
    time.textContent = at.toLocaleTimeString([], { hour12: false });
    row.querySelector(".when").append(time);
    const kind = document.createElement("span");
    kind.className = "badge";
    badge(kind, event.kind);
    row.querySelector(".kind").append(kind);
    return row;
  }

  function showEvents(news) {
    const body = $("events-body");
    if (seen < 0) body.replaceChildren();
    put($("lost"), news.lost > 0 ? grouped(news.lost) + " more in the last second" : "");
    for (const event of news.events) {
      if (event.sequence <= seen) continue;
      seen = event.sequence;
      body.prepend(eventRow(event));
    }
    while (body.children.length > EVENTS) body.lastElementChild.remove();
  }

  function showSnapshot(now) {
    if (last && (last.daemon.front_pid !== now.daemon.front_pid || now.time_us <= last.time_us)) {
      last = null;
      seen = -1;
      histories.clear();
    }
    const seconds = last ? (now.time_us - last.time_us) / 1e6 : 0;
    showDaemon(now, last, seconds);
    showServices(now, last, seconds);
    showReasons(now);
    last = now;
    document.documentElement.dataset.snapshots = Number(document.documentElement.dataset.snapshots || 0) + 1;
  }

  function connect() {
    const source = new EventSource("events");
    source.addEventListener("snapshot", (message) => {
      badge($("link"), "live");
      showSnapshot(JSON.parse(message.data));
    });
    source.addEventListener("events", (message) => showEvents(JSON.parse(message.data)));
    source.onerror = () => {
      badge($("link"), "lost");
      // The browser tries again by itself unless the answer was a refusal.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
    };
  }

  document.documentElement.classList.add("scripted");
  badge($("link"), "waiting");
  document.title = "usherd at " + location.host;
  connect();
})();
