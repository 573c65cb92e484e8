
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const bytes = (number) => {
    if (number < 1024) return number + " B";
    const units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = -1;
    do { number /= 1024; unit++; } while (number >= 1023.95 && unit + 1 < units.length);
    return number.toFixed(1) + " " + units[unit];
  };
  const count = (number) => number.toLocaleString("en-US");
  const plural = (number, one, many) => count(number) + " " + (number === 1 ? one : many);
  const percent = (part, all) => all > 0 ? Math.round(part * 1000 / all) / 10 : 0;
  const delta = (before, now) => before === now ? "0" : (now < before ? "−" : "+") + bytes(Math.abs(now - before));
  const files = data.files;

  // A table with pages; columns: {title, number, value(row) to sort by, cell(row) an element or text}.
  const table = (place, caption, columns, rows, sorted, size = 20) => {
    const state = { page: 0, column: sorted ? sorted[0] : -1, down: sorted ? sorted[1] : false, rows };
    const scroll = make("div", null, "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "Table: " + caption);
    const element = make("table");
    const head = make("tr");
    const body = make("tbody");
    columns.forEach((column, index) => {
      const cell = make("th", null, (column.number ? "number" : "") + (column.path ? " path" : ""));
      cell.scope = "col";
      const button = make("button", column.title);
      button.type = "button";
      button.addEventListener("click", () => {
        state.down = state.column === index ? !state.down : Boolean(column.number);
        state.column = index;
        state.page = 0;
        sort();
        draw();
      });
      cell.append(button);
      head.append(cell);
    });
    const top = make("thead");
    top.append(head);
    element.append(top, body);
    scroll.append(element);
    const pager = make("div", null, "pager");
    const back = make("button", "Previous");
    const next = make("button", "Next");
    const where = make("span");
    where.setAttribute("aria-live", "polite");
    back.type = next.type = "button";
    back.addEventListener("click", () => { state.page--; draw(); });
    next.addEventListener("click", () => { state.page++; draw(); });
    pager.append(back, where, next);
    const sort = () => {
      if (state.column < 0) return;
      const value = columns[state.column].value;
      const order = state.down ? -1 : 1;
      state.rows = state.rows.slice().sort((one, other) => {
        const a = value(one), b = value(other);
        return a < b ? -order : a > b ? order : 0;
      });
    };
    const draw = () => {
      [...head.children].forEach((cell, index) => {
        if (index === state.column) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        else cell.removeAttribute("aria-sort");
      });
      const start = state.page * size;
      body.replaceChildren(...state.rows.slice(start, start + size).map((row) => {
        const line = make("tr");
        for (const column of columns) {
          const cell = column.cell(row);
          const place = make("td", null, (column.number ? "number" : "") + (column.path ? " path" : ""));
          place.append(cell);
          line.append(place);
        }
        return line;
      }));
      const last = Math.min(start + size, state.rows.length);
      where.textContent = state.rows.length === 0 ? "nothing" : count(start + 1) + " to " + count(last) + " of " + count(state.rows.length);
      back.disabled = state.page === 0;
      next.disabled = last >= state.rows.length;
      pager.hidden = state.rows.length <= size && rows.length <= size;
    };
    sort();
    draw();
    place.replaceChildren(scroll, pager);
    return (filtered) => { state.rows = filtered; state.page = 0; sort(); draw(); };
  };

  // Head.
  const image = data.images[data.images.length - 1];
  const facts = at("facts");
  const fact = (name, value, className) => {
    const group = make("div");
    group.append(make("dt", name), make("dd", value, className));
    facts.append(group);
  };
  const marks = { good: "✓", warn: "!", bad: "✗" }, grades = { good: "good: ", warn: "worth a look: ", bad: "bad: " };
  for (const verdict of data.verdicts) {
    const line = make("li", null, verdict.is);
    const mark = make("span", marks[verdict.is], "mark");
    mark.setAttribute("aria-hidden", "true");
    line.append(mark, make("span", grades[verdict.is], "unseen"), verdict.text);
    at("verdicts").append(line);
  }
  fact("Size", bytes(image.size));
  fact("Compressed", bytes(image.stored));
  fact("Layers", count(image.layers));
  fact("Files", count(image.files));
  if (image.platform) fact("Platform", image.platform);
  if (image.created) fact("Created", image.created);
  if (image.digest) fact("Digest", image.digest, "path");

  // Layers, the topmost first. Each has a colour in the map.
  const colour = (layer) => "hsl(" + (layer * 137.5 + 205) % 360 + " 65% 78%)";
  const largest = Math.max(1, ...data.layers.map((layer) => layer.size));
  data.layers.map((layer, number) => [layer, number]).reverse().forEach(([layer, number]) => {
    const wasted = layer.replaced + layer.deleted + layer.duplicated;
    const item = make("li");
    const bar = make("div", null, "bar");
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", bytes(layer.size) + ", " + bytes(wasted) + " wasted");
    for (const [className, part] of [["needed", layer.size - wasted], ["wasted", wasted]]) {
      const piece = make("span", null, className);
      piece.style.width = part * 100 / largest + "%";
      if (part > 0) bar.append(piece);
    }
    const label = make("span", String(number), "number");
    const swatch = make("span", null, "swatch");
    swatch.style.background = colour(number);
    label.prepend(swatch);
    item.append(label, make("span", bytes(layer.size), "size"), bar);
    const about = [plural(layer.added, "path", "paths") + " added", count(layer.changed) + " changed", count(layer.removed) + " deleted"];
    if (wasted > 0) about.push(bytes(wasted) + " wasted (" + percent(wasted, layer.size) + " %)");
    item.append(make("span", about.join(", "), "about"));
    if (layer.words) {
      const words = make("span", layer.words, "words");
      item.append(words);
    }
    at("layers").append(item);
  });

  if (data.advice.length > 0) {
    at("advice-section").hidden = false;
    for (const advice of data.advice) at("advice").append(make("li", advice.text + " Saves " + bytes(advice.saves) + "."));
  }

  // The map: rows of bars, each level below its directory.
  const hidden = files.names.map(() => 0);
  for (const [node, number] of files.hidden) hidden[node] += number;
  for (let node = files.names.length - 1; node > 0; node--) hidden[files.parents[node]] += hidden[node];
  let withHidden = false, children = [];
  const weight = (node) => files.sizes[node] + (withHidden ? hidden[node] : 0);
  const arrange = () => {
    children = files.names.map(() => []);
    for (let node = 1; node < files.names.length; node++) {
      if (files.layers[node] >= 0 || (withHidden && hidden[node] > 0)) children[files.parents[node]].push(node);
    }
    for (const list of children) list.sort((one, other) => weight(other) - weight(one));
  };
  arrange();
  const path = (node) => {
    const names = [];
    for (let at = node; at > 0; at = files.parents[at]) names.unshift(files.names[at]);
    return "/" + names.join("/");
  };
  let shown = 0;
  const show = (root) => {
    const way = [];
    for (let node = root; ; node = files.parents[node]) { way.unshift(node); if (node === 0) break; }
    at("map-path").replaceChildren(...way.map((node, index) => {
      const button = make("button", index === 0 ? "/" : files.names[node] + "/", "link");
      button.type = "button";
      if (node === root) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => show(node));
      return button;
    }));
    shown = root;
    const whole = Math.max(1, weight(root));
    const rows = [];
    let level = [{ node: root, start: 0 }];
    for (let depth = 0; depth < 5 && level.length > 0; depth++) {
      const cells = [];
      for (const { node, start } of level) {
        let from = start;
        for (const child of children[node]) {
          const width = weight(child) * 100 / whole;
          if (width < 0.4) break;
          cells.push({ node: child, start: from, width });
          from += width;
        }
      }
      if (cells.length === 0) break;
      const row = make("div", null, "row");
      for (const { node, start, width } of cells) {
        const isDirectory = children[node].length > 0;
        // A letter or two of a name tells nothing.
        const cell = make(isDirectory ? "button" : "span", width < 3 ? "" : files.names[node], "cell");
        cell.style.left = start + "%";
        cell.style.width = width + "%";
        const isThere = files.layers[node] >= 0;
        if (isThere) cell.style.background = colour(files.layers[node]);
        else cell.classList.add("deleted");
        cell.title = path(node) + (isThere ? ", " + bytes(files.sizes[node]) + ", layer " + files.layers[node] : ", deleted");
        if (withHidden && hidden[node] > 0) cell.title += ", " + bytes(hidden[node]) + " not shown";
        if (isDirectory) {
          cell.type = "button";
          cell.setAttribute("aria-label", cell.title);
          cell.addEventListener("click", () => show(node));
        }
        row.append(cell);
      }
      rows.push(row);
      level = cells;
    }
    at("map").replaceChildren(...(rows.length > 0 ? rows : [make("p", "There is no content here.")]));
  };
  show(0);
  at("map-hidden-line").hidden = hidden[0] === 0;
  at("map-hidden").addEventListener("input", () => {
    withHidden = at("map-hidden").checked;
    arrange();
    // What was deleted has no place without the hidden bytes.
    show(files.layers[shown] >= 0 || withHidden ? shown : 0);
  });

  // Changes.
  const signs = ["+ added", "~ changed", "- deleted"];
  const paths = new Map();
  const known = (node) => {
    if (!paths.has(node)) paths.set(node, path(node));
    return paths.get(node);
  };
  const refresh = table(at("changes"), "Changes by layer", [
    { title: "Layer", number: true, value: (row) => row[1], cell: (row) => String(row[1]) },
    { title: "Change", value: (row) => row[2], cell: (row) => make("span", signs[row[2]], ["good", "warn", "bad"][row[2]]) },
    { title: "Size", number: true, value: (row) => row[3], cell: (row) => bytes(row[3]) },
    { title: "Path", path: true, value: (row) => known(row[0]), cell: (row) => known(row[0]) },
  ], files.changes, [2, true], 100);
  const choose = at("layer");
  const option = (value, text) => { const element = make("option", text); element.value = value; choose.append(element); };
  option("", "all");
  data.layers.forEach((_, number) => option(String(number), String(number)));
  const filter = () => {
    const words = at("filter").value.toLowerCase();
    const layer = choose.value, sign = at("sign").value;
    refresh(files.changes.filter((row) =>
      (layer === "" || row[1] === Number(layer)) && (sign === "" || row[2] === Number(sign)) && (words === "" || known(row[0]).toLowerCase().includes(words))));
  };
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["filter", "layer", "sign"]) at(id).addEventListener("input", filter);

  if (data.waste.length > 0) {
    at("waste-section").hidden = false;
    table(at("waste"), "Waste by directory", [
      { title: "Wasted", number: true, value: (row) => row.bytes, cell: (row) => bytes(row.bytes) },
      { title: "Files", number: true, value: (row) => row.files, cell: (row) => count(row.files) },
      { title: "Layer", number: true, value: (row) => row.layer, cell: (row) => String(row.layer) },
      { title: "Directory", path: true, value: (row) => row.directory, cell: (row) => row.directory },
      { title: "Why", value: (row) => row.reason, cell: (row) => row.reason },
    ], data.waste, [0, true]);
  }

  if (data.findings.length === 0) at("findings").append(make("p", "Nothing was found.", "good"));
  else table(at("findings"), "Findings", [
    { title: "Severity", value: (row) => ["error", "warning", "note"].indexOf(row.severity), cell: (row) => make("span", row.severity, { error: "bad", warning: "warn", note: "" }[row.severity]) },
    { title: "Layer", number: true, value: (row) => row.layer === null ? -1 : row.layer, cell: (row) => row.layer === null ? "image" : String(row.layer) },
    { title: "Rule", value: (row) => row.rule, cell: (row) => row.rule },
    { title: "Finding", path: true, value: (row) => row.text, cell: (row) => row.text },
  ], data.findings, [0, false]);

  if (data.comparison) {
    const comparison = data.comparison, [before, now] = data.images;
    at("comparison-section").hidden = false;
    at("comparison-title").textContent = "Compared with " + before.name;
    const rows = [["Compressed", before.stored, now.stored], ["Size", before.size, now.size], ["Wasted", before.wasted, now.wasted]];
    table(at("comparison"), "Sizes", [
      { title: "What", value: (row) => row[0], cell: (row) => row[0] },
      { title: "Before", number: true, value: (row) => row[1], cell: (row) => bytes(row[1]) },
      { title: "Now", number: true, value: (row) => row[2], cell: (row) => bytes(row[2]) },
      { title: "Difference", number: true, value: (row) => row[2] - row[1], cell: (row) => delta(row[1], row[2]) },
    ], rows);
    if (comparison.packages.length > 0) {
      at("packages").before(make("h3", "Packages"));
      table(at("packages"), "Packages", [
        { title: "Package", path: true, value: (row) => row.name, cell: (row) => row.name },
        { title: "Before", path: true, value: (row) => row.before || "", cell: (row) => row.before || "–" },
        { title: "Now", path: true, value: (row) => row.now || "", cell: (row) => row.now || "–" },
      ], comparison.packages, [0, false]);
    }
    at("comparison-paths").before(make("h3", "Paths: " + count(comparison.added) + " added, " + count(comparison.changed) + " changed, " + count(comparison.removed) + " deleted"));
    const names = { "+": "+ added", "~": "~ changed", "-": "- deleted" }, classes = { "+": "good", "~": "warn", "-": "bad" };
    table(at("comparison-paths"), "Paths that differ", [
      { title: "Change", value: (row) => row[0], cell: (row) => make("span", names[row[0]], classes[row[0]]) },
      { title: "Difference", number: true, value: (row) => Math.abs(row[3] - row[2]), cell: (row) => delta(row[2], row[3]) },
      { title: "Path", path: true, value: (row) => row[1], cell: (row) => row[1] },
    ], comparison.paths, [1, true]);
  }
})();
