// What a reload keeps: in the browser, never in an address that is logged or sent on.

const name = "rag-retrieval-page";

export function load() {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? {};
  } catch {
    return {};
  }
}

// save keeps the state. A file that is too large for the browser's store is left out; the row that is shown stays.
export function save(state) {
  for (const x of [state, { ...state, file: undefined }]) {
    try {
      localStorage.setItem(name, JSON.stringify(x));
      return;
    } catch {
      // the store is full, or the browser has none
    }
  }
}
