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

// readRows reads a JSONL file: [{query, passages, positives}], one for each row with a query; rows of texts make one together, whose
// query is undefined. Rows: {"text"}, {"query", "documents"}, {"query", "pos", "neg"}; mteb's "positive" and "negative" too.
export function readRows(name, content) {
  const examples = [], texts = [];
  content.split("\n").forEach((raw, i) => {
    if (!raw.trim()) return;
    const line = `${name}:${i + 1}`;
    let row;
    try {
      row = JSON.parse(raw);
    } catch (err) {
      throw new Error(`${line}: not JSON: ${err.message}`);
    }
    if (typeof row?.text === "string") {
      texts.push(row.text);
      return;
    }
    const query = list(row?.query)[0];
    const positives = list(row?.pos ?? row?.positive).map((x) => textOf(x, line));
    const others = list(row?.neg ?? row?.negative).concat(list(row?.documents)).map((x) => textOf(x, line));
    if (typeof query !== "string" || positives.length + others.length === 0) {
      throw new Error(`${line}: want {"text"}, {"query", "documents"} or {"query", "pos", "neg"}, found ${raw.slice(0, 60)}`);
    }
    examples.push({ query, passages: [...new Set([...positives, ...others])], positives });
  });
  if (texts.length) examples.unshift({ passages: [...new Set(texts)], positives: [] });
  if (!examples.length) throw new Error(`${name} has no rows`);
  return examples;
}
