// Token by token: which parts of a passage a ColBERT model matches with each token of the query. A score is the sum, or the mean, of
// each query token's best match.

import { el, number } from "./dom.js";
import * as api from "./api.js";
import { digits } from "./results.js";

const mostRows = 200; // of the matrix

// best is the place of the largest number.
const best = (row) => row.reduce((top, x, i) => (x > row[top] ? i : top), 0);

// characters are what people see as characters. Older browsers cannot tell: they get code points.
function characters(text) {
  if (!Intl.Segmenter) return Array.from(text);
  return Array.from(new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(text), (x) => x.segment);
}

// segments cuts a text where tokens begin and end: [{text, tokens}], tokens being places among the list that has {start, end} in
// characters (code points). What people see as one character, such as an emoji of several, is never cut.
export function segments(text, tokens) {
  const points = Array.from(text);
  const covers = points.map(() => []);
  tokens.forEach((t, i) => {
    for (let k = t.start; k < t.end && k < points.length; k++) covers[k].push(i);
  });
  const out = [];
  let at = 0;
  for (const segment of characters(text)) {
    const n = Array.from(segment).length;
    const of = [...new Set(covers.slice(at, at + n).flat())];
    at += n;
    const last = out.at(-1);
    if (last && String(last.tokens) === String(of)) last.text += segment;
    else out.push({ text: segment, tokens: of });
  }
  return out;
}

