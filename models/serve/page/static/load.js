// The server's load, from GET /metrics: numbers of the last minute, or where nothing was asked in it, since the server's start.

import { el, svg, number, duration } from "./dom.js";
import * as api from "./api.js";

const every = 2000, retryAfter = 10000, kept = 31; // milliseconds, and samples: a minute

// Requests that are no work: those for the page, for these numbers, for lists of models and for load balancers.
const quiet = new Set(["/", "/page/", "/health", "/ready", "/metrics", "/v1/models", "/v1/models/{id...}", "/info", "/openapi.json"]);

// parse reads Prometheus' text: [{name, labels, value}].
export function parse(text) {
  const out = [];
  for (const line of text.split("\n")) {
    const m = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!m || line.startsWith("#")) continue;
    const labels = {};
    for (const [, name, value] of (m[2] ?? "").matchAll(/(\w+)="((?:\\.|[^"\\])*)"/g)) labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    out.push({ name: m[1], labels, value: m[3] === "+Inf" ? Infinity : Number(m[3]) });
  }
  return out;
}

// sample sums up what the panel shows.
export function sample(text, time) {
  const series = parse(text);
  const sum = (name, wanted = () => true) => {
    const found = series.filter((s) => s.name === name && wanted(s.labels));
    return found.length ? found.reduce((a, s) => a + s.value, 0) : undefined;
  };
  const work = (labels) => !quiet.has(labels.route);
  const buckets = new Map();
  for (const s of series) {
    if (s.name === "rag_retrieval_request_duration_seconds_bucket" && work(s.labels)) {
      const le = s.labels.le === "+Inf" ? Infinity : Number(s.labels.le);
      buckets.set(le, (buckets.get(le) ?? 0) + s.value);
    }
  }
  return {
    time, buckets,
    requests: sum("rag_retrieval_requests_total", work) ?? (series.length ? 0 : undefined),
    refused: sum("rag_retrieval_requests_total", (l) => work(l) && l.status === "429") ?? 0,
    failed: sum("rag_retrieval_requests_total", (l) => work(l) && l.status >= "500") ?? 0,
    inWork: sum("rag_retrieval_requests_in_work"), limit: sum("rag_retrieval_requests_in_work_limit"),
    waiting: sum("rag_retrieval_queue_texts"),
    batches: sum("rag_retrieval_batch_tokens_count") ?? 0, batchTokens: sum("rag_retrieval_batch_tokens_sum") ?? 0,
    padding: sum("rag_retrieval_padding_saved_tokens_total") ?? 0,
    memory: sum("process_resident_memory_bytes"),
  };
}

// quantile estimates a quantile in seconds of what came between two samples, as Prometheus' histogram_quantile does.
export function quantile(q, now, before) {
  const bounds = [...now.buckets.keys()].sort((a, b) => a - b);
  const counts = bounds.map((le) => now.buckets.get(le) - (before?.buckets.get(le) ?? 0));
  const total = counts.at(-1);
  if (!total) return undefined;
  const i = counts.findIndex((c) => c >= q * total);
  if (bounds[i] === Infinity) return bounds[i - 1];
  const low = i ? bounds[i - 1] : 0, below = i ? counts[i - 1] : 0;
  return low + (bounds[i] - low) * ((q * total - below) / (counts[i] - below || 1));
}

// Load draws the panel.
class Load {
  constructor(panel) {
    this.panel = panel;
    this.samples = [];
    this.history = new Map(); // of each tile that has a line
  }

  add(s) {
    this.samples.push(s);
    if (this.samples.length > kept) this.samples.shift();
    this.draw();
  }

  // window is the last minute, or where nothing was asked in it, the time since the start.
  window() {
    const now = this.samples.at(-1), first = this.samples[0];
    if (first !== now && now.requests > first.requests) return { now, before: first, note: "last minute" };
    return { now, before: undefined, note: "since the start" };
  }

  draw() {
    const { now, before, note } = this.window();
    const last = this.samples.at(-2);
    const rate = last && now.time > last.time ? (Math.max(0, now.requests - last.requests) * 1000) / (now.time - last.time) : 0;
    const since = (key) => now[key] - (before?.[key] ?? 0);
    const p50 = quantile(0.5, now, before), p95 = quantile(0.95, now, before);
    const tokens = since("batchTokens"), padding = since("padding");
    const trouble = [[since("failed"), "failed"], [since("refused"), "refused"]].filter(([n]) => n > 0).map(([n, word]) => `${number(n)} ${word}`).join(", ");
    this.panel.replaceChildren(
      this.tile("Requests/s", rate < 10 ? rate.toFixed(1) : number(rate), trouble || `${number(now.requests)} since the start`, rate, trouble !== ""),
      now.inWork !== undefined && this.tile("In work", number(now.inWork), now.limit !== undefined && `of ${number(now.limit)}`, now.inWork),
      now.waiting !== undefined && this.tile("Texts waiting", number(now.waiting), "for a model", now.waiting),
      this.tile("Latency p50, p95", p50 === undefined ? "–" : `${duration(p50 * 1000)}, ${duration(p95 * 1000)}`, note),
      this.tile("Tokens a batch", since("batches") ? number(tokens / since("batches")) : "–", note),
      this.tile("Padding saved", tokens + padding ? `${Math.round((100 * padding) / (tokens + padding))} %` : "–", note),
      now.memory !== undefined && this.tile("Memory", `${number(now.memory / 2 ** 20)} MiB`, "of the process", now.memory));
  }

  // tile shows a number, with a line of its last minute if it has one.
  tile(name, value, note, plotted, bad) {
    let line;
    if (plotted !== undefined) this.history.set(name, [...(this.history.get(name) ?? []), plotted].slice(-kept));
    const values = this.history.get(name) ?? [];
    if (values.length > 2) {
      const top = Math.max(...values) || 1;
      const points = values.map((v, i) => `${(60 * (i + kept - values.length)) / (kept - 1)},${(21 - 19 * (v / top)).toFixed(1)}`).join(" ");
      line = svg("svg", { class: "line", viewBox: "0 0 60 22", "aria-hidden": "true", preserveAspectRatio: "none" }, svg("polyline", { points }));
    }
    return el("div", { class: "tile" }, el("span", { class: "name" }, name), el("b", {}, value), el("span", { class: bad ? "sub bad" : "sub" }, note || ""), line);
  }
}

// startLoad shows the load in a panel while the page can be seen.
export function startLoad(section, panel) {
  const load = new Load(panel);
  const again = async () => {
    let wait = every;
    if (!document.hidden) {
      try {
        load.add(sample(await api.metrics(), performance.now()));
        section.classList.remove("stale");
        section.hidden = false;
      } catch (err) {
        if (err.status === 404) { // a server without metrics
          section.hidden = true;
          return;
        }
        section.classList.add("stale");
        wait = retryAfter;
      }
    }
    setTimeout(again, wait);
  };
  document.addEventListener("visibilitychange", () => section.classList.toggle("stale", document.hidden));
  again();
}
