"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const { nodes, edges, blocks, starts, size: [WIDTH, HEIGHT] } = data;
  const canvas = byId("graph"), pen = canvas.getContext("2d");
  const map = byId("map"), mapPen = map.getContext("2d");
  const MOST_LISTED = 40, MOST_NEAREST = 120, MOST_BLOCKS = 80, CLOSEST = 3, LEGIBLE = 0.55, NAMED = 0.28, ROOM = 28;
  const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif";

  const parents = nodes.map(() => []), children = nodes.map(() => []);
  for (const [source, target] of edges) {
    parents[target].push(source);
    children[source].push(target);
  }
  const isStart = new Set(starts), kinds = [...new Set(nodes.map((node) => node.kind))], hidden = new Set();
  const texts = nodes.map((node) => JSON.stringify([node.id, ...Object.values(node.fields)]).toLowerCase());
  const bounds = {
    left: Math.min(0, ...blocks.map((block) => block[2])), top: Math.min(0, ...blocks.map((block) => block[3])),
    right: Math.max(1, ...blocks.map((block) => block[2] + block[4])),
    bottom: Math.max(1, ...blocks.map((block) => block[3] + block[5])),
  };

  const view = { scale: 1, x: 0, y: 0 };
  let selected = null, up = new Set(), down = new Set(), hits = [], hit = -1, colours = {}, records = null, waiting = 0;

  // Colours and theme

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["ground", "panel", "text", "quiet", "line", "edge", "focus", "up", "down", "hit"];
    colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    for (const kind of kinds) colours[kind] = style.getPropertyValue(variable(kind)).trim() || colours.quiet;
  }
  function variable(kind) { return `--${kind.replace(" ", "-")}`; }
  function setTheme(name) {
    document.documentElement.dataset.theme = name;
    readColours();
    drawMap();
    redraw();
  }

  // View

  function visible(index) { return !hidden.has(nodes[index].kind); }
  function smallest() {
    const across = (canvas.clientWidth - 2 * ROOM) / (bounds.right - bounds.left);
    const along = (canvas.clientHeight - 2 * ROOM) / (bounds.bottom - bounds.top);
    return Math.max(Math.min(across, along, 1), 0.001);
  }
  function fit() {
    view.scale = smallest();
    view.x = (canvas.clientWidth - (bounds.left + bounds.right) * view.scale) / 2;
    view.y = (canvas.clientHeight - (bounds.top + bounds.bottom) * view.scale) / 2;
    redraw();
  }
  function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const scale = Math.min(CLOSEST, Math.max(smallest() / 2, view.scale * factor));
    view.x = x - (x - view.x) * scale / view.scale;
    view.y = y - (y - view.y) * scale / view.scale;
    view.scale = scale;
    redraw();
  }
  function centre(index) {
    view.x = canvas.clientWidth / 2 - (nodes[index].x + WIDTH / 2) * view.scale;
    view.y = canvas.clientHeight / 2 - (nodes[index].y + HEIGHT / 2) * view.scale;
    redraw();
  }
  function goTo(index) {
    view.scale = Math.max(view.scale, 0.8);
    centre(index);
  }
  function reveal(index) {
    const { x, y } = nodes[index], left = x * view.scale + view.x, top = y * view.scale + view.y;
    const inside = left > 0 && top > 0 && left + WIDTH * view.scale < canvas.clientWidth
      && top + HEIGHT * view.scale < canvas.clientHeight;
    if (!inside || view.scale < LEGIBLE) goTo(index);
  }
  function open() {
    // What cannot be read as a whole, by its nodes or by its captions, is entered where the question began.
    fit();
    if (view.scale < NAMED && blocks.length > MOST_BLOCKS && starts.length) goTo(starts[0]);
  }

  // Drawing

  function redraw() {
    if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; draw(); });
  }
  function resize() {
    const dots = window.devicePixelRatio || 1;
    for (const each of [canvas, map]) {
      each.width = Math.round(each.clientWidth * dots);
      each.height = Math.round(each.clientHeight * dots);
      each.getContext("2d").setTransform(dots, 0, 0, dots, 0, 0);
    }
    drawMap();
    redraw();
  }
  function draw() {
    const { scale, x, y } = view, dots = window.devicePixelRatio || 1;
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    pen.setTransform(dots * scale, 0, 0, dots * scale, dots * x, dots * y);
    const seen = {
      left: -x / scale, top: -y / scale, right: (canvas.clientWidth - x) / scale, bottom: (canvas.clientHeight - y) / scale,
    };
    drawEdges(seen);
    for (let index = 0; index < nodes.length; index++) {
      const node = nodes[index];
      if (node.x > seen.right || node.x + WIDTH < seen.left || node.y > seen.bottom || node.y + HEIGHT < seen.top) continue;
      if (visible(index)) drawNode(index);
    }
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    drawCaptions();
    drawFrame();
    canvas.dataset.view = JSON.stringify(view);
  }
  function drawEdges(seen) {
    const groups = { edge: new Path2D(), up: new Path2D(), down: new Path2D() };
    // From one band to the next: through everything between.
    const long = { edge: new Path2D(), up: new Path2D(), down: new Path2D() };
    let drawn = 0;
    for (const [source, target] of edges) {
      if (!visible(source) || !visible(target)) continue;
      const from = nodes[source], to = nodes[target];
      const x1 = from.x + WIDTH, y1 = from.y + HEIGHT / 2, x2 = to.x, y2 = to.y + HEIGHT / 2;
      if (Math.max(x1, x2) < seen.left || Math.min(x1, x2) > seen.right) continue;
      if (Math.max(y1, y2) < seen.top || Math.min(y1, y2) > seen.bottom) continue;
      drawn++;
      const near = selected !== null && (up.has(source) && up.has(target) ? "up" : down.has(source) && down.has(target) && "down");
      trail((x2 < x1 ? long : groups)[near || "edge"], from, to);
    }
    const faint = Math.max(0.07, Math.min(0.7, 160 / drawn)), focused = selected !== null;
    for (const [paths, share] of [[groups, 1], [long, 0.25]]) {
      for (const [name, path] of Object.entries(paths)) {
        pen.strokeStyle = colours[name];
        pen.globalAlpha = share * (name === "edge" ? (focused ? faint * 0.6 : faint) : Math.max(0.12, Math.min(0.85, 200 / drawn)));
        pen.lineWidth = 1 / Math.min(1, Math.max(view.scale, 0.2) * 1.6);
        pen.stroke(path);
      }
    }
    if (focused) drawNearest();
    pen.globalAlpha = 1;
  }
  function drawNearest() {
    pen.lineWidth = 2.2 / Math.min(1, view.scale * 1.4);
    for (const [name, next] of [["up", parents], ["down", children]]) {
      const others = next[selected].filter(visible), path = new Path2D();
      if (others.length > MOST_NEAREST) continue;
      for (const other of others) trail(path, ...(name === "up" ? [nodes[other], nodes[selected]] : [nodes[selected], nodes[other]]));
      pen.strokeStyle = colours[name];
      pen.globalAlpha = Math.max(0.3, 1 - others.length / MOST_NEAREST);
      pen.stroke(path);
    }
  }
  function trail(path, from, to) {
    const x1 = from.x + WIDTH, y1 = from.y + HEIGHT / 2, x2 = to.x, y2 = to.y + HEIGHT / 2;
    const bend = Math.min(Math.max(Math.abs(x2 - x1) / 2, 30), 160);
    path.moveTo(x1, y1);
    path.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
  }
  function drawNode(index) {
    const node = nodes[index], { x, y } = node, scale = view.scale;
    pen.globalAlpha = selected === null || up.has(index) || down.has(index) ? 1 : 0.28;
    const legible = scale >= LEGIBLE;
    pen.beginPath();
    if (legible) pen.roundRect(x, y, WIDTH, HEIGHT, 6); else pen.rect(x, y, WIDTH, HEIGHT);
    pen.fillStyle = legible ? colours.panel : colours[node.kind];
    pen.fill();
    if (legible) {
      pen.lineWidth = 1.5;
      pen.setLineDash(node.kind === "missing" ? [5, 4] : []);
      pen.strokeStyle = colours[node.kind];
      pen.stroke();
      pen.setLineDash([]);
      pen.fillStyle = colours[node.kind];
      pen.fillRect(x, y + 5, 6, HEIGHT - 10);
      pen.fillStyle = colours.text;
      pen.font = `600 13px ${FONT}`;
      pen.textBaseline = "middle";
      pen.fillText(shortened(`${isStart.has(index) ? "★ " : ""}${node.name}`, WIDTH - 24), x + 14, y + HEIGHT * 0.32);
      pen.fillStyle = colours.quiet;
      pen.font = `11px ${FONT}`;
      pen.fillText(shortened(node.brief, WIDTH - 24), x + 14, y + HEIGHT * 0.7);
    } else if (scale >= NAMED) {
      pen.fillStyle = colours.panel;
      pen.font = `600 26px ${FONT}`;
      pen.textBaseline = "middle";
      pen.fillText(shortened(node.partition || node.name, WIDTH - 20), x + 10, y + HEIGHT / 2);
    }
    const ring = index === selected ? "focus" : isStart.has(index) ? "text" : hits.includes(index) ? "hit" : null;
    if (ring) {
      const gap = 3 / scale;
      pen.lineWidth = 3 / scale;
      pen.strokeStyle = colours[ring];
      pen.strokeRect(x - gap, y - gap, WIDTH + 2 * gap, HEIGHT + 2 * gap);
    }
    pen.globalAlpha = 1;
  }
  const widths = new Map();
  function shortened(text, room) {
    const key = `${pen.font}${room}${text}`;
    if (!widths.has(key)) {
      let short = text;
      for (let keep = text.length; pen.measureText(short).width > room && keep > 4; keep -= 2) {
        // Both ends tell most: the asset, and its partition.
        short = `${text.slice(0, Math.ceil(keep / 2) - 1)}…${text.slice(text.length - Math.floor(keep / 2) + 1)}`;
      }
      widths.set(key, short);
    }
    return widths.get(key);
  }
  function drawCaptions() {
    const { scale } = view, taken = [];
    if (scale >= LEGIBLE) return;
    pen.font = `600 12px ${FONT}`;
    pen.textBaseline = "bottom";
    for (const [asset, count, x, y, , , kind] of [...blocks].sort((one, other) => other[1] - one[1])) {
      if (hidden.has(kind)) continue;
      const text = count > 1 ? `${asset} · ${count}` : asset, width = pen.measureText(text).width + 8;
      const left = x * scale + view.x, bottom = y * scale + view.y - 2;
      if (left > canvas.clientWidth || left + width < 0 || bottom < 0 || bottom > canvas.clientHeight + 20) continue;
      if (taken.some(([l, b, w]) => left < l + w && l < left + width && Math.abs(bottom - b) < 17)) continue;
      taken.push([left, bottom, width]);
      pen.globalAlpha = 0.85;
      pen.fillStyle = colours.ground;
      pen.fillRect(left - 3, bottom - 15, width, 16);
      pen.globalAlpha = 1;
      pen.fillStyle = colours.text;
      pen.fillText(text, left, bottom);
    }
  }

  // Map of the whole

  let mapPicture = null, mapScale = 1;
  function drawMap() {
    const dots = window.devicePixelRatio || 1;
    mapScale = Math.min(map.clientWidth / (bounds.right - bounds.left), map.clientHeight / (bounds.bottom - bounds.top)) * 0.94;
    mapPicture = document.createElement("canvas");
    mapPicture.width = Math.max(1, map.width);
    mapPicture.height = Math.max(1, map.height);
    const brush = mapPicture.getContext("2d");
    brush.scale(dots, dots);
    nodes.forEach((node, index) => {
      if (!visible(index)) return;
      brush.fillStyle = colours[node.kind];
      brush.fillRect(mapX(node.x), mapY(node.y), Math.max(1, WIDTH * mapScale), Math.max(1, HEIGHT * mapScale));
    });
    for (const index of starts) {
      brush.strokeStyle = colours.text;
      brush.lineWidth = 2;
      brush.strokeRect(mapX(nodes[index].x) - 3, mapY(nodes[index].y) - 3, WIDTH * mapScale + 6, HEIGHT * mapScale + 6);
    }
  }
  function mapX(x) { return (map.clientWidth - (bounds.right - bounds.left) * mapScale) / 2 + (x - bounds.left) * mapScale; }
  function mapY(y) { return (map.clientHeight - (bounds.bottom - bounds.top) * mapScale) / 2 + (y - bounds.top) * mapScale; }
  function drawFrame() {
    mapPen.clearRect(0, 0, map.clientWidth, map.clientHeight);
    mapPen.drawImage(mapPicture, 0, 0, map.clientWidth, map.clientHeight);
    mapPen.strokeStyle = colours.focus;
    mapPen.lineWidth = 1.5;
    mapPen.strokeRect(
      mapX(-view.x / view.scale), mapY(-view.y / view.scale),
      canvas.clientWidth / view.scale * mapScale, canvas.clientHeight / view.scale * mapScale,
    );
  }
  function lookAt(event) {
    const place = map.getBoundingClientRect();
    const x = bounds.left + (event.clientX - place.left - mapX(bounds.left)) / mapScale;
    const y = bounds.top + (event.clientY - place.top - mapY(bounds.top)) / mapScale;
    view.x = canvas.clientWidth / 2 - x * view.scale;
    view.y = canvas.clientHeight / 2 - y * view.scale;
    redraw();
  }

  // Selection and record

  function reach(from, next) {
    const reached = new Set([from]), open = [from];
    while (open.length) for (const other of next[open.pop()]) if (!reached.has(other)) { reached.add(other); open.push(other); }
    return reached;
  }
  function select(index) {
    selected = index;
    [up, down] = index === null ? [new Set(), new Set()] : [reach(index, parents), reach(index, children)];
    if (index === null) byId("record").replaceChildren(element("p", { class: "quiet" }, "Click a node for its record."));
    else show(index);
    redraw();
  }
  function show(index) {
    const node = nodes[index], panel = byId("record");
    byId("said").textContent =
      `${node.id}, ${node.kind}, inputs: ${parents[index].length}, used by: ${children[index].length}`;
    records ??= JSON.parse(byId("records").textContent);
    const kind = element("span", { class: "kind" }, node.kind);
    kind.style.setProperty("--colour", `var(${variable(node.kind)})`);
    const links = Object.entries(node.links || {}).map(([text, url]) => element("a", { href: url, rel: "noreferrer" }, text));
    if (data.served) links.unshift(element("a", { href: `?ref=${encodeURIComponent(node.id)}` }, "trace from here"));
    panel.replaceChildren(
      element("h2", {}, node.id), kind, element("p", { class: "links" }, ...links), pairs(node.fields),
      listed(`Inputs (${parents[index].length})`, parents[index]),
      listed(`Used by (${children[index].length})`, children[index]),
    );
    const record = records[index];
    if (record) {
      panel.append(element("details", { open: "" }, element("summary", {}, "Provenance record"), pairs(record)));
    }
  }
  function pairs(values) {
    const list = element("dl", {});
    for (const [name, value] of Object.entries(values)) {
      if (value === null || value === "" || (typeof value === "object" && !Object.keys(value).length)) continue;
      list.append(element("dt", {}, name.replaceAll("_", " ")), element("dd", {}, shown(value)));
    }
    return list;
  }
  function shown(value) {
    if (Array.isArray(value) && value.every((item) => typeof item !== "object")) return value.join(", ");
    return value !== null && typeof value === "object" ? pairs(value) : String(value);
  }
  function listed(title, indexes) {
    const section = element("section", {}, element("h3", {}, title));
    section.append(buttons(indexes.slice(0, MOST_LISTED)));
    if (indexes.length > MOST_LISTED) {
      const more = element("button", {}, `show ${indexes.length - MOST_LISTED} more`);
      more.addEventListener("click", () => more.replaceWith(buttons(indexes.slice(MOST_LISTED))));
      section.append(more);
    }
    return section;
  }
  function buttons(indexes) {
    const list = element("ul", {});
    for (const index of indexes) {
      const button = element("button", { title: nodes[index].label }, nodes[index].id);
      button.style.setProperty("--colour", `var(${variable(nodes[index].kind)})`);
      button.addEventListener("click", () => { select(index); reveal(index); });
      list.append(element("li", {}, button));
    }
    return list;
  }
  function element(name, attributes, ...content) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...content);
    return made;
  }

  // Search

  function search() {
    const wanted = byId("query").value.trim().toLowerCase(), panel = byId("hits");
    hits = wanted ? nodes.map((_, index) => index).filter((index) => visible(index) && texts[index].includes(wanted)) : [];
    hit = -1;
    panel.hidden = !wanted;
    panel.replaceChildren();
    if (wanted) {
      const found = `${hits.length} found${hits.length || !data.served ? "" : " on this page: press Trace to search the server"}`;
      panel.append(element("h3", { role: "status" }, found), buttons(hits.slice(0, MOST_LISTED)));
    }
    redraw();
  }
  function ask() { location.search = `?ref=${encodeURIComponent(byId("query").value.trim())}`; }
  function nextHit(event) {
    event.preventDefault();
    if (!hits.length) {
      if (data.served && byId("query").value.trim()) ask();
      return;
    }
    hit = (hit + 1) % hits.length;
    select(hits[hit]);
    goTo(hits[hit]);
  }

  // Pointer and keys

  const pointers = new Map();
  let moved = 0, spread = 0;
  function nodeAt(event) {
    const place = canvas.getBoundingClientRect();
    const x = (event.clientX - place.left - view.x) / view.scale, y = (event.clientY - place.top - view.y) / view.scale;
    const found = nodes.findIndex((node, index) =>
      visible(index) && x >= node.x && x <= node.x + WIDTH && y >= node.y && y <= node.y + HEIGHT);
    return found < 0 ? null : found;
  }
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    moved = 0;
    spread = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      const over = nodeAt(event);
      canvas.title = over === null ? "" : `${nodes[over].id}\n${nodes[over].label}`;
      return;
    }
    pointers.set(event.pointerId, event);
    if (pointers.size === 2) {
      const [one, other] = pointers.values(), place = canvas.getBoundingClientRect();
      const apart = Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      if (spread) zoom(apart / spread, (one.clientX + other.clientX) / 2 - place.left, (one.clientY + other.clientY) / 2 - place.top);
      spread = apart;
      moved = Infinity;
      return;
    }
    moved += Math.abs(event.clientX - before.clientX) + Math.abs(event.clientY - before.clientY);
    if (moved < 4) return;
    canvas.classList.add("dragged");
    view.x += event.clientX - before.clientX;
    view.y += event.clientY - before.clientY;
    redraw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (moved < 4 && pointers.size === 1) select(nodeAt(event));
    pointers.delete(event.pointerId);
    canvas.classList.remove("dragged");
  });
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const place = canvas.getBoundingClientRect(), lines = event.deltaMode === 1 ? 16 : 1;
    zoom(Math.exp(-event.deltaY * lines / 400), event.clientX - place.left, event.clientY - place.top);
  }, { passive: false });
  for (const kind of ["pointerdown", "pointermove"]) {
    map.addEventListener(kind, (event) => { if (event.buttons) lookAt(event); });
  }
  function neighbour(key) {
    if (selected === null) return starts.find(visible) ?? nodes.findIndex((_, index) => visible(index));
    const here = nodes[selected];
    const pool = key === "ArrowLeft" ? parents[selected] : key === "ArrowRight" ? children[selected]
      : nodes.map((_, index) => index).filter((index) =>
        nodes[index].x === here.x && (key === "ArrowUp" ? nodes[index].y < here.y : nodes[index].y > here.y));
    const nearest = pool.filter(visible).sort((one, other) => Math.abs(nodes[one].y - here.y) - Math.abs(nodes[other].y - here.y));
    return nearest[0] ?? selected;
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      byId("help").hidden = true;
      byId("query").value = "";
      search();
      select(null);
      canvas.focus();
      return;
    }
    if (event.target.matches("input[type=search]")) return;
    const actions = {
      "/": () => byId("query").focus(), "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
      f: fit, 0: fit, s: toStart, t: toggleTheme, "?": toggleHelp,
    };
    if (event.key.startsWith("Arrow") && event.target === canvas) {
      const found = neighbour(event.key);
      if (found >= 0) { select(found); reveal(found); }
    } else if (actions[event.key]) actions[event.key]();
    else return;
    event.preventDefault();
  });

  // Buttons

  function toStart() {
    if (!starts.length) return;
    select(starts[0]);
    goTo(starts[0]);
  }
  function toggleTheme() { setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); }
  function toggleHelp() {
    byId("help").hidden = !byId("help").hidden;
    byId("keys").setAttribute("aria-expanded", String(!byId("help").hidden));
  }
  function buildLegend() {
    for (const kind of kinds) {
      const box = element("input", { type: "checkbox" }), swatch = element("i", {});
      box.checked = true;
      swatch.style.setProperty("--colour", `var(${variable(kind)})`);
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(kind); else hidden.add(kind);
        drawMap();
        search();
      });
      const count = nodes.filter((node) => node.kind === kind).length;
      byId("legend").append(element("label", {}, box, swatch, `${kind} (${count})`));
    }
  }
  byId("start").addEventListener("click", toStart);
  byId("fit").addEventListener("click", fit);
  byId("closer").addEventListener("click", () => zoom(1.25));
  byId("further").addEventListener("click", () => zoom(0.8));
  byId("theme").addEventListener("click", toggleTheme);
  byId("keys").addEventListener("click", toggleHelp);
  byId("query").addEventListener("input", search);
  byId("search").addEventListener("submit", nextHit);
  byId("ask").addEventListener("click", ask);
  byId("ask").hidden = !data.served;
  buildLegend();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  setTheme(dark.matches ? "dark" : "light");
  new ResizeObserver(resize).observe(byId("stage"));
  resize();
  open();
  if (starts.length === 1) select(starts[0]);
})();
