"use strict";
// Texts of the run only ever become text nodes and attributes, never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const STATUS = ["made", "failed", "waiting"];
const COLUMNS = ["job", "variant", "seed", "status", "score", "rank", "gain", "beyond", "seconds", "memory", "host",
  "video", "map", "curve", "error", "measured", "length"];
const PAGE = 50;
const CARDS = 12;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const jobs = data.jobs.map(([id, category, prompt, mode]) => ({
  id, prompt, mode, category: category === null ? "" : data.categories[category],
}));
const rows = data.rows.map((values, index) => {
  const row = Object.fromEntries(COLUMNS.map((name, column) => [name, values[column]]));
  const job = jobs[row.job];
  return {
    ...row, index, job, place: row.job,
    variant: data.variants[row.variant], variantPlace: row.variant,
    status: STATUS[row.status], host: row.host === null ? "" : data.hosts[row.host],
    name: `${job.id}.${data.variants[row.variant]}.${row.seed}`,
  };
});
for (const row of rows) {
  row.text = [row.name, row.job.prompt, row.job.category, row.host, row.error].join("\n").toLowerCase();
}

// --- pieces ------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const number = (value, digits) => (value === null ? "–" : value.toFixed(digits).replace("-", "−"));
const score = (row) => number(row.score, data.digits);
const signed = (value, digits = data.digits) => (value === null ? "–"
  : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`);
const largest = rows.reduce((most, row) => Math.max(most, Math.abs(row.gain ?? 0)), 0);
const gainDigits = largest ? Math.min(8, Math.max(0, 2 - Math.floor(Math.log10(largest)))) : 0;
const plural = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

function videoPath(row) {
  return row.video && `${data.base}candidates/${encodeURIComponent(row.name)}/${encodeURIComponent(row.video)}`;
}

function mapPath(row) {
  return row.map && data.base + row.map;
}

// A video without a still shows its first frame when it comes near the screen; others load when they are played.
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting || target.src) continue;
    target.preload = "metadata";
    target.src = target.dataset.src;
  }
}, { rootMargin: "300px" });

function player(row, label) {
  const poster = data.posters[row.index];
  const video = make("video", {
    "data-src": videoPath(row), loop: !calm.matches, playsinline: true, preload: "none",
    poster: poster ? `data:image/jpeg;base64,${poster}` : null, "aria-label": label,
  });
  video.muted = true;
  const button = make("button", {
    type: "button", class: "play", "aria-label": `Play ${label}`,
    onclick: () => { start(video); video.focus(); },
  });
  video.addEventListener("play", () => button.remove());
  video.addEventListener("error", () => {
    if (video.parentElement?.querySelector(".gone")) return;
    button.remove();
    video.after(make("p", { class: "gone" }, "The video cannot be played; is it still in the folder of the run?"));
  });
  if (!poster) near.observe(video);
  return make("div", { class: "player" }, video, button);
}

function start(video) {
  if (!video.src) video.src = video.dataset.src;
  video.controls = true;
  video.play().catch(() => {}); // what is wrong is shown by the error event
}

function shownIn(video, path) {
  const at = video.currentTime, playing = !video.paused;
  video.dataset.src = path;
  video.src = path;
  video.currentTime = at;
  if (playing) start(video);
}

// --- surprise over time ------------------------------------------------------------------------------

function axesOf(shown) {
  const points = shown.flatMap((row) => row.curve ?? []);
  if (!points.length) return null;
  const values = points.map((point) => point[2]);
  const low = Math.min(0, ...values);
  const ends = [...points.map((point) => point[1]), ...shown.map((row) => row.length ?? 0)];
  return { end: Math.max(...ends), low, high: Math.max(...values, low + 1e-9) };
}

function curveOf(row, axes, video) {
  if (!row.curve || !axes) return null;
  const width = 300, height = 52;
  const x = (t) => (t / axes.end) * width;
  const y = (v) => 2 + (height - 4) * (axes.high - v) / (axes.high - axes.low);
  const points = row.curve.map(([start, end, value]) => `${x((start + end) / 2).toFixed(1)},${y(value).toFixed(1)}`);
  const [first, last] = [points[0], points.at(-1)].map((point) => point.split(",")[0]);
  const values = row.curve.map((point) => point[2]);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const peak = row.curve[values.indexOf(Math.max(...values))];
  const now = draw("line", { class: "now", x1: -9, x2: -9, y1: 0, y2: height });
  video.addEventListener("timeupdate", () => {
    for (const end of ["x1", "x2"]) now.setAttribute(end, x(Math.min(video.currentTime, axes.end)));
  });
  const told = `mean ${mean.toPrecision(2)}, peak ${peak[2].toPrecision(2)} at ${peak[0].toFixed(1)} s`;
  const drawing = draw(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `Surprise: ${told}` },
    draw("polygon", { class: "area", points: `${first},${height} ${points.join(" ")} ${last},${height}` }),
    draw("line", { class: "base", x1: 0, x2: width, y1: height, y2: height }),
    draw("polyline", { class: "line", points: points.join(" ") }),
    now,
  );
  return make(
    "div", { class: "curve" }, drawing,
    make("p", { "aria-hidden": "true" }, make("span", {}, `surprise: ${told}`), make("span", {}, `${axes.end.toFixed(1)} s`)),
  );
}

// --- gallery -----------------------------------------------------------------------------------------

const cards = document.getElementById("cards");
const galleryForm = document.getElementById("gallery-filters");
const moreCards = document.getElementById("more-cards");
const items = data.gallery.map(([place, shown]) => {
  const entries = shown.map(([label, index]) => ({ label, row: rows[index] }));
  const scores = entries.map(({ row }) => row.score);
  const [from, to] = [scores[0], scores.at(-1)];
  return {
    job: jobs[place], entries, text: `${jobs[place].id}\n${jobs[place].prompt}`.toLowerCase(),
    gain: from === null || to === null ? null : to - from, best: to,
  };
});
let chosenItems = [];

const missingLast = (value, direction) => (value === null ? Infinity : direction * value);
const ORDERS = {
  list: () => 0,
  gain: (a, b) => missingLast(a.gain, -1) - missingLast(b.gain, -1) || 0,
  worst: (a, b) => missingLast(a.best, 1) - missingLast(b.best, 1) || 0,
};

function figureOf({ label, row }, axes) {
  const title = `${label}: job ${row.job.id}, ${row.variant}, seed ${row.seed}`;
  const shown = player(row, title);
  const single = label === row.variant;
  const measured = row.measured === null ? null
    : make("span", { class: "told" }, `Physics-IQ ${row.measured.toFixed(1)}`);
  return make(
    "figure", {}, shown,
    make(
      "figcaption", {},
      make("span", { class: `key ${single ? `c${row.variantPlace % 6}` : "best"}` }),
      `${single ? label : `${label}: ${row.variant}`}, seed ${row.seed}`,
      make("span", { class: "told" }, score(row)), measured,
      make("button", {
        type: "button", class: "link", onclick: () => openDetail(row), "aria-label": `Details of ${title}`,
      }, "details"),
    ),
    curveOf(row, axes, shown.querySelector("video")),
  );
}

function cardOf(item) {
  const axes = axesOf(item.entries.map(({ row }) => row));
  const figures = item.entries.map((entry) => figureOf(entry, axes));
  const videos = figures.map((figure) => figure.querySelector("video"));
  const heats = item.entries.map(({ row }) => mapPath(row));
  const play = make("button", { type: "button", class: "quiet", onclick: () => together(videos, play) }, "Play together");
  const heat = make("button", {
    type: "button", class: "quiet", "aria-pressed": "false",
    onclick: () => {
      const on = heat.getAttribute("aria-pressed") === "false";
      heat.setAttribute("aria-pressed", on);
      videos.forEach((video, index) => {
        if (heats[index]) shownIn(video, on ? heats[index] : videoPath(item.entries[index].row));
      });
    },
  }, "Heat maps");
  const told = [item.job.category, item.gain === null ? "" : `gain ${signed(item.gain)}`].filter(Boolean);
  const side = make("div", { class: "side" }, ...figures);
  side.style.maxWidth = `${figures.length * 410}px`;
  const id = `job-${item.job.id}`;
  return make(
    "article", { class: "card", "aria-labelledby": id },
    make(
      "header", {}, make("h3", { id }, item.job.id), make("p", {}, told.join(" · ")),
      make("div", {}, play, heats.some(Boolean) ? heat : null),
    ),
    make("p", { class: "prompt" }, item.job.prompt || "(no prompt)"),
    side,
  );
}

function together(videos, button) {
  const playing = videos.some((video) => !video.paused);
  for (const video of videos) {
    if (playing) {
      video.pause();
    } else {
      if (video.readyState) video.currentTime = 0;
      start(video);
    }
  }
  button.textContent = playing ? "Play together" : "Pause";
}

function showGallery() {
  const { text, category, order } = Object.fromEntries(new FormData(galleryForm));
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  chosenItems = items
    .filter((item) => (!category || item.job.category === category) && words.every((word) => item.text.includes(word)))
    .sort(ORDERS[order]);
  cards.querySelectorAll("video").forEach((video) => near.unobserve(video));
  cards.replaceChildren();
  addCards();
}

function addCards() {
  const start = cards.childElementCount;
  cards.append(...chosenItems.slice(start, start + CARDS).map(cardOf));
  const left = chosenItems.length - cards.childElementCount;
  moreCards.hidden = left <= 0;
  moreCards.textContent = `Show ${Math.min(CARDS, left)} more of ${left}`;
  document.getElementById("gallery-count").textContent = items.length
    ? `${cards.childElementCount} of ${plural(chosenItems.length, "job")} shown` : "No video has been made yet.";
  return cards.children[start];
}

// --- candidates --------------------------------------------------------------------------------------

const HEADS = [
  { name: "candidate", title: "Job", value: (row) => row.place, cell: linked },
  { name: "category", title: "Category", value: (row) => row.job.category, text: true },
  { name: "variant", title: "Variant", value: (row) => row.variantPlace, cell: (row) => row.variant, text: true },
  { name: "seed", title: "Seed", value: (row) => row.seed },
  { name: "status", title: "Status", value: (row) => STATUS.indexOf(row.status), cell: statusOf, text: true },
  { name: "rank", title: "Rank", value: (row) => row.rank, cell: rankOf },
  { name: "score", title: "Score", value: (row) => row.score, cell: score, down: true },
  { name: "gain", title: "Guidance gain", value: (row) => row.gain, cell: (row) => signed(row.gain, gainDigits), down: true },
  { name: "measured", title: "Physics-IQ", value: (row) => row.measured, cell: (row) => number(row.measured, 1), down: true },
  { name: "seconds", title: "Seconds", value: (row) => row.seconds, cell: (row) => number(row.seconds, 1), down: true },
  { name: "memory", title: "GiB", value: (row) => row.memory, cell: (row) => number(row.memory, 1), down: true },
].filter(({ name, value }) => !["gain", "measured", "memory", "category"].includes(name)
  || rows.some((row) => value(row) !== null && value(row) !== ""));
const candidateForm = document.getElementById("candidate-filters");
const table = document.getElementById("rows");
let sorted = { name: "candidate", down: false };
let chosenRows = [];
let page = 0;

function linked(row) {
  return make("button", {
    type: "button", class: "link", onclick: () => openDetail(row), "aria-label": `Details of ${row.name}`,
  }, row.job.id);
}

function statusOf(row) {
  return make("span", { class: row.status, title: row.error }, row.status);
}

function rankOf(row) {
  return row.rank === null ? "–" : make("span", { class: row.rank === 1 ? "top-rank" : "" }, String(row.rank));
}

function compare(a, b, down) {
  if (a === b) return 0;
  if (a === null) return 1; // what is not known comes last either way
  if (b === null) return -1;
  return (a < b ? -1 : 1) * (down ? -1 : 1);
}

function sortBy(name) {
  const head = HEADS.find((one) => one.name === name);
  sorted = { name, down: sorted.name === name ? !sorted.down : Boolean(head.down) };
  showRows();
}

function showRows() {
  const { text, job, category, variant, status, best } = Object.fromEntries(new FormData(candidateForm));
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const { value } = HEADS.find((one) => one.name === sorted.name);
  chosenRows = rows.filter((row) => (!job || row.job.id === job.trim())
    && (!category || row.job.category === category) && (!variant || row.variant === variant)
    && (!status || row.status === status) && (!best || row.rank === 1)
    && words.every((word) => row.text.includes(word)));
  chosenRows.sort((a, b) => compare(value(a), value(b), sorted.down)
    || a.place - b.place || compare(a.rank, b.rank, false) || a.index - b.index);
  for (const head of table.tHead.rows[0].cells) {
    if (head.dataset.name === sorted.name) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  turnTo(0);
}

function turnTo(wanted) {
  const last = Math.max(0, Math.ceil(chosenRows.length / PAGE) - 1);
  page = Math.min(Math.max(wanted, 0), last);
  const shown = chosenRows.slice(page * PAGE, (page + 1) * PAGE);
  table.tBodies[0].replaceChildren(...shown.map((row) => make(
    "tr", {}, ...HEADS.map(({ cell, value, text }, column) => {
      const content = cell ? cell(row) : String(value(row) ?? "–");
      return make(column ? "td" : "th", column ? { class: text ? "text" : null } : { scope: "row" }, content);
    }),
  )));
  const from = page * PAGE;
  document.getElementById("row-count").textContent = shown.length
    ? `${(from + 1).toLocaleString("en")} to ${(from + shown.length).toLocaleString("en")} of `
      + plural(chosenRows.length, "candidate")
    : "No candidate matches.";
  document.getElementById("previous").disabled = page === 0;
  document.getElementById("next").disabled = page === last;
}

// --- one candidate -----------------------------------------------------------------------------------

const detail = document.getElementById("detail");

function openDetail(row) {
  const shown = row.video ? player(row, row.name) : null;
  const video = shown?.querySelector("video");
  const heat = video && row.map ? make("button", {
    type: "button", class: "quiet", "aria-pressed": "false",
    onclick: () => {
      const on = heat.getAttribute("aria-pressed") === "false";
      heat.setAttribute("aria-pressed", on);
      shownIn(video, on ? mapPath(row) : videoPath(row));
    },
  }, "Heat map") : null;
  const facts = [
    ["Prompt", row.job.prompt], ["Mode", row.job.mode], ["Category", row.job.category],
    ["Score", row.score === null ? "" : `${score(row)}, rank ${row.rank}`],
    ["Guidance", row.gain === null ? "" : `${signed(row.gain, gainDigits)} a step${beyond(row)}`],
    ["Physics-IQ", row.measured === null ? "" : `${row.measured.toFixed(1)} (Verified)`],
    ["Time", row.seconds === null ? "" : `${row.seconds.toFixed(1)} s`], ["Host", row.host], ["Error", row.error],
  ].filter(([, value]) => value);
  const close = make("button", { type: "button", class: "quiet", onclick: () => detail.close() }, "Close");
  detail.replaceChildren(...[
    make("header", {}, make("h2", { id: "detail-title" }, `${row.job.id}, ${row.variant}, seed ${row.seed}`), close),
    shown, video ? curveOf(row, axesOf([row]), video) : null,
    heat ? make("div", { class: "actions" }, heat) : null,
    make("table", { class: "texts pairs" }, make("tbody", {}, ...facts.map(([name, value]) => make(
      "tr", {}, make("th", { scope: "row" }, name), make("td", { class: name === "Error" ? "failed" : null }, value),
    )))),
  ].filter(Boolean));
  detail.showModal();
}

function beyond(row) {
  if (row.beyond === null) return "";
  return row.beyond ? ", more than chance" : ", no more than random directions";
}

detail.addEventListener("close", () => detail.replaceChildren());
detail.addEventListener("click", (event) => {
  if (event.target === detail) detail.close();
});

// --- begin -------------------------------------------------------------------------------------------

function fill(select, values) {
  if (!values.length) select.closest("label").hidden = true;
  select.append(...values.map((value) => make("option", { value }, value)));
}

for (const form of [galleryForm, candidateForm]) {
  fill(form.elements.category, data.categories);
  form.addEventListener("submit", (event) => event.preventDefault());
}
fill(candidateForm.elements.variant, data.variants);
document.getElementById("job-ids").append(...jobs.map(({ id }) => make("option", { value: id })));
table.tHead.rows[0].append(...HEADS.map(({ name, title, text }, column) => make(
  "th", { scope: "col", "data-name": name, class: text || !column ? "text" : null },
  make("button", { type: "button", onclick: () => sortBy(name) }, title),
)));
galleryForm.addEventListener("input", showGallery);
candidateForm.addEventListener("input", showRows);
candidateForm.addEventListener("reset", () => setTimeout(showRows));
moreCards.addEventListener("click", () => addCards()?.querySelector("button").focus());
document.getElementById("previous").addEventListener("click", () => turnTo(page - 1));
document.getElementById("next").addEventListener("click", () => turnTo(page + 1));
showGallery();
showRows();
