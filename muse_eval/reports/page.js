"use strict";
// The evidence of the page. Whatever models or data say enters the document as text alone: through `put`.

const SHADES = [0.5, 1.5, 3, 5, 8, 12];
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Cs}/gu;

/** Make an element; children are elements, or texts, which stay texts. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Set a text into an element; what would not be seen, or would turn other text around, is spelled out. */
function put(element, text) {
  let end = 0;
  for (const found of text.matchAll(UNSEEN)) {
    element.append(text.slice(end, found.index));
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    element.append(make("span", { class: "control" }, `U+${code}`));
    end = found.index + found[0].length;
  }
  element.append(text.slice(end));
  return element;
}

async function unpack(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (one) => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

// ── the table ───────────────────────────────────────────────────────────────────────────────────
function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, at) => {
    const button = make("button", { type: "button" }, ...head.childNodes);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = head.dataset.sort === "text";
      const key = (row) => (text ? row.cells[at].textContent.trim() : parseFloat(row.cells[at].dataset.value ?? "NaN"));
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (text) return down ? y.localeCompare(x) : x.localeCompare(y);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return down ? y - x : x - y;
      });
      body.append(...rows);
    });
  });
}

// ── the evidence ────────────────────────────────────────────────────────────────────────────────
const ORDERS = {
  worst: "score, the worst first",
  best: "score, the best first",
  retrain: "difference from retrain",
  disagreement: "disagreement of the models",
  number: "number",
};

class Evidence {
  constructor(outline, place) {
    this.outline = outline;
    this.place = place;
    this.blocks = new Map();
    this.order = "worst";
    this.query = "";
    this.filter = "";
    const unlearned = outline.runs.filter((run) => !outline.references.includes(run));
    this.shown = [...outline.references, ...unlearned].slice(0, outline.most);
    this.column = outline.columns[0];
    this.here = null;
  }

  async block(column) {
    if (!this.blocks.has(column.block)) this.blocks.set(column.block, unpack(column.block));
    return this.blocks.get(column.block);
  }

  /** The runs that are shown side by side, and have this column. */
  get runs() {
    return [...this.data.runs, ...this.shown.filter((run) => this.probed.includes(run))].filter((run) => this.shown.includes(run));
  }

  /** The runs under probes that this column's examples show too. */
  get probed() {
    return [...new Set(Object.values(this.data.beside ?? {}).flat())].filter((run) => !this.outline.runs.includes(run));
  }

  /** The runs that can be chosen: those of probes only while a link shows them. */
  get choice() {
    return [...this.outline.runs, ...this.shown.filter((run) => this.probed.includes(run))];
  }

  /** The shown runs that are judged: the unlearned ones, else all. */
  get judged() {
    const found = this.runs.filter((run) => !this.outline.references.includes(run));
    return found.length ? found : this.runs;
  }

  score(example, run) {
    const found = example.runs[run];
    return found && found.score !== null ? found.score : null;
  }

  scores(example, runs) {
    return runs.map((run) => this.score(example, run)).filter((one) => one !== null);
  }

  /** How bad an example is for the column's goal: of forget text what is remembered, of retain text what is lost. */
  badness(example) {
    const found = this.scores(example, this.judged);
    // Of an attack's texts only those of the forget split are bad to be known.
    if (!found.length || (this.data.kind === "tokens" && example.split !== this.data.home)) return -Infinity;
    return this.data.kind === "tokens" || this.data.goal === "higher" ? -Math.min(...found) : Math.max(...found);
  }

  apart(example) {
    const base = this.score(example, "retrain");
    if (base === null) return -Infinity;
    return Math.max(...this.scores(example, this.runs.filter((run) => run !== "retrain")).map((one) => Math.abs(one - base)), -Infinity);
  }

  spread(example) {
    const found = this.scores(example, this.runs);
    return found.length ? Math.max(...found) - Math.min(...found) : -Infinity;
  }

  texts(example) {
    const answers = this.runs.map((run) => example.runs[run]).filter(Boolean);
    return [
      String(example.id),
      ...Object.values(example.given),
      ...example.truths.map((pieces) => pieces.join("")),
      ...answers.flatMap((one) => [...(one.said ? [one.said.join("")] : []), ...Object.values(one.notes ?? {})]),
    ];
  }

  /** Whether an example is more remembered, or less kept, than retrain's by any judged model. */
  beyond(example) {
    const base = this.score(example, "retrain");
    const lower = this.data.kind === "tokens" || this.data.goal === "higher";
    return base !== null && this.scores(example, this.judged).some((one) => (lower ? one < base - 1e-9 : one > base + 1e-9));
  }

