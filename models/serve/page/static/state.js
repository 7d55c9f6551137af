// What a reload keeps: in the browser, never in an address that is logged or sent on.

const name = "rag-retrieval-page";

// load gives what was kept, over a state to begin with. What has another form, of an older page for example, is left out.
export function load(initial) {
  const state = { ...initial };
  try {
    const kept = JSON.parse(localStorage.getItem(name)) ?? {};
    for (const key in initial) if (typeof kept[key] === typeof initial[key] && Array.isArray(kept[key]) === Array.isArray(initial[key])) state[key] = kept[key];
    const file = kept.file;
    if (Array.isArray(file?.examples) && file.examples[file.at]) state.file = file;
  } catch {
    // the browser has no store, or something else wrote into it
  }
  return state;
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
