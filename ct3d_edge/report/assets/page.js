"use strict";
// Everything shown of a scan is put in as text: its name may hold markup.
const table = document.getElementById("scans");
const body = table.tBodies[0];
const rows = Array.from(body.rows);
const count = document.getElementById("count");

function make(kind, text, attributes) {
  const node = document.createElement(kind);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  return node;
}

function put(row) {
  body.append(row);
  if (row.opened) body.append(row.opened);
}

function sort(head) {
  const column = Array.from(head.parentNode.children).indexOf(head);
  const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const numbers = head.classList.contains("number");
  const key = row => numbers ? parseFloat(row.cells[column].dataset.value) : row.cells[column].textContent;
  const sign = order === "ascending" ? 1 : -1;
  rows.sort((a, b) => {
    const x = key(a), y = key(b);
    if (!numbers) return sign * x.localeCompare(y, "en", { numeric: true });
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // without a value: last
    return sign * (x - y);
  });
  rows.forEach(put);
}

function filter() {
  const text = document.getElementById("text").value.toLowerCase();
  const status = document.getElementById("status").value;
  let shown = 0;
  for (const row of rows) {
    const fits = row.textContent.toLowerCase().includes(text) && (!status || row.dataset.status === status);
    row.hidden = !fits;
    if (row.opened) row.opened.hidden = !fits || !row.open;
    shown += fits;
  }
  count.textContent = `${shown} of ${rows.length} scans shown`;
}

function place(view, sprite, index) {
  const column = index % sprite.columns, line = Math.floor(index / sprite.columns);
  const share = (at, all) => all > 1 ? `${100 * at / (all - 1)}%` : "0";
  view.style.backgroundPosition = `${share(column, sprite.columns)} ${share(line, sprite.lines)}`;
}

function layer(sprite, source) {
  const view = make("div");
  view.style.backgroundImage = `url(${source})`;
  view.style.backgroundSize = `${100 * sprite.columns}% ${100 * sprite.lines}%`;
  return view;
}

function views(data, name) {
  const sprite = data.sprite, parts = make("div");
  const slice = make("div", undefined, { class: "slice", role: "img" });
  const layers = [layer(sprite, sprite.lung)];
  if (sprite.heat) layers.push(layer(sprite, sprite.heat));
  slice.style.aspectRatio = sprite.aspect;
  slice.append(...layers);
  const slider = make("input", undefined, { type: "range", min: 0, max: sprite.slices - 1, step: 1 });
  const title = make("label"), said = make("span");
  title.append(make("span", "Slice: "), said, make("br"), slider);
  function show() {
    const index = Number(slider.value), words = `${index + 1} of ${sprite.slices}`;
    layers.forEach(view => place(view, sprite, index));
    said.textContent = words;
    slider.setAttribute("aria-valuetext", `slice ${words}`);
    slice.setAttribute("aria-label", `Slice ${words} of ${name}, lung window`);
  }
  slider.value = Math.floor(sprite.slices / 2);
  slider.addEventListener("input", show);
  show();
  parts.append(slice, title);
  if (sprite.heat) {
    const box = make("input", undefined, { type: "checkbox" }), tick = make("label");
    box.checked = true;
    box.addEventListener("change", () => { layers[1].hidden = !box.checked; });
    tick.append(box, make("span", ` Where the network sees what speaks for ${sprite.label}; brightest at this scan's own highest`));
    parts.append(tick);
  }
  return parts;
}

function details(data, name) {
  const cell = make("td", undefined, { colspan: table.tHead.rows[0].cells.length });
  const whole = make("div", undefined, { class: "views" }), text = make("div");
  if (data.sprite) whole.append(views(data, name));
  for (const sentence of data.sentences) text.append(make("p", sentence));
  if (data.flags.length) {
    const list = make("ul");
    for (const flag of data.flags) list.append(make("li", flag));
    text.append(make("h3", "Findings"), list);
  }
  whole.append(text);
  cell.append(whole);
  return cell;
}

function kept(id) {
  const node = document.getElementById(id); // none where there was no room for the scan's pictures
  const data = node ? JSON.parse(node.textContent) : { sentences: ["Nothing more was kept of this scan."] };
  data.flags = JSON.parse(document.getElementById(`flags-${id}`).textContent);
  return data;
}

function toggle(row, button) {
  row.open = !row.open;
  if (!row.opened) { // pictures are decoded when somebody wants to see them
    row.opened = make("tr", undefined, { class: "scan" });
    row.opened.append(details(kept(button.dataset.scan), button.textContent));
    row.after(row.opened);
  }
  row.opened.hidden = !row.open;
  button.setAttribute("aria-expanded", String(row.open));
}

for (const head of table.tHead.rows[0].cells) {
  head.querySelector("button").addEventListener("click", () => sort(head));
}
for (const row of rows) {
  const button = row.cells[0].querySelector("button");
  button.addEventListener("click", () => toggle(row, button));
}
document.getElementById("text").addEventListener("input", filter);
document.getElementById("status").addEventListener("change", filter);
filter();