  listed() {
    const query = this.query.toLocaleLowerCase();
    const kept = this.data.examples.filter((example) => {
      if (this.filter === "beyond" && !this.beyond(example)) return false;
      if (this.filter.startsWith("split:") && example.split !== this.filter.slice(6)) return false;
      return !query || this.texts(example).some((text) => text.toLocaleLowerCase().includes(query));
    });
    const keys = {
      worst: (one) => -this.badness(one), best: (one) => this.badness(one), number: null,
      retrain: (one) => -this.apart(one), disagreement: (one) => -this.spread(one),
    };
    const key = keys[this.order];
    const value = (one) => { const found = key(one); return Number.isFinite(found) ? found : Infinity; };
    return key ? kept.map((one) => [value(one), one]).sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0)).map((pair) => pair[1]) : kept;
  }

  link(example) {
    const split = example.split === this.data.home ? "" : `${example.split.split("/").map(encodeURIComponent).join("/")}/`;
    return `#${encodeURIComponent(this.column.name)}/${split}${example.id}`;
  }

  // ── what is drawn ─────────────────────────────────────────────────────────────────────────────
  async open(column, split, id, run) {
    this.column = column;
    this.data = await this.block(column);
    const beside = run && Object.hasOwn(this.data.beside ?? {}, run) ? this.data.beside[run] : null;
    if (beside) {
      this.shown = [...beside];
    } else if (run && this.data.runs.includes(run) && !this.shown.includes(run)) {
      // The last unlearned model makes room: what it is held against stays.
      const out = [...this.shown].reverse().find((one) => !this.outline.references.includes(one)) ?? this.shown.at(-1);
      this.shown = [...this.shown.filter((one) => this.shown.length < this.outline.most || one !== out), run];
    }
    if (this.filter.startsWith("split:") && !this.data.examples.some((one) => one.split === this.filter.slice(6))) this.filter = "";
    this.here = id === null ? null : (this.data.examples.find((one) => one.id === id && one.split === (split || this.data.home)) ?? null);
    this.draw();
  }

  draw() {
    this.found = this.listed();
    if (this.here === null) this.here = this.found[0] ?? null;
    this.place.replaceChildren(this.panel(), this.desk());
    this.settle();
  }

  /** Scroll the list, and it alone, to the example that is shown. */
  settle() {
    const list = this.place.querySelector(".list");
    const row = list?.querySelector("[aria-current]")?.parentElement;
    if (row) list.scrollTop = row.offsetTop - list.offsetTop - list.clientHeight / 3;
  }

  panel() {
    const tabs = make("nav", { class: "tabs", "aria-label": "Column" }, ...this.outline.columns.map((column) =>
      make("a", { href: `#${encodeURIComponent(column.name)}`, "aria-current": column === this.column ? "true" : null }, column.title)));
    const models = make("fieldset", {}, make("legend", {}, `Models side by side, up to ${this.outline.most}`), ...this.choice.map((run) => this.tick(run)));
    const order = make("select", { id: "order" }, ...Object.entries(ORDERS)
      .filter(([name]) => name !== "retrain" || this.data.runs.includes("retrain"))
      .map(([name, said]) => make("option", { value: name, selected: name === this.order }, said)));
    order.addEventListener("change", () => { this.order = order.value; this.again("order"); });
    const splits = [...new Set(this.data.examples.map((one) => one.split))];
    const kinds = [["", "all examples"], ...(splits.length > 1 ? splits.map((one) => [`split:${one}`, one]) : [])];
    if (this.data.runs.includes("retrain")) kinds.push(["beyond", this.data.goal === "higher" ? "known less than to retrain" : "known better than to retrain"]);
    const filter = make("select", { id: "filter" }, ...kinds.map(([name, said]) => make("option", { value: name, selected: name === this.filter }, said)));
    filter.addEventListener("change", () => { this.filter = filter.value; this.again("filter"); });
    const search = make("input", { type: "search", id: "search", value: this.query });
    search.addEventListener("input", () => { this.query = search.value; this.again(null); });
    const field = (id, said, control) => make("div", {}, make("label", { class: "above", for: id }, said), control);
    return make("div", { class: "panel" }, tabs, models, field("order", "Sort by", order), field("filter", "Show", filter), field("search", "Search", search));
  }

  tick(run) {
    const on = this.shown.includes(run);
    const box = make("input", { type: "checkbox", value: run, checked: on, disabled: !on && this.shown.length >= this.outline.most });
    box.addEventListener("change", () => {
      this.shown = box.checked ? this.choice.filter((one) => one === run || this.shown.includes(one)) : this.shown.filter((one) => one !== run);
      this.draw();
      [...this.place.querySelectorAll("input[type=checkbox]")].find((one) => one.value === run)?.focus();
    });
    return make("label", { class: "tick" }, box, this.bead(run), run);
  }

  bead(run) {
    const draw = (tag, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      return element;
    };
    const bead = draw("svg", { class: "bead", width: 9, height: 9, viewBox: "0 0 10 10", "aria-hidden": "true" });
    bead.append(draw("circle", { cx: 5, cy: 5, r: 5, fill: this.outline.colours[run] }));
    return bead;
  }

  /** Draw the list and the example again, and leave the controls, or put the focus back on one. */
  again(id) {
    this.found = this.listed();
    this.here = this.found.includes(this.here) ? this.here : (this.found[0] ?? null);
    this.place.querySelector(".desk").replaceWith(this.desk());
    this.settle();
    if (id) document.getElementById(id).focus();
  }

  desk() {
    const list = make("ol", { class: "list", "aria-label": "Examples" }, ...this.found.map((example) => make("li", {}, this.row(example))));
    list.addEventListener("keydown", (event) => {
      const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const links = [...list.querySelectorAll("a")];
      const next = way && links[links.indexOf(document.activeElement) + way];
      if (next) { event.preventDefault(); next.focus(); }
    });
    const said = `${this.found.length} of ${this.data.examples.length} example${this.data.examples.length === 1 ? "" : "s"}`;
    const side = make("div", {}, make("p", { class: "count", role: "status" }, said), this.found.length ? list : null);
    return make("div", { class: "desk" }, side, this.here ? this.example(this.here, true) : make("p", { class: "gap" }, "No example is left; clear the search or the filter."));
  }

  row(example) {
    const scores = make("span", { class: "scores" }, ...this.runs.map((run) => make("i", {}, this.bead(run), this.short(this.score(example, run)))));
    const hint = put(make("span", { class: "hint" }), (Object.values(example.given)[0] ?? "").slice(0, 80));
    return make("a", { href: this.link(example), "aria-current": example === this.here ? "true" : null }, make("span", { class: "id" }, String(example.id)), scores, hint);
  }

  short(score) {
    return score === null ? "–" : score.toFixed(2);
  }

  example(example, alone) {
    const at = this.found.indexOf(example);
    const way = (step, said) => (this.found[at + step] && at >= 0 ? make("a", { href: this.link(this.found[at + step]) }, said) : null);
    const split = example.split === this.data.home ? "" : `, ${example.split}`;
    const head = make("h3", { tabindex: "-1" }, `${this.column.title}, example ${example.id}${split}`);
    const box = make("article", { class: "example" }, head);
    if (alone) box.append(make("p", { class: "ways" }, make("a", { href: this.link(example) }, "link to this example"), way(-1, "← before"), way(1, "next →")));
    if (this.data.kind !== "tokens" || !this.runs.some((run) => example.runs[run]?.tokens)) {
      for (const [name, text] of Object.entries(example.given)) box.append(make("h4", {}, name), put(make("p", { class: "text given", dir: "auto" }), text));
    }
    box.append(make("div", { class: "sides" }, ...this.runs.map((run) => this.side(example, run))));
    if (this.data.kind === "tokens") box.append(this.key());
    if (this.data.kind === "rouge") box.append(make("p", { class: "key" }, make("mark", {}, "marked"), " words are the longest common subsequence that ROUGE-L counted; it compares letters a–z and digits in lower case."));
    return box;
  }

  side(example, run) {
    const answer = example.runs[run];
    const box = make("div", { class: "side" }, make("p", { class: "name" }, this.bead(run), run));
    if (!answer) return box.append(make("p", { class: "sum" }, "has no such example")), box;
    box.append(make("p", { class: "sum" }, this.sum(example, answer, run)));
    if (answer.tokens) box.append(this.tokens(example.cuts[answer.cut], answer.tokens));
    if (answer.said) box.append(make("h4", {}, "truth"), this.truth(example.truths[answer.truth], new Set(answer.hits)), make("h4", {}, "response"), this.marked(answer.said));
    for (const [name, text] of Object.entries(answer.notes ?? {})) box.append(make("h4", {}, name), put(make("p", { class: "text", dir: "auto" }), text));
    return box;
  }

  /** What an answer's score is made of, so that it can be checked by eye. */
  sum(example, answer, run) {
    if (answer.score === null) return `${this.data.score} is undefined`;
    if (answer.said) {
      const [truth, said] = answer.words;
      if (answer.odd) return `ROUGE-L ${answer.score.toFixed(4)}; the words that it counted cannot be shown`;
      return `ROUGE-L ${answer.score.toFixed(4)} = 2 × ${answer.hits.length} / (${truth} + ${said} words)`;
    }
    if (this.data.kind !== "tokens") return `${this.data.score} ${answer.score.toFixed(4)}`;
    const every = this.data.examples.map((one) => this.score(one, run)).filter((one) => one !== null);
    const rank = every.filter((one) => one < answer.score).length + 1;
    return `${this.data.score} ${answer.score.toFixed(4)} nats: number ${rank} of ${every.length} texts, the likeliest first`;
  }

  truth(pieces, hits) {
    const box = make("p", { class: "text truth", dir: "auto" });
    pieces.forEach((piece, at) => put(at % 2 && hits.has((at - 1) / 2) ? box.appendChild(make("mark")) : box, piece));
    return box;
  }

  marked(pieces) {
    const box = make("p", { class: "text response", dir: "auto" });
    if (!pieces.join("").trim()) return box.append(make("span", { class: "control" }, "empty")), box;
    pieces.forEach((piece, at) => put(at % 2 ? box.appendChild(make("mark")) : box, piece));
    return box;
  }

  tokens(pieces, values) {
    const box = make("p", { class: "text tokens", dir: "auto" });
    pieces.forEach((piece, at) => {
      const value = values[at];
      if (value === null || value === undefined) { put(box, piece); return; }
      const nats = (value >> 1) / 100;
      const shade = SHADES.filter((from) => nats >= from).length;
      const token = make("span", { class: `token s${shade}${value & 1 ? " counted" : ""}`, title: `log p = −${nats.toFixed(2)}` });
      box.append(put(token, piece || "▫"));
    });
    return box;
  }

  key() {
    const steps = ["0", ...SHADES.map(String)].map((from, at) => make("span", { class: `s${at}` }, from));
    return make("p", { class: "key" }, "Shaded by −log p in nats, from: ", ...steps, "; ", make("span", { class: "token counted" }, "underlined"), ` are the tokens that ${this.data.score} counted.`);
  }

  /** All listed examples, one below the other, for paper. */
  print() {
    this.unprint();
    if (this.data) this.place.append(make("div", { class: "paper" }, make("p", {}, `${this.column.title}, examples listed: ${this.found.length}`), ...this.found.map((one) => this.example(one, false))));
  }

  unprint() {
    this.place.querySelector(".paper")?.remove();
  }
}

