// Passages as people write them, and the rows of JSONL files.

// separator is a line that separates passages which have blank lines of their own.
const separator = /^---[ \t]*$/m;
const blankLines = /\n(?:[ \t]*\n)+/;

// split finds the passages in a text: {passages, how}. Lines of "---" separate them, else blank lines, else every line is one. Lines
// that are all JSON objects with a text are read as JSONL.
export function split(text) {
  text = text.replaceAll("\r\n", "\n");
  const lines = text.split("\n").filter((x) => x.trim());
  if (lines.length && lines.every((x) => x.startsWith("{"))) {
    try {
      const passages = lines.map((x) => JSON.parse(x).text);
      if (passages.every((x) => typeof x === "string")) return { passages: passages.filter((x) => x.trim()), how: "JSONL" };
    } catch {
      // code may begin with a brace too
    }
  }
  let parts = lines, how = "one a line";
  if (separator.test(text)) [parts, how] = [text.split(separator), "split at ---"];
  else if (blankLines.test(text.replace(/^\s*\n/, ""))) [parts, how] = [text.split(blankLines), "split at blank lines"];
  return { passages: parts.map((x) => x.replace(/^\s*\n|\s+$/g, "")).filter((x) => x.trim()), how };
}

// join writes passages so that split finds them again.
export function join(passages) {
  const same = (text) => {
    const again = split(text).passages;
    return again.length === passages.length && again.every((x, i) => x === passages[i].replace(/^\s*\n|\s+$/g, ""));
  };
  for (const text of [passages.join("\n"), passages.join("\n\n") + "\n\n", passages.join("\n---\n") + "\n---\n"]) {
    if (same(text)) return text;
  }
  return passages.map((text) => JSON.stringify({ text })).join("\n");
}

const list = (x) => (x === undefined || x === null ? [] : Array.isArray(x) ? x : [x]);

// textOf is a document: a text, or an object with one.
function textOf(x, line) {
  const text = typeof x === "string" ? x : x?.text;
  if (typeof text !== "string") throw new Error(`${line}: a document is ${JSON.stringify(x)?.slice(0, 60)}, want a text or an object with "text"`);
  return text;
}

// What is read of a file: enough to look at. Measuring a model on a whole file is for rag-retrieval eval.
export const mostBytes = 20_000_000;
const mostRows = 1000;

// readRows reads the beginning of a JSONL file: {examples: [{query, passages, positives}], more}, one for each row with a query; rows of
// texts make one together, whose query is undefined. Rows: {"text"}, {"query", "documents"}, {"query", "pos", "neg"}; mteb's "positive"
// and "negative" too. more says that the file has rows that were not read, of which partial says it for the caller.
export function readRows(name, content, partial) {
  const lines = content.replace(/^\uFEFF/, "").split("\n");
  if (partial) lines.pop(); // it may end within a row
  const examples = [], texts = [];
  let more = partial;
  for (const [i, raw] of lines.entries()) {
    if (!raw.trim()) continue;
    if (examples.length === mostRows || texts.length === mostRows) {
      more = true;
      break;
    }
    const row = readRow(raw, `${name}:${i + 1}`);
    if (row.text !== undefined) texts.push(row.text);
    else examples.push(row);
  }
  if (texts.length) examples.unshift({ passages: [...new Set(texts)], positives: [] });
  if (!examples.length) throw new Error(`${name} has no rows`);
  return { examples, more };
}

// readRow reads a row: {text}, or {query, passages, positives}. Errors begin with its place.
function readRow(raw, place) {
  let row;
  try {
    row = JSON.parse(raw);
  } catch (err) {
    throw new Error(`${place}: not JSON: ${err.message}`);
  }
  if (typeof row?.text === "string") return { text: row.text };
  const query = list(row?.query)[0];
  const positives = list(row?.pos ?? row?.positive).map((x) => textOf(x, place));
  const others = list(row?.neg ?? row?.negative).concat(list(row?.documents)).map((x) => textOf(x, place));
  if (typeof query !== "string" || positives.length + others.length === 0) {
    throw new Error(`${place}: want {"text"}, {"query", "documents"} or {"query", "pos", "neg"}, found ${raw.slice(0, 60)}`);
  }
  return { query, passages: [...new Set([...positives, ...others])], positives };
}
