// The rankings: a column for each model, and between two columns a line for each passage from one place to the other.

import { el, svg, plural, number, duration } from "./dom.js";

const firstRows = 50, moreRows = 200;

// places are the ranks, from 1, of the passages in a ranking.
export function places(order) {
  const out = [];
  order.forEach((x, i) => (out[x.index] = i + 1));
  return out;
}

// quality says where the positives stand: {ranks, ap}, average precision as mteb counts it.
export function quality(order, isPositive) {
  const ranks = order.flatMap((x, i) => (isPositive(x.index) ? [i + 1] : []));
  return { ranks, ap: ranks.reduce((sum, r, i) => sum + (i + 1) / r, 0) / ranks.length };
}

// digits are those of a score that keep neighbours apart.
export function digits(score) {
  return score.toFixed(Math.abs(score) >= 100 ? 2 : 4);
}

// Results draws the columns into an element.
export class Results {
  constructor(container, { onMatches }) {
    this.container = container;
    this.onMatches = onMatches;
    this.resize = new ResizeObserver(() => this.fit());
    this.shown = "b"; // of two columns, the one that a narrow screen shows
  }

  // show draws a run: {passages, positives, columns: [{which, model, result, error, retry}]}; a column without result and error waits.
  show(run) {
    this.resize.disconnect();
    this.run = run;
    this.limit = firstRows;
    this.isPositive = (i) => run.positives.has(run.passages[i]);
    this.draw();
  }

  clear() {
    this.resize.disconnect();
    this.run = undefined;
    this.container.replaceChildren();
  }

  draw() {
    const { run } = this;
    if (!run) return;
    this.resize.disconnect();
    const columns = run.columns.map((c) => this.column(c));
    const two = columns.length === 2;
    this.container.className = `columns${two ? " two" : ""} show-${this.shown}`;
    this.slopes = two ? svg("svg", { class: "slopes", "aria-hidden": "true" }) : undefined;
    this.container.replaceChildren(...(two ? [this.switch(), columns[0], this.slopes, columns[1]] : columns));
    columns.forEach((c) => this.resize.observe(c));
  }