// ── links ───────────────────────────────────────────────────────────────────────────────────────
function read(hash) {
  const found = /^#([^/@]+)(?:\/(?:(.+)\/)?(\d+))?(?:@(.+))?$/.exec(hash);
  if (!found) return null;
  try {
    const [, column, split, id, run] = found.map((one) => (one === undefined ? undefined : decodeURIComponent(one)));
    return { column, split: split ?? "", id: id === undefined ? null : Number(id), run };
  } catch {
    return null;
  }
}

async function start() {
  document.querySelectorAll("#table table").forEach(sortable);
  const place = document.getElementById("evidence-app");
  if (!place) return;
  const waits = document.getElementById("evidence-waits");
  if (!("DecompressionStream" in window)) { waits.append(" This browser cannot unpack them: it has no DecompressionStream."); return; }
  const outline = await unpack("outline");
  const evidence = new Evidence(outline, place);
  const follow = async (arrived) => {
    const asked = read(location.hash);
    const column = asked && outline.columns.find((one) => one.name === asked.column);
    if (column) await evidence.open(column, asked.split, asked.id, asked.run);
    else if (arrived) await evidence.open(evidence.column, "", null);
    const fromList = document.activeElement === document.body ? false : place.contains(document.activeElement);
    if (column && !fromList) {
      document.getElementById("evidence").scrollIntoView();
      if (asked.id !== null) place.querySelector(".example h3")?.focus({ preventScroll: true });
    }
  };
  let inList = false;
  place.addEventListener("click", (event) => { inList = event.target.closest("a[href^='#']") !== null; });
  const moved = async () => {
    const kept = inList;
    inList = false;
    if (!kept) return follow(false);
    const asked = read(location.hash);
    const column = asked && outline.columns.find((one) => one.name === asked.column);
    if (!column) return;
    await evidence.open(column, asked.split, asked.id, asked.run);
    const current = place.querySelector(asked.id === null ? ".tabs [aria-current]" : ".list [aria-current]");
    (current ?? place.querySelector(".example h3"))?.focus({ preventScroll: true });
  };
  window.addEventListener("hashchange", moved);
  window.addEventListener("beforeprint", () => { evidence.print(); document.querySelectorAll("details").forEach((one) => { one.open = true; }); });
  window.addEventListener("afterprint", () => evidence.unprint());
  waits.hidden = true;
  place.hidden = false;
  await follow(true);
  document.querySelector("#pictures")?.addEventListener("pointerover", (event) => {
    const link = event.target.closest("a");
    const asked = link && !link.querySelector("title") && read(link.getAttribute("href"));
    if (!asked) return;
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = `${asked.run ?? ""}: example ${asked.id}`;
    link.prepend(title);
  });
  document.body.dataset.ready = "yes";
}

start();
