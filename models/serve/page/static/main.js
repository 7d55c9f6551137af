// The page: what is asked, and who shows the answers.

import { $, el, copy, plural, number } from "./dom.js";
import * as api from "./api.js";
import { split, join, readRows, mostBytes } from "./input.js";
import { Results } from "./results.js";
import { Matches } from "./matches.js";
import { startLoad } from "./load.js";
import { sample } from "./sample.js";
import * as store from "./state.js";

const state = store.load({ query: "", passages: "", positives: [], a: "", b: "", raw: false });
let served = []; // the server's models
let running; // ends the requests of the run that is on the screen

const matches = new Matches($("matches"));
const results = new Results($("columns"), { onMatches: showMatches });

function showMatches(model, index) {
  const { query, passages, columns } = results.run;
  matches.open(model, columns.filter((c) => c.model.kind === "colbert"), query, passages[index]);
}

// The form and the state.

function showState() {
  $("query").value = state.query;
  $("passages").value = state.passages;
  $("raw").checked = state.raw;
  showCount();
  showExamples();
}

function readState() {
  state.query = $("query").value;
  state.passages = $("passages").value;
  state.a = $("model-a").value || state.a;
  state.b = $("model-b").value;
  state.raw = $("raw").checked;
  store.save(state);
}

function showCount() {
  const { passages, how } = split($("passages").value);
  $("count").textContent = passages.length ? `${plural(passages.length, "passage")}, ${how}` : "";
}

function setInput({ query, passages, positives }) {
  if (query !== undefined) state.query = query;
  state.passages = join(passages);
  state.positives = positives.map(tidy);
  showState();
  store.save(state);
}

// tidy is a passage as split gives it.
const tidy = (text) => split(join([text])).passages[0] ?? text;

// The models.

async function findModels() {
  try {
    served = await api.models();
  } catch (err) {
    $("server").textContent = "";
    showError(err, start);
    return false;
  }
  $("server").textContent = `${plural(served.length, "model")} served at ${location.host}`;
  const kinds = [...new Set(served.map((m) => m.kind ?? "model"))];
  const options = () => kinds.map((kind) => el("optgroup", { label: kind }, served.filter((m) => (m.kind ?? "model") === kind).map((m) => el("option", { value: m.id }, m.id))));
  $("model-a").replaceChildren(...options());
  $("model-b").replaceChildren(el("option", { value: "" }, "none"), ...options());
  const is = (id) => served.some((m) => m.id === id);
  const first = is(state.a) ? state.a : served[0]?.id;
  $("model-a").value = first;
  const like = served.find((m) => m.id !== first && m.kind === modelOf(first).kind);
  $("model-b").value = is(state.a) ? (is(state.b) ? state.b : "") : (like?.id ?? "");
  showRaw();
  showServed();
  return true;
}

// showServed says what there is, as long as nothing has been ranked.
function showServed() {
  if (results.run) return;
  const cell = (text, n) => el("td", { class: n ? "n" : null }, text);
  $("columns").className = "columns";
  $("columns").replaceChildren(el("div", { class: "note intro" },
    el("h2", {}, "Nothing is ranked yet"),
    el("p", {}, "Write a query and passages, drop a JSONL file, or load the sample to see something at once."),
    el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Model"), el("th", { scope: "col" }, "Kind"), el("th", { scope: "col", class: "n" }, "Most tokens"))),
      el("tbody", {}, served.map((m) => el("tr", {}, cell(m.id), cell(m.kind ?? ""), cell(m.max_model_len ? number(m.max_model_len) : "", true)))))));
}

const modelOf = (id) => served.find((m) => m.id === id);

const chosen = () => [["a", $("model-a").value], ["b", $("model-b").value]].filter(([, id]) => id).map(([which, id]) => ({ which, model: modelOf(id) }));

// showRaw offers raw scores where a reranker is chosen.
function showRaw() {
  $("raw-row").hidden = !chosen().some((c) => c.model.kind === "reranker");
}

// Ranking.

async function rank() {
  readState();
  const { query } = state, { passages } = split(state.passages), columns = chosen();
  if (!columns.length) return start();
  if (!query.trim()) return ask("query", "Write a query first.");
  if (!passages.length) return ask("passages", "Write some passages first, or load the sample.");
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  showMessage();
  showCommands(query, passages, columns);
  const run = { query, passages, positives: new Set(state.positives), columns };
  results.show(run);
  $("rank").setAttribute("aria-busy", "true");
  for (const c of columns) { // one after the other: each latency is its own
    try {
      c.result = await api.rank(c.model, query, passages, state.raw, signal);
    } catch (err) {
      if (signal.aborted) return;
      c.error = err;
    }
    if (signal.aborted) return;
    results.draw();
  }
  $("rank").removeAttribute("aria-busy");
  const errors = columns.filter((c) => c.error).map((c) => c.error);
  if (errors.length === columns.length && new Set(errors.map((x) => x.message)).size === 1) {
    results.clear(); // the message says it once
    showError(errors[0], rank);
  } else if (errors.some((x) => x.status === 401)) {
    showError(errors.find((x) => x.status === 401), rank);
  }
  $("live").textContent = columns.filter((c) => c.result).map((c) => `${c.model.id} ranked ${plural(passages.length, "passage")}. First: ${passages[c.result.order[0].index].slice(0, 100)}.`).join(" ");
}