  // switch chooses the column that a narrow screen shows.
  switch() {
    const buttons = this.run.columns.map((c) =>
      el("button", { type: "button", "aria-pressed": String(c.which === this.shown), on: { click: () => {
        this.shown = c.which;
        this.container.classList.remove("show-a", "show-b");
        this.container.classList.add(`show-${c.which}`);
        buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(this.run.columns[i].which === c.which)));
      } } }, el("span", { class: `swatch ${c.which}` }), c.model.id));
    return el("div", { class: "switch", role: "group", "aria-label": "Model that is shown" }, buttons);
  }

  column(c) {
    const id = `column-${c.which}`;
    const head = el("header", {},
      el("h2", { id }, el("span", { class: `swatch ${c.which}` }), c.model.id, el("span", { class: "kind" }, c.model.kind ?? "")),
      el("p", { class: "facts" }, this.facts(c)));
    const body = c.result ? this.rows(c) : c.error ? el("p", { class: "note error", role: "alert" }, c.error.message) : el("p", { class: "note waiting" }, "ranking …");
    return el("article", { class: `column ${c.which}`, "aria-labelledby": id, "aria-busy": String(!c.result && !c.error) }, head, body);
  }

  facts({ result }) {
    if (!result) return [];
    const out = [el("span", { title: result.serverMs === undefined ? "from the request to the answer" : `from the request to the answer; ${duration(result.serverMs)} of it in the server` }, duration(result.ms))];
    if (result.tokens !== undefined) out.push(el("span", {}, plural(result.tokens, "token")));
    const q = quality(result.order, this.isPositive);
    if (q.ranks.length) {
      const shown = q.ranks.slice(0, 6).join(", ") + (q.ranks.length > 6 ? " …" : "");
      out.push(el("span", { title: "average precision of the ranking" }, `AP ${q.ap.toFixed(3)}`), el("span", {}, `positive${q.ranks.length === 1 ? "" : "s"} at ${shown}`));
    }
    return out;
  }

  rows(c) {
    const { order } = c.result;
    const scores = order.map((x) => x.score);
    const top = scores[0] ?? 1;
    const scale = { low: Math.min(0, ...scores.slice(-1)), high: top <= 1 ? 1 : top }; // cosines, sigmoids and means end at 1
    const other = this.run.columns.find((x) => x !== c && x.result && c.which === "b");
    const before = other && places(other.result.order);
    const rows = order.slice(0, this.limit).map((x, i) => this.row(c, x, i + 1, scale, before?.[x.index]));
    const list = el("ol", { class: "rows" }, rows);
    const left = order.length - this.limit;
    if (left <= 0) return list;
    return [list, el("button", { type: "button", class: "more", on: { click: () => this.more(c.which) } }, `Show ${number(Math.min(left, moreRows))} more of ${number(left)}`)];
  }

  more(which) {
    const first = this.limit;
    this.limit += moreRows;
    this.draw();
    this.container.querySelector(`.column.${which} .row:nth-child(${first + 1})`)?.focus();
  }

  row(c, { index, score }, rank, scale, before) {
    const text = this.run.passages[index];
    const passage = el("p", { class: "text" }, text);
    const li = el("li", { class: "row", tabindex: "-1", dataset: { index } },
      el("span", { class: "rank" }, number(rank)),
      el("div", { class: "line" },
        el("span", { class: "score" }, digits(score)),
        this.bar(score, scale),
        before !== undefined && movement(before, rank)),
      passage,
      el("div", { class: "tags" },
        this.isPositive(index) && el("span", { class: "positive" }, "positive"),
        el("button", { type: "button", class: "link whole", hidden: true, "aria-expanded": "false", on: { click: (event) => {
          const open = li.classList.toggle("open");
          event.target.textContent = open ? "less" : "whole text";
          event.target.setAttribute("aria-expanded", String(open));
        } } }, "whole text"),
        c.model.kind === "colbert" && el("button", { type: "button", class: "link", on: { click: () => this.onMatches(c.model, index) } }, "token matches")));
    if (this.run.columns.length === 2) {
      li.addEventListener("pointerenter", () => this.mark(index, true));
      li.addEventListener("pointerleave", () => this.mark(index, false));
      li.addEventListener("focusin", () => this.mark(index, true));
      li.addEventListener("focusout", () => this.mark(index, false));
    }
    return li;
  }

  // bar is longer for a better score: it begins at zero, or at the worst score where that is less, as logits may be.
  bar(score, { low, high }) {
    return el("span", { class: "bar", "aria-hidden": "true" }, el("span", { class: "fill", style: { "--to": ((score - low) / (high - low || 1)).toFixed(4) } }));
  }

  // mark lifts a passage out in both columns.
  mark(index, on) {
    for (const e of this.container.querySelectorAll(`[data-index="${index}"]`)) e.classList.toggle("marked", on);
  }

  // fit does what depends on the sizes of things: which texts do not fit their lines, and where the slopes run.
  fit() {
    const rows = [...this.container.querySelectorAll(".row:not(.open)")].filter((r) => r.offsetWidth);
    const long = rows.map((r) => {
      const text = r.querySelector(".text");
      return text.scrollHeight > text.clientHeight + 1;
    });
    rows.forEach((r, i) => (r.querySelector(".whole").hidden = !long[i]));
    this.drawSlopes();
  }

  drawSlopes() {
    const [left, right] = ["a", "b"].map((which) => this.container.querySelector(`.column.${which}`));
    if (!this.slopes?.clientWidth || !left || !right) return;
    const box = this.slopes.getBoundingClientRect();
    const middles = (column) => new Map([...column.querySelectorAll(".row")].map((row) => {
      const r = row.getBoundingClientRect();
      return [row.dataset.index, r.top + Math.min(r.height, 56) / 2 - box.top];
    }));
    const from = middles(left), to = middles(right), w = box.width;
    const lines = [];
    for (const [index, y] of from) {
      const z = to.get(index);
      if (z === undefined) continue;
      lines.push(svg("path", {
        d: `M0 ${y}C${w / 2} ${y} ${w / 2} ${z} ${w} ${z}`, class: this.isPositive(index) ? "positive" : "", "data-index": index,
      }));
    }
    this.slopes.replaceChildren(...lines);
  }
}

function movement(before, now) {
  const by = before - now;
  if (by === 0) return el("span", { class: "move", title: "the same place as in the other model" }, el("span", { "aria-hidden": "true" }, "="), el("span", { class: "hidden" }, "same place"));
  const [arrow, word] = by > 0 ? ["▲", "up"] : ["▼", "down"];
  return el("span", { class: `move ${word}`, title: `place ${before} in the other model` }, el("span", { "aria-hidden": "true" }, arrow), el("span", { class: "hidden" }, word), ` ${number(Math.abs(by))}`);
}
