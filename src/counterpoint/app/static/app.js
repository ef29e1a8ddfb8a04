"use strict";
const $ = (id) => document.getElementById(id);
const COLOURS = ["#2a6f97", "#d1495b", "#edae49", "#66a182", "#8d5fa8", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];
const state = { runs: [], row: 0, other: 1, start: 0, only: null, map: null, asked: null };

function make(tag, attributes = {}, ...children) {
  const drawn = ["svg", "circle", "path"].includes(tag);
  const node = drawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

async function ask(path, body) {
  const options = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  const response = await fetch(path, options);
  if (response.ok) return response;
  let text = `the server answers ${response.status}`;
  try { text = (await response.json()).error; } catch { /* no JSON: the status is all there is */ }
  throw new Error(text);
}

/** Run an action; a failure becomes one line on the page. */
const safely = (action) => async (event) => {
  if (event && event.type === "submit") event.preventDefault();
  say("");
  try { await action(event); } catch (error) { say(error.message); }
};

function tile(shown, title) {
  return shown.image ? make("img", { class: "tile", src: shown.image, alt: title }) : make("q", {}, shown.text);
}

function choose(select, names) {
  select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
}

// ------------------------------------------------------------------ rows and slots

function load(row) {
  const slot = document.querySelector("input[name=slot]:checked").value;
  state[slot] = row;
  $(`slot-${slot}`).textContent = row;
}

async function rows() {
  const query = state.only ? `only=${state.only.join(",")}` : `query=${encodeURIComponent($("query").value)}&start=${state.start}`;
  const found = await (await ask(`/api/rows?${query}`)).json();
  $("count").textContent = `${found.count} rows`;
  $("back").disabled = Boolean(state.only) || state.start === 0;
  $("next").disabled = Boolean(state.only) || state.start + found.rows.length >= found.count;
  $("gallery").replaceChildren(...found.rows.map((card) => {
    const pictures = Object.entries(card.tiles).map(([name, shown]) => tile(shown, name));
    const button = make("button", { class: "card", type: "button", "data-row": card.row }, ...pictures, make("small", {}, `${card.row}: ${card.caption}`));
    button.addEventListener("click", () => load(card.row));
    return button;
  }));
}

// ---------------------------------------------------------------------------- maps

async function map() {
  state.map = await (await ask(`/api/map?latent=${encodeURIComponent($("map-latent").value)}&colour=${encodeURIComponent($("map-colour").value)}`)).json();
  const values = state.map.values;
  const kinds = [...new Set(values)].sort((a, b) => a - b);
  const low = kinds[0], high = kinds[kinds.length - 1];
  const colour = (value) => kinds.length <= COLOURS.length ? COLOURS[kinds.indexOf(value)] : `hsl(${240 - 240 * (value - low) / (high - low)} 70% 50%)`;
  $("map").replaceChildren(...state.map.places.map(([x, y], i) =>
    make("circle", { cx: 100 * x, cy: 100 - 100 * y, r: 1, fill: values.length ? colour(values[i]) : COLOURS[0], "data-row": state.map.rows[i] })));
  $("legend").replaceChildren(...(kinds.length <= COLOURS.length ? kinds : [low, high]).map((value) => {
    const key = make("span", {}, `● ${value}  `);
    key.style.color = colour(value);
    return key;
  }));
}

function inside([x, y], ring) {
  let odd = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
    const [xi, yi] = ring[i], [xj, yj] = ring[j];
    if ((yi > y) !== (yj > y) && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

function lasso() {
  let ring = null, line = null;
  const at = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform($("map").getScreenCTM().inverse());
    return [point.x, point.y];
  };
  $("map").addEventListener("pointerdown", (event) => {
    ring = [at(event)];
    line = make("path");
    $("map").append(line);
    event.preventDefault();
  });
  window.addEventListener("pointermove", (event) => {
    if (!ring) return;
    ring.push(at(event));
    line.setAttribute("d", `M${ring.map((p) => p.join(",")).join("L")}Z`);
  });
  window.addEventListener("pointerup", safely(async (event) => {
    if (!ring) return;
    const drawn = ring, [x, y] = ring[0];
    ring = null;
    line.remove();
    if (drawn.every(([a, b]) => Math.hypot(a - x, b - y) < 2)) {
      const row = event.target.dataset && event.target.dataset.row;
      if (row !== undefined) load(Number(row));
      return;
    }
    const chosen = [...$("map").querySelectorAll("circle")].filter((dot) => inside([Number(dot.getAttribute("cx")), Number(dot.getAttribute("cy"))], drawn));
    for (const dot of $("map").querySelectorAll("circle")) dot.classList.toggle("selected", chosen.includes(dot));
    state.only = chosen.length ? chosen.map((dot) => Number(dot.dataset.row)) : null;
    await rows();
  }));
}

// ------------------------------------------------------------------------- questions

function question() {
  const given = [...$("given").querySelectorAll("input:checked")].map((box) => box.value);
  const guidance = $("guidance").value;
  return {
    kind: $("kind").value, row: state.row, other: state.other, latent: $("latent").value,
    coordinate: Number($("coordinate").value), given, prior: $("prior").value,
    n: Number($("n").value), seed: Number($("seed").value), guidance: guidance ? Number(guidance) : null,
  };
}

async function own() {
  const found = {};
  if ($("kind").value !== "translate") return found;
  for (const input of $("own").querySelectorAll("input")) {
    if (input.type === "text" && input.value.trim()) found[input.name] = { text: input.value };
    if (input.type === "file" && input.files.length) {
      const url = await new Promise((done) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        reader.readAsDataURL(input.files[0]);
      });
      found[input.name] = { name: input.files[0].name, data: url.slice(url.indexOf(",") + 1) };
    }
  }
  return found;
}

function panel(shown) {
  const title = make("h4", {}, shown.modality);
  if (shown.tiles) {
    const figures = shown.tiles.map((one, i) => make("figure", {}, tile(one, `${shown.modality}, ${shown.titles[i]}`), make("figcaption", {}, shown.titles[i])));
    return make("div", { class: "panel", "data-modality": shown.modality }, title, make("div", { class: "tiles" }, ...figures));
  }
  const most = Math.max(...shown.bars.map((bar) => Math.abs(bar.change) || Math.abs(bar.mean)), 1e-9);
  const bars = shown.bars.map((bar) => {
    const length = (Math.abs(bar.change) || Math.abs(bar.mean)) / most;
    const text = `${bar.feature}: ${bar.mean.toPrecision(3)} ± ${bar.sd.toPrecision(2)}, change ${bar.change.toPrecision(2)}`;
    return make("div", { class: "bar" }, make("span", {}, text), make("meter", { value: length, "aria-label": bar.feature }));
  });
  return make("div", { class: "panel", "data-modality": shown.modality }, title, ...bars);
}

async function answer() {
  const body = { question: question(), files: await own() };
  if (body.question.kind === "translate" && !body.question.given.length) throw new Error("check one given modality or more");
  $("keep").hidden = true;
  $("answers").replaceChildren();
  const answers = [];
  for (let run = 0; run < state.runs.length; run++) answers.push(await (await ask("/api/answer", { ...body, run })).json());
  $("answers").replaceChildren(...answers.map((one, run) => make("div", { class: "answer" }, make("h3", {}, state.runs[run].name), ...one.panels.map(panel))));
  $("code").textContent = answers[0].code;
  $("keep").hidden = false;
  state.asked = body;
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const keep = (ending) => safely(async () => save(await (await ask(`/api/answer.${ending}`, state.asked)).blob(), `answer.${ending}`));

function fitForm() {
  const kind = $("kind").value;
  for (const part of document.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(kind);
}

async function violins() {
  const shown = await (await ask("/api/violins", { rows: state.only || [], modality: $("vector").value })).json();
  $("violins").src = shown.image;
  $("violins").hidden = false;
}

async function begin() {
  state.runs = await (await ask("/api/about")).json();
  const run = state.runs[0];
  $("run").textContent = state.runs.map((one) => `${one.name} (${one.method}, ${one.rows} rows)`).join(" beside ");
  const names = run.modalities.map((m) => m.name);
  const vectors = run.modalities.filter((m) => m.vector).map((m) => m.name);
  for (const select of ["map-latent", "latent"]) choose($(select), Object.keys(run.latents));
  choose($("map-colour"), run.colours);
  choose($("prior"), run.priors);
  choose($("vector"), vectors);
  $("violin-bar").hidden = !vectors.length;
  $("guidance-label").hidden = !run.guidance;
  $("given").replaceChildren(...names.map((name) => make("label", {}, make("input", { type: "checkbox", value: name, checked: "" }), ` ${name}`)));
  $("own").replaceChildren(...run.modalities.map((m) => make("label", {}, `${m.name} `, make("input", m.text ? { type: "text", name: m.name } : { type: "file", name: m.name }))));
  fitForm();
  if (run.problem) return say(run.problem);
  await Promise.all([rows(), map()]);
}

$("search").addEventListener("submit", safely(() => { state.start = 0; state.only = null; return rows(); }));
$("back").addEventListener("click", safely(() => { state.start = Math.max(0, state.start - 24); return rows(); }));
$("next").addEventListener("click", safely(() => { state.start += 24; return rows(); }));
$("whole").addEventListener("click", safely(() => { state.only = null; return Promise.all([rows(), map()]); }));
for (const id of ["map-latent", "map-colour"]) $(id).addEventListener("change", safely(map));
$("violin").addEventListener("click", safely(violins));
$("kind").addEventListener("change", fitForm);
$("ask").addEventListener("submit", safely(answer));
$("png").addEventListener("click", keep("png"));
$("npz").addEventListener("click", keep("npz"));
$("py").addEventListener("click", () => save(new Blob([$("code").textContent]), "answer.py"));
lasso();
safely(begin)();
