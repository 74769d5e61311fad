// Small helpers: elements, numbers and moments in words, questions to the server.
// Texts of others only ever become text nodes.

const SVG = 'http://www.w3.org/2000/svg';

function fill(el, attrs, kids) {
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith('on')) el.addEventListener(k.slice(2), v);
    else if (k === 'style') Object.assign(el.style, v);
    else el.setAttribute(k, v === true ? '' : v);
  }
  el.append(...kids.flat(Infinity).filter((k) => k !== null && k !== undefined && k !== false));
  return el;
}

export const h = (tag, attrs, ...kids) => fill(document.createElement(tag), attrs, kids);
export const s = (tag, attrs, ...kids) => fill(document.createElementNS(SVG, tag), attrs, kids);

/** put replaces what el holds. */
export function put(el, ...kids) {
  el.replaceChildren(...kids.flat(Infinity).filter((k) => k !== null && k !== undefined && k !== false));
  return el;
}

/** table makes one; columns are {name, n: whether it holds numbers}. Rows are lists of cells, the first a header. */
export function table(caption, columns, rows, attrs) {
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', attrs, h('caption', null, caption),
      h('thead', null, h('tr', null, columns.map((c) => h('th', { scope: 'col', class: c.n ? 'n' : '' }, c.name)))),
      h('tbody', null, rows.map((r) => h('tr', null, r.map((cell, i) =>
        h(i === 0 ? 'th' : 'td', { scope: i === 0 ? 'row' : null, class: [columns[i].n ? 'n' : '', columns[i].wide ? 'wide' : ''].join(' ').trim() || null }, cell ?? '–')))))));
}

const SUP = { '-': '⁻', 0: '⁰', 1: '¹', 2: '²', 3: '³', 4: '⁴', 5: '⁵', 6: '⁶', 7: '⁷', 8: '⁸', 9: '⁹' };

/** num is a number with about so many digits that say something. */
export function num(v, digits = 4) {
  if (v === null || v === undefined || Number.isNaN(v)) return '–';
  const a = Math.abs(v);
  if (a === 0) return '0';
  if (a >= 1e7 || a < 1e-4) {
    const [m, e] = v.toExponential(Math.max(0, digits - 2)).split('e');
    return `${m.includes('.') ? m.replace(/\.?0+$/, '') : m}×10${[...e.replace('+', '')].map((c) => SUP[c]).join('')}`;
  }
  if (Number.isInteger(v)) return group(v);
  if (a >= 1000) return group(Math.round(v));
  const t = v.toPrecision(digits);
  return t.includes('e') ? String(Number(t)) : t;
}

export const group = (n) => String(n).replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');

export function bytes(n) {
  for (const [u, f] of [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]]) if (n >= f) return `${(n / f).toFixed(n / f < 10 ? 2 : 1)} ${u}`;
  return `${n} B`;
}

/** span is a time in seconds, in words. */
export function span(sec) {
  if (sec === null || sec === undefined || !Number.isFinite(sec)) return '–';
  if (sec < 1e-3) return `${(sec * 1e6).toFixed(0)} µs`;
  if (sec < 1) return `${(sec * 1e3).toFixed(sec < 0.01 ? 2 : 0)} ms`;
  if (sec < 60) return `${sec.toFixed(sec < 10 ? 1 : 0)} s`;
  const m = Math.floor(sec / 60);
  if (m < 60) return `${m} min ${Math.round(sec % 60)} s`;
  const hh = Math.floor(m / 60);
  return hh < 48 ? `${hh} h ${m % 60} min` : `${Math.floor(hh / 24)} d ${hh % 24} h`;
}

const two = (n) => String(n).padStart(2, '0');
export const clock = (ms) => { const d = new Date(ms); return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`; };
export const day = (ms) => { const d = new Date(ms); return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}`; };
export function ago(ms, now) {
  const sec = Math.max(0, (now - ms) / 1000);
  return sec < 3 ? 'now' : sec < 86400 ? `${span(sec).replace(/ \d+ (s|min)$/, '')} ago` : day(ms);
}

export const pill = (state) => h('span', { class: `pill ${state}` }, state);
export const color = (i) => `var(--c${i % 8})`;
export const keyOf = (c, name, box) => h('span', { class: 'key' }, h('i', { class: box ? 'box' : null, style: { color: c, background: c } }), name);

/** ask puts a question to the server; null: nothing has changed. */
export async function ask(path, params, signal) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params || {})) if (v !== undefined && v !== null) q.set(k, v);
  const r = await fetch(`api/${path}?${q}`, { signal });
  if (r.status === 204) return null;
  const text = await r.text();
  let body;
  try { body = JSON.parse(text); } catch { body = { error: text.trim() }; }
  if (!r.ok) { const e = new Error(body.error || r.statusText); e.status = r.status; throw e; }
  return body;
}

/** say tells people who listen to the page something that they have asked for. */
export function say(text) { document.getElementById('said').textContent = text; }

/** changed says whether v is another value than that which el was last given. */
export function changed(el, v) {
  const t = JSON.stringify(v);
  if (el.shown === t) return false;
  el.shown = t;
  return true;
}
