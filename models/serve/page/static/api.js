// The server's routes, and its errors in words.

import { plural } from "./dom.js";

const keyName = "rag-retrieval-key";

export const key = {
  get: () => sessionStorage.getItem(keyName) ?? "",
  set: (value) => (value ? sessionStorage.setItem(keyName, value) : sessionStorage.removeItem(keyName)),
};

// ServerError is an answer that is no success, or none at all (status 0).
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// address is the address of a route, relative to the page's.
export const address = (path) => new URL(path, document.baseURI).href;

// call asks a route. It returns the response; a failure is a ServerError, an end by the signal an AbortError.
async function call(path, { body, signal, headers = {} } = {}) {
  const all = { ...headers };
  if (key.get()) all.Authorization = `Bearer ${key.get()}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address(path), { method: body === undefined ? "GET" : "POST", body: body === undefined ? undefined : JSON.stringify(body), headers: all, signal });
  } catch (err) {
    if (err.name === "AbortError") throw err;
    throw new ServerError(0, `Nothing answers at ${address("./")}. The server may have stopped, or the network is down.`);
  }
  if (response.ok) return response;
  throw await explain(response);
}

// said is the message of an error's body, in any of the APIs' forms.
async function said(response) {
  const text = await response.text().catch(() => "");
  try {
    const body = JSON.parse(text);
    const x = body.error ?? body.message ?? body.detail;
    return typeof x === "string" ? x : (x?.message ?? "");
  } catch {
    return text.length < 300 ? text.trim() : "";
  }
}

const words = {
  401: "The server wants an API key.",
  403: "The server does not let this API key do that.",
  404: "The server does not have that.",
  413: "That is more than the server takes in one request.",
  422: "A text does not fit the model.",
  424: "The model could not compute this.",
  429: "The server has as many requests as it takes.",
  500: "The server failed.",
  502: "The proxy before the server got no answer from it.",
  503: "The server is starting or stopping.",
  504: "The request took longer than the server allows.",
};

async function explain(response) {
  const message = await said(response);
  const known = words[response.status];
  const retryAfter = Number(response.headers.get("Retry-After")) || undefined;
  let text = known ?? `The server answered with status ${response.status}.`;
  if (message && (!known || response.status !== 401)) text += ` It says: ${message}`;
  if (retryAfter) text += ` Try again in ${plural(retryAfter, "second")}.`;
  return new ServerError(response.status, text);
}

// models lists what is served: [{id, kind, max_model_len}].
export async function models(signal) {
  return (await (await call("v1/models", { signal })).json()).data;
}

// rerankBody is the body of a rerank request. curl shows the same.
export function rerankBody(model, query, documents, raw) {
  const body = { model: model.id, query, documents };
  if (raw && model.kind === "reranker") body.raw_scores = true;
  return body;
}

// rank scores documents: {order: [{index, score}], ms, serverMs, tokens}. What the server does not tell is undefined.
export async function rank(model, query, documents, raw, signal) {
  const start = performance.now();
  const response = await call("rerank", { body: rerankBody(model, query, documents, raw), signal });
  const body = await response.json();
  const header = (name) => {
    const x = parseFloat(response.headers.get(name) ?? "");
    return Number.isFinite(x) ? x : undefined;
  };
  return {
    ms: performance.now() - start,
    serverMs: header("x-total-time"),
    tokens: body.usage?.total_tokens ?? header("x-compute-tokens"),
    order: body.results.map((r) => ({ index: r.index, score: r.relevance_score })),
  };
}

// matches compares the tokens of a query and a document, see models/serve/matches.go.
export async function matches(model, query, document, signal) {
  return (await call("page/matches", { body: { model: model.id, query, document }, signal })).json();
}

// metrics is the text of GET /metrics.
export async function metrics(signal) {
  return (await call("metrics", { signal })).text();
}