function ask(id, text) {
  showMessage(text);
  $(id).focus();
}

function showMessage(text, ...more) {
  $("message").replaceChildren(...(text ? [el("div", { class: "note error" }, el("p", {}, text), ...more)] : []));
}

// showError shows an error in words, and what to do about it.
function showError(err, again) {
  if (err.status === 401) {
    const had = api.key.get() !== "";
    $("key-row").hidden = false;
    showMessage(had ? "The server does not know this API key." : err.message);
    $("key").focus();
    $("key").select();
    return;
  }
  showMessage(err.message, el("button", { type: "button", on: { click: again } }, "Try again"));
}

function showCommands(query, passages, columns) {
  $("request").hidden = false;
  $("commands").replaceChildren(...columns.map(({ which, model }) => {
    const text = curl(api.rerankBody(model, query, passages, state.raw));
    const button = el("button", { type: "button", on: { click: async () => {
      button.textContent = (await copy(text)) ? "Copied" : "Press Ctrl+C";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    } } }, "Copy");
    return el("div", { class: "command" }, el("p", {}, el("span", { class: `swatch ${which}` }), model.id, button), el("pre", { tabindex: "0", "aria-label": `curl command for ${model.id}` }, el("code", {}, text)));
  }));
}

// curl is the request as a command for a POSIX shell. The key stays out of it.
function curl(body) {
  const quoted = JSON.stringify(body, null, 1).replaceAll("'", "'\\''");
  const auth = api.key.get() ? " -H \"Authorization: Bearer $API_KEY\"" : "";
  return `curl ${api.address("rerank")}${auth} -H 'Content-Type: application/json' -d '${quoted}'`;
}

// Files.

async function readFile(file) {
  try {
    const { examples, more } = readRows(file.name, await file.slice(0, mostBytes).text(), file.size > mostBytes);
    state.file = { name: file.name, examples, more, at: 0 };
    showExample(0);
  } catch (err) {
    showMessage(err.message);
  }
}

function showExample(i) {
  state.file.at = i;
  const example = state.file.examples[i];
  setInput(example);
  if ((example.query ?? state.query).trim() && served.length) rank();
  else ask("query", `${plural(example.passages.length, "passage")} read. Now write a query.`);
}

function showExamples() {
  const { file } = state;
  $("examples").hidden = !file;
  if (!file) return;
  $("file-name").textContent = `${file.name}: ${file.more ? "the first " : ""}${plural(file.examples.length, "row")}`;
  $("example").replaceChildren(...file.examples.map((x, i) => el("option", { value: i }, `${i + 1}. ${(x.query ?? "passages without a query").slice(0, 80)}`)));
  $("example").value = file.at;
  $("previous").disabled = file.at === 0;
  $("next").disabled = file.at === file.examples.length - 1;
}

// Events.

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  rank();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("matches").open) {
    event.preventDefault();
    rank();
  }
});
$("ask").addEventListener("input", (event) => {
  if (event.target.id === "key") return;
  if (event.target.id === "passages") showCount();
  if (event.target.tagName === "SELECT") showRaw();
  readState();
});
$("sample").addEventListener("click", () => {
  state.file = undefined;
  setInput(sample);
  rank();
});
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files.length) readFile($("file").files[0]);
  $("file").value = ""; // so that the same file can be chosen again
});
$("example").addEventListener("change", () => showExample(Number($("example").value)));
$("previous").addEventListener("click", () => showExample(state.file.at - 1));
$("next").addEventListener("click", () => showExample(state.file.at + 1));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) readFile(event.dataTransfer.files[0]);
  });
}
function useKey() {
  api.key.set($("key").value.trim());
  start();
}
$("key-use").addEventListener("click", useKey);
$("key").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  event.stopPropagation();
  useKey();
});

// start finds the models, and ranks what the last visit left.
async function start() {
  showMessage();
  if (!(await findModels())) return;
  $("key-row").hidden = true;
  if (state.query.trim() && split(state.passages).passages.length) rank();
}

showState();
startLoad($("load"), $("tiles"));
start();