// Matches shows a passage's matches in a dialog.
export class Matches {
  constructor(dialog) {
    this.dialog = dialog;
    this.view = "text";
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // beside it
    });
    dialog.addEventListener("close", () => this.running?.abort());
  }

  // open asks for the matches of one model; models are those that can be chosen in the dialog.
  async open(model, models, query, passage) {
    Object.assign(this, { model, models, query, passage, data: undefined });
    if (!this.dialog.open) this.dialog.showModal();
    this.draw(el("p", { class: "note waiting" }, "comparing …"));
    this.running?.abort();
    this.running = new AbortController();
    const { signal } = this.running;
    try {
      const data = await api.matches(model, query, passage, signal);
      if (!signal.aborted) this.show(data);
    } catch (err) {
      if (!signal.aborted) this.draw(el("p", { class: "note error", role: "alert" }, err.message));
    }
  }

  // draw draws the dialog's head, and something below it.
  draw(...body) {
    const focused = this.dialog.contains(document.activeElement) && document.activeElement.dataset.choice;
    const choose = (label, of, is, click) => el("button", { type: "button", "aria-pressed": String(is), dataset: { choice: label }, on: { click } }, ...of, label);
    const models = this.models.length > 1 && el("div", { class: "choice", role: "group", "aria-label": "Model" }, this.models.map((m) =>
      choose(m.model.id, [el("span", { class: `swatch ${m.which}` })], m.model.id === this.model.id, () => this.open(m.model, this.models, this.query, this.passage))));
    const views = el("div", { class: "choice", role: "group", "aria-label": "View" }, [["text", "Text"], ["matrix", "Matrix"]].map(([view, label]) =>
      choose(label, [], view === this.view, () => {
        this.view = view;
        if (this.data) this.drawData();
      })));
    this.dialog.replaceChildren(
      el("header", {},
        el("div", {}, el("h2", { id: "matches-title" }, "Token matches"), el("p", { class: "facts" }, this.model.id, this.data && ` · ${this.sum()}`)),
        models, views,
        el("button", { type: "button", class: "close", "aria-label": "Close", on: { click: () => this.dialog.close() } }, "✕")),
      ...body);
    const choices = [...this.dialog.querySelectorAll("[data-choice]")];
    if (this.dialog.open) (choices.find((b) => b.dataset.choice === focused) ?? this.dialog.querySelector(".close")).focus();
  }

  sum() {
    const { score, similarity, matches, query } = this.data;
    return `score ${digits(score)}, the ${similarity === "meanmaxsim" ? "mean" : "sum"} of ${number(matches.length)} tokens’ best matches${query.cut ? "; the query is longer than the model reads" : ""}`;
  }

  show(data) {
    this.data = data;
    const counted = (list) => list.tokens.flatMap((t, i) => (t.counted ? [i] : []));
    this.rows = counted(data.query); // the token of each row
    this.columns = counted(data.document); // the token of each column
    this.columnOf = new Map(this.columns.map((token, j) => [token, j]));
    this.strongest = this.columns.map((_, j) => Math.max(...data.matches.map((row) => row[j])));
    this.pinned = undefined;
    this.drawData();
  }

  drawData() {
    this.detail = el("p", { class: "detail", role: "status", "aria-live": "polite" });
    if (this.view === "text") this.draw(this.chips(), this.detail, this.legend(), this.text());
    else this.draw(this.detail, this.legend(), this.matrix());
    this.pick(this.pinned);
  }

  // The query's tokens.

  chips() {
    const { data } = this;
    this.buttons = this.rows.map((token, i) => {
      const t = data.query.tokens[token], row = data.matches[i];
      return el("button", {
        type: "button", class: t.role === "text" ? "chip" : "chip outside", tabindex: i ? "-1" : "0", "aria-pressed": "false",
        on: { pointerenter: () => this.pick(i), pointerleave: () => this.pick(this.pinned), focus: () => this.pick(i), blur: () => this.pick(this.pinned), click: () => this.pin(i), keydown: (event) => this.move(event, i) },
      }, this.name("query", token), el("small", {}, row[best(row)].toFixed(2)));
    });
    return el("div", { class: "chips", role: "toolbar", "aria-label": "Tokens of the query" }, this.buttons);
  }

  // move moves the focus among the tokens with the arrow keys: the toolbar is one stop of the tab key.
  move(event, i) {
    const to = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: this.buttons.length - 1 }[event.key];
    if (this.buttons[to] === undefined) return;
    event.preventDefault();
    this.buttons.forEach((b, k) => b.setAttribute("tabindex", k === to ? "0" : "-1"));
    this.buttons[to].focus();
  }

  pin(i) {
    this.pinned = this.pinned === i ? undefined : i;
    this.buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === this.pinned)));
    this.pick(this.pinned ?? i);
  }

  // name is a token as it stands in the text, or as the vocabulary has it.
  name(of, token) {
    const t = this.data[of].tokens[token];
    if (t.role !== "text" || t.end <= t.start) return t.text.trim() || t.text;
    const text = of === "query" ? this.query : this.passage;
    return Array.from(text).slice(t.start, t.end).join("").trim() || "␣";
  }

  // The passage.

  text() {
    const { tokens, cut } = this.data.document;
    const end = Math.max(0, ...tokens.map((t) => t.end));
    this.marks = new Map(tokens.map((_, i) => [i, []])); // the elements that show a token
    const mark = (content, of, kind) => {
      const counted = of.filter((i) => tokens[i].counted);
      const e = el("span", { class: counted.length ? `token ${kind}` : `token idle ${kind}`, dataset: { tokens: of.join(" ") } }, content);
      for (const i of of) this.marks.get(i).push(e);
      return e;
    };
    const before = [], after = [];
    let reached = false;
    tokens.forEach((t, i) => {
      if (t.role === "text") reached = true;
      else (reached ? after : before).push(mark(this.name("document", i), [i], "special"));
    });
    const text = tokens.map((t) => (t.role === "text" ? t : { start: 0, end: 0 }));
    let at = 0;
    const parts = segments(this.passage, text).map(({ text: content, tokens: of }) => {
      at += Array.from(content).length;
      if (of.length) return mark(content, of, "");
      return cut && at > end ? el("span", { class: "rest" }, content) : content;
    });
    const area = el("div", { class: "passage", tabindex: "0", role: "region", "aria-label": "Passage" }, el("p", {}, before, parts, after));
    area.addEventListener("pointerover", (event) => {
      const of = event.target.dataset?.tokens;
      if (of) this.pickTokens(of.split(" ").map(Number));
    });
    area.addEventListener("pointerleave", () => this.pick(this.pinned));
    return el("div", {}, area, cut && el("p", { class: "hint" }, "The model reads a passage’s beginning: the grey rest has no part in the score."));
  }

  // legend says what the shades mean; pick writes its numbers.
  legend() {
    this.low = el("span", {});
    this.high = el("span", {});
    return el("div", { class: "legend" }, this.low, el("span", { class: "ramp", "aria-hidden": "true" }), this.high, el("span", { class: "token idle" }, "does not count"));
  }

  // pick shades the passage by one token of the query, or where i is undefined by the best of all.
  pick(i) {
    if (!this.data || !this.detail) return;
    const { matches } = this.data;
    const values = i === undefined ? this.strongest : matches[i];
    const low = Math.min(...values), high = Math.max(...values);
    if (this.view === "text") {
      this.shade(values, low, high, i === undefined ? undefined : this.columns[best(values)]);
      this.low.textContent = low.toFixed(2);
      this.high.textContent = high.toFixed(2);
    }
    if (i === undefined) {
      this.detail.textContent = this.view === "text" ? "Each token’s shade is its best match with a token of the query. Choose a token of the query to see what it matches." : "Each number is the match of two tokens. A frame marks each query token’s best one.";
      return;
    }
    const j = best(values);
    this.say(i, j);
  }

  say(i, j) {
    this.detail.replaceChildren("“", el("b", {}, this.name("query", this.rows[i])), "” matches “", el("b", {}, this.name("document", this.columns[j])), `”: ${this.data.matches[i][j].toFixed(4)}`);
  }

  // shade sets the shade of each token, and frames one.
  shade(values, low, high, framed) {
    const { tokens } = this.data.document;
    for (const elements of this.marks.values()) for (const e of elements) e.classList.remove("framed");
    for (const elements of this.marks.values()) {
      for (const e of elements) {
        const of = e.dataset.tokens.split(" ").map(Number).filter((x) => tokens[x].counted);
        if (!of.length) continue;
        const v = Math.max(...of.map((x) => values[this.columnOf.get(x)]));
        e.style.setProperty("--heat", ((v - low) / (high - low || 1)).toFixed(3));
      }
    }
    for (const e of this.marks.get(framed) ?? []) e.classList.add("framed");
  }

  // pickTokens says which token of the query some tokens of the passage match best.
  pickTokens(of) {
    const j = of.map((x) => this.columnOf.get(x)).find((x) => x !== undefined);
    if (j === undefined) {
      this.detail.textContent = `“${this.name("document", of[0])}” does not count in the score.`;
      return;
    }
    const i = this.pinned ?? best(this.data.matches.map((row) => row[j]));
    this.say(i, j);
  }

  // The matrix: a row for each token of the passage, a column for each of the query.

  matrix() {
    const { matches } = this.data;
    const all = matches.flat();
    const low = all.reduce((a, b) => Math.min(a, b), Infinity), high = all.reduce((a, b) => Math.max(a, b), -Infinity);
    this.low.textContent = low.toFixed(2);
    this.high.textContent = high.toFixed(2);
    const bests = matches.map(best);
    let shown = this.columns.map((_, j) => j);
    if (shown.length > mostRows) {
      const order = shown.toSorted((a, b) => bests.includes(b) - bests.includes(a) || this.strongest[b] - this.strongest[a]);
      const kept = new Set(order.slice(0, mostRows));
      shown = shown.filter((j) => kept.has(j));
    }
    const head = el("tr", {}, el("td", {}), this.rows.map((token) => el("th", { scope: "col" }, el("span", {}, this.name("query", token)))));
    const body = shown.map((j) => el("tr", {}, el("th", { scope: "row" }, this.name("document", this.columns[j])), matches.map((row, i) =>
      el("td", { class: bests[i] === j ? "framed" : null, dataset: { i, j }, style: { "--heat": ((row[j] - low) / (high - low || 1)).toFixed(3) } }, row[j].toFixed(2).replace(/^(-?)0\./, "$1.")))));
    const table = el("table", {}, el("thead", {}, head), el("tbody", {}, body));
    table.addEventListener("pointerover", (event) => {
      const { i, j } = event.target.dataset;
      if (i !== undefined) this.say(Number(i), Number(j));
    });
    return el("div", {}, el("div", { class: "matrix", tabindex: "0", role: "region", "aria-label": "Matches of all tokens" }, table),
      shown.length < this.columns.length && el("p", { class: "hint" }, `${number(shown.length)} of the passage’s ${number(this.columns.length)} tokens: those with the best matches.`));
  }
}
