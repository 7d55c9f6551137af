// Elements of the document. Texts become text nodes, so that nothing in them is ever HTML.

export const $ = (id) => document.getElementById(id);

// el makes an element. Properties: class, dataset, on (listeners), style (custom properties), the rest are attributes.
export function el(name, properties = {}, ...children) {
  const e = document.createElement(name);
  return fill(e, properties, children);
}

const svgNamespace = "http://www.w3.org/2000/svg";

// svg makes an element of an SVG picture.
export function svg(name, properties = {}, ...children) {
  return fill(document.createElementNS(svgNamespace, name), properties, children);
}

function fill(e, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") e.setAttribute("class", value);
    else if (key === "dataset") Object.assign(e.dataset, value);
    else if (key === "on") for (const [event, f] of Object.entries(value)) e.addEventListener(event, f);
    else if (key === "style") for (const [name, x] of Object.entries(value)) e.style.setProperty(name, x);
    else e.setAttribute(key, value === true ? "" : value);
  }
  e.append(...children.flat().filter((c) => c !== undefined && c !== null && c !== false));
  return e;
}

// plural is a number with its noun.
export function plural(n, noun) {
  return `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
}

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function number(n) {
  return grouped.format(n);
}

// duration is a number of milliseconds as people read it.
export function duration(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
}

// copy puts a text on the clipboard. Browsers give the clipboard's interface to https and loopback only.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { class: "hidden", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
