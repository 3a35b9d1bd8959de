// The page of a run. It reads the data from #data, and sets all texts as text, because names come
// from the user's script.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";

  const set = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const el = (tag, attributes, ...children) => set(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) =>
    set(document.createElementNS(SVG, tag), attributes, children);
  const find = (selector) => document.querySelector(selector);
  const cut = (text, n) => text.length > n ? text.slice(0, n - 1) + "…" : text;

  const round = (x) => x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2);
  const minutes = (s) => `${Math.floor(s / 60)} min ${s % 60} s`;
  const time = (us) => us >= 6e7 ? minutes(Math.round(us / 1e6)) : us >= 1e6 ? `${round(us / 1e6)} s`
    : us >= 1e3 ? `${round(us / 1e3)} ms` : `${Math.round(us)} µs`;
  const bytes = (n) => n >= 1e9 ? `${round(n / 1e9)} GB` : n >= 1e6 ? `${round(n / 1e6)} MB`
    : n >= 1e3 ? `${round(n / 1e3)} kB` : `${n} B`;
  const count = (n) => n.toLocaleString("en");
  const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

  const STATES = { done: "✓", retried: "↻", failed: "✗", cancelled: "–", cached: "=", none: "" };
  const COLOURS = ["#3b7dd8", "#d9822b", "#2f9e6e", "#a05cc5", "#c4568a", "#7a8b2c", "#2a97a8",
    "#b0603a", "#6674c9", "#8a7560"];
  const colour = (group) => COLOURS[group % COLOURS.length];
  const nameOf = (f) => f.stage ? `${f.stage}.${f.name}` : f.name;

  const percent = (share) => `${Math.round(100 * Math.min(share, 1))} %`;

  // Two sentences on what to look at first.
  function most(s) {
    const parts = [], strong = (text) => el("strong", {}, text);
    if (s.most) parts.push("Most time: ", strong(nameOf(s.most)),
      `, ${time(s.most.total)} of ${time(s.busy)} of all calls (${percent(s.most.total / s.busy)}). `);
    if (s.busiest) parts.push("Busiest: ", strong(s.busiest.name), `, whose ${plural(s.busiest.workers, "worker")} ` +
      `had a call for ${percent(s.busiest.share)} of the time${s.busiest.workers > 1 ? " on average" : ""}.`);
    return parts;
  }

  function head() {
    const s = data.summary;
    document.title = `${data.title} – fzlua run`;
    find("#title").textContent = data.title;
    const verdict = find("#verdict");
    verdict.className = s.failed ? "bad" : s.cancelled || s.retries ? "warn" : "good";
    verdict.textContent = s.failed ? `✗ ${plural(s.failed, "call")} failed`
      : s.cancelled ? `– ${plural(s.cancelled, "call")} cancelled`
      : s.retries ? `✓ done, after ${plural(s.retries, "retry").replace("retrys", "retries")}` : "✓ done";
    find("#most").append(...most(s));
    for (const section of document.querySelectorAll("section")) {
      find("nav").append(el("a", { href: `#${section.id}` }, section.querySelector("h2").textContent));
    }
  }

  function summary() {
    const s = data.summary, cards = find("#summary dl");
    const add = (name, value) => cards.append(el("div", {}, el("dt", {}, name), el("dd", {}, value)));
    add("Time", time(s.wall));
    add("Calls", count(s.calls));
    add("Failed", count(s.failed));
    add("Cancelled", count(s.cancelled));
    add("Retries", count(s.retries));
    if (s.cached) add("Recorded before", count(s.cached));
    add("Workers", count(s.workers));
    if (s.nodes) add("Machines", count(s.nodes));
    add("Time of all calls", time(s.busy));
    add("Processor time", time(s.cpu));
    add("Calls at once, mean", s.wall ? round(s.busy / s.wall) : "0");
    if (s.wall && s.workers) add("Workers idle", percent(Math.max(0, 1 - s.busy / s.wall / s.at_once)));
    add("Bytes to workers", bytes(s.sent));
    add("Bytes back", bytes(s.received));
    add("Peak memory", bytes(s.peak));
  }

  // Elements that scroll get the focus, so that keys can scroll them.
  const scroller = (holder, label) => set(holder, { tabindex: 0, role: "region", "aria-label": label }, []);

  // The rows of the nodes in their columns: sorted by the mean row of their makers, for short edges.
  function place(graph) {
    const columns = [], rows = [];
    graph.nodes.forEach((node, i) => (columns[node.column] ||= []).push(i));
    for (const column of columns) {
      if (!column) continue;
      const wanted = new Map(column.map((i, k) => {
        const before = graph.edges.filter((e) => e[1] === i && rows[e[0]] !== undefined);
        return [i, before.length ? before.reduce((sum, e) => sum + rows[e[0]], 0) / before.length : k];
      }));
      column.sort((a, b) => wanted.get(a) - wanted.get(b) || a - b);
      column.forEach((i, k) => { rows[i] = k; });
    }
    return rows;
  }

  function tint(share) {
    const light = 93 - 58 * share;
    return { fill: `hsl(212 62% ${light.toFixed(0)}%)`, text: light < 60 ? "on-dark" : "on-light" };
  }

  function describe(node) {
    const parts = [nameOf(node)];
    if (node.count > 1) parts.push(plural(node.count, "function"));
    parts.push(node.state === "none" ? "not run" : node.state, plural(node.calls, "call"));
    if (node.calls) parts.push(`${time(node.total)} in all, ${time(node.total / node.calls)} each`);
    return parts.join(", ");
  }

  function drawGraph(graph) {
    const W = 170, H = 40, DX = 240, DY = 56, rows = place(graph);
    const x = (node) => 12 + node.column * DX, y = (i) => 12 + rows[i] * DY;
    const most = Math.max(1, ...graph.nodes.map((node) => node.total));
    const width = 24 + W + DX * Math.max(0, ...graph.nodes.map((node) => node.column));
    const height = 24 + H + DY * Math.max(0, ...rows);
    const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group",
      "aria-label": "Graph" });
    for (const [from, to] of graph.edges) {
      const x1 = x(graph.nodes[from]) + W, y1 = y(from) + H / 2, x2 = x(graph.nodes[to]), y2 = y(to) + H / 2;
      const bend = Math.max(30, (x2 - x1) / 2);
      picture.append(svg("path", { class: "edge",
        d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }));
    }
    graph.nodes.forEach((node, i) => {
      const look = tint(Math.sqrt(node.total / most)), text = describe(node);
      const box = svg("g", { class: `box ${node.state}`, tabindex: 0, role: "img", "aria-label": text,
        transform: `translate(${x(node)} ${y(i)})` },
      svg("title", {}, text),
      svg("rect", { width: W, height: H, rx: 5, fill: look.fill }),
      svg("text", { x: 8, y: 17, class: look.text }, cut(`${STATES[node.state]} ${nameOf(node)}`.trim(), 22)),
      svg("text", { x: 8, y: 32, class: `small ${look.text}` }, node.calls
        ? `${time(node.total)} · ${plural(node.calls, "call")}` : node.state === "none" ? "not run" : node.state));
      const show = () => { find("#graph .about").textContent = text; };
      box.addEventListener("focus", show);
      box.addEventListener("mouseenter", show);
      picture.append(box);
    });
    return el("div", {}, picture);
  }

  function graphs() {
    if (!data.graphs.length) find("#graph .note").textContent = "The run had no chain and no dag.";
    for (const graph of data.graphs) {
      if (graph.note) find("#graph .pictures").append(el("p", { class: "note" }, graph.note));
      find("#graph .pictures").append(scroller(drawGraph(graph), "Graph"));
    }
  }

  // A step of 1, 2 or 5 times a power of ten, so that at most `n` fit into `span`.
  function step(span, n) {
    const power = 10 ** Math.floor(Math.log10(Math.max(span, 1) / n));
    return [1, 2, 5, 10].map((k) => k * power).find((size) => span / size <= n) || 10 * power;
  }

  function timeline() {
    const section = find("#timeline"), holder = section.querySelector(".picture");
    const about = section.querySelector(".about"), whole = Math.max(1, data.summary.wall);
    const ROW = 20, TOP = 22;
    let from = 0, to = whole, width = 900, LEFT = 150;

    const spanText = (worker, [at, took, group, state, n]) =>
      `${worker.name}: ${data.groups[group]}, ${plural(n, "call")}, ${state ? "failed, " : ""}` +
      `${time(took)} from ${time(at)}`;

    function row(worker, k, scale) {
      const y = TOP + k * ROW, line = svg("g", {}, svg("title", {}, worker.name),
        svg("text", { x: 4, y: y + 14, class: "small" }, cut(worker.name, Math.floor(LEFT / 7))));
      for (const span of worker.spans) {
        const start = Math.max(span[0], from), end = Math.min(span[0] + span[1], to);
        if (end < from || start > to) continue;
        const bar = svg("rect", { x: LEFT + (start - from) * scale, y: y + 2, height: ROW - 5,
          width: Math.max(1, (end - start) * scale), fill: colour(span[2]) });
        if (span[3]) set(bar, { stroke: "var(--bad)", "stroke-width": 2 }, []);
        bar.append(svg("title", {}, spanText(worker, span)));
        bar.addEventListener("mouseenter", () => { about.textContent = spanText(worker, span); });
        line.append(bar);
      }
      return line;
    }

    function draw() {
      const height = TOP + data.workers.length * ROW + 4, scale = (width - LEFT - 8) / (to - from);
      const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
      const size = step(to - from, Math.max(2, (width - LEFT) / 110));
      for (let at = Math.ceil(from / size) * size; at <= to; at += size) {
        const x = LEFT + (at - from) * scale;
        picture.append(svg("line", { class: "grid", x1: x, x2: x, y1: TOP - 4, y2: height }),
          x < width - 60 ? svg("text", { x: x + 3, y: 13, class: "small dim" }, time(at))
            : svg("text", { x: x - 3, y: 13, class: "small dim", "text-anchor": "end" }, time(at)));
      }
      data.workers.forEach((worker, k) => picture.append(row(worker, k, scale)));
      holder.replaceChildren(picture);
      section.querySelector(".range").textContent = `${time(from)} to ${time(to)} of ${time(whole)}`;
    }

    function show(start, length) {
      const size = Math.min(whole, Math.max(10, length));
      from = Math.min(Math.max(0, start), whole - size);
      to = from + size;
      draw();
    }
    const zoom = (factor, at = (from + to) / 2) =>
      show(at - (at - from) * factor, (to - from) * factor);
    const move = (share) => show(from + share * (to - from), to - from);
    const actions = { in: () => zoom(0.5), out: () => zoom(2), left: () => move(-0.25),
      right: () => move(0.25), all: () => show(0, whole) };
    const keys = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all" };

    for (const button of section.querySelectorAll("[data-do]")) {
      button.addEventListener("click", actions[button.dataset.do]);
    }
    holder.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      actions[keys[event.key]]();
    });
    holder.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      const x = event.clientX - holder.getBoundingClientRect().left - LEFT;
      zoom(event.deltaY > 0 ? 1.25 : 0.8, from + x / (width - LEFT - 8) * (to - from));
    }, { passive: false });
    let dragged = null;
    holder.addEventListener("pointerdown", (event) => {
      dragged = { x: event.clientX, from };
      holder.setPointerCapture(event.pointerId);
    });
    holder.addEventListener("pointermove", (event) => {
      if (!dragged) return;
      show(dragged.from - (event.clientX - dragged.x) / (width - LEFT - 8) * (to - from), to - from);
    });
    for (const end of ["pointerup", "pointercancel"]) holder.addEventListener(end, () => { dragged = null; });

    const fit = () => {
      width = Math.max(260, holder.clientWidth);
      LEFT = width < 600 ? 90 : 150;
      draw();
    };
    window.addEventListener("resize", fit);
    window.addEventListener("beforeprint", () => show(0, whole));
    fit();
    data.groups.forEach((name, group) => {
      if (group < 40) section.querySelector(".legend").append(
        el("span", {}, el("i", { style: `background:${colour(group)}` }), name));
    });
    section.append(el("p", { class: "note" }, data.notes.timeline));
  }

  // columns: [title, value of a row, text of the value or nothing: it is a text]
  function table(holder, all, rows, sorted) {
    // Leave out a column that is empty in all rows.
    const columns = all.filter(([, value, , optional]) => !optional || rows.some((row) => value(row)));
    const body = el("tbody", {}), heads = [];
    let by = columns.indexOf(all[sorted]), down = true, shown = rows;

    function fill() {
      const value = columns[by][1];
      const order = (a, b) => typeof a === "string" ? a.localeCompare(b) : a - b;
      shown.sort((a, b) => (down ? -1 : 1) * order(value(a), value(b)));
      body.replaceChildren(...shown.map((row) => el("tr", {}, ...columns.map(([, get, text]) =>
        el("td", text ? {} : { class: "text" }, text ? text(get(row)) : get(row))))));
      heads.forEach((head, k) => head.setAttribute("aria-sort",
        k !== by ? "none" : down ? "descending" : "ascending"));
    }
    columns.forEach(([title, , text], k) => {
      const button = el("button", { type: "button" }, title);
      button.addEventListener("click", () => {
        down = k === by ? !down : Boolean(text);
        by = k;
        fill();
      });
      heads.push(el("th", text ? { scope: "col" } : { scope: "col", class: "text" }, button));
    });
    holder.append(el("thead", {}, el("tr", {}, ...heads)), body);
    fill();
    return (wanted) => {
      shown = rows.filter(wanted);
      fill();
    };
  }

  function functions() {
    const section = find("#functions"), get = (name) => (f) => f[name];
    const filter = table(section.querySelector("table"), [["Function", nameOf], ["Calls", get("calls"), count],
      ["Total", get("total"), time], ["Mean", get("mean"), time], ["p95", get("p95"), time],
      ["Max", get("max"), time], ["Processor", get("cpu"), time], ["Retries", get("retries"), count, true],
      ["Failed", get("failed"), count, true], ["Bytes in", get("sent"), bytes], ["Bytes out", get("received"), bytes],
      ["Peak memory", get("peak"), bytes]], data.functions, 2);
    section.querySelector(".note").textContent = data.notes.functions;
    section.querySelector("input").addEventListener("input", (event) => {
      const wanted = event.target.value.toLowerCase();
      filter((f) => nameOf(f).toLowerCase().includes(wanted));
    });
  }

  function histogram({ group, first, counts, median, p95 }) {
    const most = Math.max(...counts), W = 270, H = 90, bar = Math.min(W / counts.length, 40);
    const edge = (k) => 2 ** (first + k), calls = counts.reduce((sum, n) => sum + n, 0);
    const name = `${data.groups[group]}: ${plural(calls, "call")}, median ${time(median)}, p95 ${time(p95)}`;
    const picture = svg("svg", { width: "100%", viewBox: `0 0 ${W} ${H + 18}`, role: "img", "aria-label": name });
    counts.forEach((n, k) => {
      const height = n ? Math.max(2, H * n / most) : 0;
      picture.append(svg("rect", { x: k * bar + 1, y: H - height, width: Math.max(1, bar - 2), height,
        fill: colour(group) }, svg("title", {}, `${time(edge(k))} to ${time(edge(k + 1))}: ${plural(n, "call")}`)));
    });
    const label = (x, anchor, text) =>
      svg("text", { x, y: H + 14, class: "small dim", "text-anchor": anchor }, text);
    const least = time(edge(0)), end = time(edge(counts.length)), width = bar * counts.length;
    picture.append(svg("line", { class: "grid", x1: 0, x2: W, y1: H, y2: H }));
    if (width > 130) picture.append(label(0, "start", least), label(width, "end", end));
    else picture.append(label(0, "start", `${least} to ${end}`));
    return el("figure", {}, el("figcaption", {}, name), picture);
  }

  function slowest() {
    const get = (name) => (call) => call[name] || 0, ofItem = (n) => n ? count(n) : "";
    table(find("#slowest table"), [["Function", nameOf], ["Item", get("item"), ofItem, true],
      ["Element", get("index"), ofItem, true], ["Attempt", get("attempt"), ofItem], ["Time", get("took"), time],
      ["Start", get("at"), time], ["Worker", (call) => call.worker || ""]], data.slowest, 4);
  }

  function failures() {
    const list = find("#failures .list");
    if (!data.failures.length) list.append(el("p", {}, "None."));
    for (const f of data.failures) {
      const place = [f.item && `item ${f.item}`, f.index && `element ${f.index}`,
        f.attempt && `attempt ${f.attempt}`, f.worker && `worker ${f.worker}`].filter(Boolean).join(", ");
      const first = f.message.split("\n", 1)[0];
      const details = el("details", {}, el("summary", {}, el("strong", {}, nameOf(f)),
        ` ${f.event === "retry" ? "(retried) " : ""}${f.error}${place ? ` (${place})` : ""}: ${cut(first, 160)}`),
      el("pre", {}, f.message || f.error));
      details.open = list.childElementCount < 3;
      list.append(details);
    }
    if (data.notes.failures) list.append(el("p", { class: "note" }, data.notes.failures));
  }

  // What each stage did to the values; in the order of the stages.
  function changes() {
    const section = find("#changes"), number = (n, text) => n === undefined ? "" : text(n);
    const columns = [ // the title, the text of a cell, and how it is aligned if not as a number
      ["Stage", (c) => c.stage || "(inputs)", "word"], ["Value", (c) => c.name, "text"],
      ["Change", (c) => c.change, "word"], ["Type", (c) => c.type, "word"],
      ["Size", (c) => number(c.bytes, bytes)], ["Rows", (c) => number(c.rows, count)],
      ["Columns", (c) => number(c.columns, count)], ["Before", (c) => c.was || ""],
      ["Fields", (c) => c.names || "", "text"]];
    const aligned = (as) => as ? { class: as } : {};
    section.querySelector("table").append(
      el("thead", {}, el("tr", {},
        ...columns.map(([title, , as]) => el("th", { scope: "col", ...aligned(as) }, title)))),
      el("tbody", {}, ...data.changes.map((c) => el("tr", { class: c.change },
        ...columns.map(([, text, as]) => el("td", aligned(as), text(c)))))));
    section.querySelector(".note").textContent = data.notes.changes || "";
  }

  function environment() {
    for (const [name, value] of data.environment) {
      find("#environment dl").append(el("dt", {}, name), el("dd", {}, value));
    }
  }

  if (!data.changes) find("#changes").remove();
  for (const holder of document.querySelectorAll(".scroll")) {
    scroller(holder, holder.closest("section").querySelector("h2").textContent);
  }
  head();
  summary();
  graphs();
  timeline();
  functions();
  if (data.changes) changes();
  find("#times .histograms").append(...data.histograms.map(histogram));
  slowest();
  failures();
  environment();
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
