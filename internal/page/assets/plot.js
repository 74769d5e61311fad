// Curves: an SVG with axes, a cursor, a part to look at closer, and the numbers as a table.

import { h, s, put, num, group, span, keyOf, say, table } from './dom.js';

const M = { left: 54, right: 10, top: 8, bottom: 22 };

/** ticks are round numbers between lo and hi. */
export function ticks(lo, hi, n) {
  const raw = (hi - lo) / Math.max(1, n);
  if (!(raw > 0)) return [lo];
  const mag = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((f) => f * mag >= raw) * mag;
  const out = [];
  for (let v = Math.ceil(lo / step - 1e-9) * step; v <= hi + step * 1e-9; v += step) out.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return out;
}

/** tick is a round number without digits that say nothing. */
const tick = (v, format) => { const t = format(v, 3); return t.includes('.') && !/[^0-9.\-]/.test(t) ? String(Number(t)) : t; };

function logTicks(lo, hi) {
  const out = [];
  const decades = Math.log10(hi / lo);
  const inner = decades > 4 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 3, 5, 7];
  for (let e = Math.floor(Math.log10(lo)); e <= Math.ceil(Math.log10(hi)); e++) for (const f of inner) { const v = f * 10 ** e; if (v >= lo * 0.999 && v <= hi * 1.001) out.push(v); }
  return out.length > 1 ? out : ticks(lo, hi, 4);
}

/** smooth is an exponential moving average that knows how much it has seen (as Adam's). */
export function smooth(y, w) {
  if (!w) return y;
  let m = 0, seen = 0;
  return y.map((v) => {
    if (v === null || !Number.isFinite(v)) return null;
    m = w * m + (1 - w) * v;
    seen = w * seen + (1 - w);
    return m / seen;
  });
}

/** nearest is the index of the x that is nearest to v. */
export function nearest(x, v) {
  let a = 0, b = x.length - 1;
  while (b - a > 1) { const m = (a + b) >> 1; if (x[m] <= v) a = m; else b = m; }
  return b >= 0 && Math.abs(x[b] - v) < Math.abs(x[a] - v) ? b : a;
}

/** quantile range of a series, so that one wild point does not flatten all others. */
function range(list, log) {
  let lo = Infinity, hi = -Infinity;
  for (const v of list) if (v !== null && Number.isFinite(v) && (!log || v > 0)) { if (v < lo) lo = v; if (v > hi) hi = v; }
  return [lo, hi];
}

export class Plot {
  /** o: title, unit (a suffix), format, stacked, log (begins so), zoom(from, to) told of a part that was chosen */
  constructor(o) {
    this.o = { format: num, height: 210, ...o };
    this.series = [];
    this.log = !!o.log;
    this.cursor = null;
    this.svg = s('svg', { tabindex: '0', role: 'img', height: this.o.height });
    this.read = h('p', { class: 'readout' });
    this.logButton = h('button', { type: 'button', 'aria-pressed': String(this.log), onclick: () => { this.log = !this.log; this.draw(); } }, 'log');
    this.back = h('button', { type: 'button', hidden: true, onclick: () => this.o.zoom(null) }, 'all steps');
    this.details = h('details', { ontoggle: () => this.fillTable() }, h('summary', null, 'Table'));
    this.el = h('div', { class: 'card plot' }, h('div', { class: 'title' }, h('h3', null, this.o.title), this.back, this.o.stacked ? null : this.logButton), this.svg, this.read, this.details);
    this.svg.addEventListener('pointermove', (e) => this.point(e));
    this.svg.addEventListener('pointerdown', (e) => { if (e.pointerType === 'mouse' && this.o.zoom) { this.from = this.xAt(e); this.svg.setPointerCapture(e.pointerId); } else this.point(e); });
    this.svg.addEventListener('pointerup', (e) => this.release(e));
    this.svg.addEventListener('pointerleave', () => { if (this.from === undefined) { this.cursor = null; this.mark(); } });
    this.svg.addEventListener('dblclick', () => this.o.zoom && this.o.zoom(null));
    this.svg.addEventListener('keydown', (e) => this.keys(e));
    new ResizeObserver(() => { const w = Math.round(this.svg.clientWidth); if (w && w !== this.width) { this.width = w; this.draw(); } }).observe(this.svg);
  }

  /** set shows series: {name, color, x, y, raw?, low?, high?, dots?}; x is called xname; domain is the whole of it. */
  set(series, { xname = 'step', domain = null, zoomed = false, note = '' } = {}) {
    Object.assign(this, { series, xname, domain, note });
    this.back.hidden = !zoomed;
    this.draw();
    if (this.details.open) this.fillTable();
  }

  xText(v) { return this.xname === 'time' ? span(v) : group(Math.round(v)); }

  draw() {
    this.logButton.setAttribute('aria-pressed', String(this.log));
    this.logButton.classList.toggle('on', this.log);
    const w = this.width || 0;
    if (!w) return;
    const height = this.o.height;
    const seen = this.series.filter((q) => q.y.some((v) => v !== null));
    this.svg.setAttribute('viewBox', `0 0 ${w} ${height}`);
    if (!seen.length) {
      this.scale = null;
      put(this.svg, s('text', { x: w / 2, y: height / 2, 'text-anchor': 'middle' }, this.o.none || 'nothing yet'));
      put(this.read);
      return;
    }
    const log = this.log && !this.o.stacked;
    let [x0, x1] = this.domain || [Infinity, -Infinity];
    if (!this.domain) for (const q of seen) { x0 = Math.min(x0, q.x[0]); x1 = Math.max(x1, q.x[q.x.length - 1]); }
    if (!(x1 > x0)) { x0 -= 0.5; x1 += 0.5; }
    let y0 = Infinity, y1 = -Infinity;
    for (const q of seen) for (const list of [q.y, q.raw, q.low, q.high]) if (list) {
      const [a, b] = range(list, log);
      y0 = Math.min(y0, a); y1 = Math.max(y1, b);
    }
    if (this.o.stacked) { y0 = 0; y1 = stackTop(seen); }
    if (!Number.isFinite(y0)) { y0 = log ? 0.1 : 0; y1 = 1; }
    if (log) { if (y1 <= y0) { y0 /= 2; y1 *= 2; } } else if (!this.o.stacked) {
      const pad = (y1 - y0) * 0.06 || Math.abs(y1) * 0.05 || 0.5;
      const floor = y0 >= 0 ? 0 : -Infinity;
      y0 = Math.max(floor, y0 - pad); y1 += pad;
    }
    const W = w - M.left - M.right, H = height - M.top - M.bottom;
    const X = (v) => M.left + (v - x0) / (x1 - x0) * W;
    const Y = log ? (v) => M.top + (1 - Math.log(v / y0) / Math.log(y1 / y0)) * H : (v) => M.top + (1 - (v - y0) / (y1 - y0)) * H;
    this.scale = { x0, x1, X, Y, W, H };
    const parts = [];
    for (const v of log ? logTicks(y0, y1) : ticks(y0, y1, 4)) {
      if (this.o.whole && !Number.isInteger(v)) continue;
      const y = Y(v);
      parts.push(s('line', { x1: M.left, x2: w - M.right, y1: y, y2: y, stroke: 'var(--grid)' }), s('text', { x: M.left - 6, y: y + 4, 'text-anchor': 'end' }, tick(v, this.o.format)));
    }
    for (const v of ticks(x0, x1, Math.max(4, W / 80))) {
      if (this.xname !== 'time' && !Number.isInteger(v)) continue;
      parts.push(s('line', { x1: X(v), x2: X(v), y1: M.top, y2: M.top + H, stroke: 'var(--grid)' }), s('text', { x: Math.min(X(v), w - 18), y: height - 6, 'text-anchor': 'middle' }, this.xText(v)));
    }
    if (this.o.stacked) parts.push(...stack(seen, X, Y));
    else for (const q of seen) parts.push(...curve(q, X, Y, log, [x0, x1]));
    this.over = s('g', { 'pointer-events': 'none' });
    const clip = s('g', null, parts);
    put(this.svg, s('rect', { x: 0, y: 0, width: w, height, fill: 'transparent' }), clip, this.over);
    this.svg.setAttribute('aria-label', `${this.o.title}: ${this.summary(seen)}. Arrow keys read values; the table below has them all.`);
    this.mark();
  }

  summary(seen) {
    return seen.map((q) => { const i = q.y.findLastIndex((v) => v !== null); return `${q.name} ${this.o.format(q.y[i])} at ${this.xname} ${this.xText(q.x[i])}`; }).join(', ');
  }

  xAt(e) {
    const box = this.svg.getBoundingClientRect();
    const t = (e.clientX - box.left - M.left) / Math.max(1, this.scale ? this.scale.W : 1);
    return this.scale ? this.scale.x0 + Math.min(1, Math.max(0, t)) * (this.scale.x1 - this.scale.x0) : 0;
  }

  point(e) { if (this.scale) { this.cursor = this.xAt(e); this.mark(); } }

  release(e) {
    const a = this.from;
    this.from = undefined;
    if (a === undefined || !this.scale) return;
    const b = this.xAt(e), { x0, x1 } = this.scale;
    if (Math.abs(b - a) > (x1 - x0) / 60) this.o.zoom(Math.min(a, b), Math.max(a, b));
    else this.mark();
  }

  keys(e) {
    if (!this.scale) return;
    const q = this.series.find((v) => v.y.some((y) => y !== null));
    let i = this.cursor === null ? q.x.length - 1 : nearest(q.x, this.cursor);
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity }[e.key];
    if (e.key === 'Escape') { this.cursor = null; this.mark(); return; }
    if (move === undefined) return;
    e.preventDefault();
    i = Math.max(0, Math.min(q.x.length - 1, this.cursor === null && move === -1 ? i : i + move));
    this.cursor = q.x[i];
    this.mark();
    say([...this.read.children].map((c) => c.textContent).join(', '));
  }

  /** mark draws the cursor, and writes what is there; without one, what is newest. */
  mark() {
    if (!this.scale) return;
    const { X, Y, H } = this.scale, parts = [], words = [];
    const at = this.cursor;
    if (this.from !== undefined && at !== null) {
      const [a, b] = [X(Math.min(this.from, at)), X(Math.max(this.from, at))];
      parts.push(s('rect', { x: a, width: Math.max(0, b - a), y: M.top, height: H, fill: 'var(--c0)', opacity: 0.14 }));
    }
    let where = null, many = this.series.length > 1, below = null;
    for (const q of this.series) {
      let i = at === null ? q.y.findLastIndex((v) => v !== null) : nearest(q.x, at);
      if (i < 0 || q.x.length === 0) continue;
      while (i > 0 && q.y[i] === null) i--;
      const v = q.y[i];
      if (v === null) continue;
      where ??= q.x[i];
      words.push(h('span', { class: 'key' }, many || this.o.stacked ? keyOf(q.color, q.name, this.o.stacked) : null, h('b', null, this.o.format(v) + (this.o.unit || ''))));
      if (at !== null && !this.o.stacked) parts.push(s('circle', { cx: X(q.x[i]), cy: Y(v), r: 3.5, fill: q.color, stroke: 'var(--card)', 'stroke-width': 1.5 }));
      below = q.low && q.low[i] !== null && this.o.format(q.low[i]) !== this.o.format(q.high[i]) && !many ? `${this.o.format(q.low[i])} to ${this.o.format(q.high[i])}` : below;
    }
    if (at !== null && where !== null) parts.unshift(s('line', { x1: X(where), x2: X(where), y1: M.top, y2: M.top + H, stroke: 'var(--quiet)', 'stroke-dasharray': '2 3' }));
    put(this.over, parts);
    put(this.read, where === null ? null : h('span', null, `${this.xname} ${this.xText(where)}`), words, below ? h('span', null, below) : null, this.note ? h('span', null, this.note) : null);
  }

  fillTable() {
    if (!this.details.open) return;
    const seen = this.series.filter((q) => q.x.length);
    const all = [...new Set(seen.flatMap((q) => q.x))].sort((a, b) => a - b);
    const most = 60, pick = all.length <= most ? all : Array.from({ length: most }, (_, i) => all[Math.round(i * (all.length - 1) / (most - 1))]);
    const rows = pick.map((x) => [this.xText(x), ...seen.map((q) => { const i = nearest(q.x, x); return q.x[i] === x || all.length > most ? this.o.format(q.y[i], 6) : '–'; })]);
    const old = this.details.querySelector('.scroll');
    const top = old ? old.scrollTop : 0;
    const t = table(`${this.o.title}${all.length > most ? `, ${most} of ${group(all.length)} points` : ''}`, [{ name: this.xname }, ...seen.map((q) => ({ name: q.name, n: true }))], rows);
    if (old) old.replaceWith(t); else this.details.append(t);
    t.scrollTop = top;
  }
}

function curve(q, X, Y, log, [x0, x1]) {
  const ok = (v) => v !== null && v !== undefined && Number.isFinite(v) && (!log || v > 0);
  const line = (list) => {
    let d = '', pen = false;
    for (let i = 0; i < q.x.length; i++) {
      if (q.x[i] < x0 && q.x[i + 1] < x0 || q.x[i] > x1 && q.x[i - 1] > x1) continue;
      if (!ok(list[i])) { pen = q.dots ? pen : false; continue; }
      d += `${pen ? 'L' : 'M'}${X(q.x[i]).toFixed(1)} ${Y(list[i]).toFixed(1)}`;
      pen = true;
    }
    return d;
  };
  const parts = [];
  if (q.low) {
    let up = '', down = '';
    for (let i = 0; i < q.x.length; i++) if (ok(q.low[i]) && ok(q.high[i])) {
      up += `${up ? 'L' : 'M'}${X(q.x[i]).toFixed(1)} ${Y(q.high[i]).toFixed(1)}`;
      down = `L${X(q.x[i]).toFixed(1)} ${Y(q.low[i]).toFixed(1)}${down}`;
    }
    if (up) parts.push(s('path', { d: `${up}${down}Z`, fill: q.color, opacity: 0.13 }));
  }
  if (q.raw) parts.push(s('path', { d: line(q.raw), fill: 'none', stroke: q.color, opacity: 0.28, 'stroke-width': 1 }));
  parts.push(s('path', { d: line(q.y), fill: 'none', stroke: q.color, 'stroke-width': 1.7, 'stroke-linejoin': 'round', 'stroke-dasharray': q.dash }));
  if (q.dots && q.x.length <= 80) for (let i = 0; i < q.x.length; i++) if (ok(q.y[i]) && q.x[i] >= x0 && q.x[i] <= x1) parts.push(s('circle', { cx: X(q.x[i]), cy: Y(q.y[i]), r: 2.6, fill: q.color }));
  return parts;
}

/** stackTop leaves out the slowest hundredth, of which the beginning of each generation is a part. */
function stackTop(series) {
  const sums = series[0].x.map((_, i) => series.reduce((a, q) => a + (q.y[i] ?? 0), 0)).sort((a, b) => a - b);
  return (sums[Math.floor((sums.length - 1) * 0.98)] || 1) * 1.1;
}

function stack(series, X, Y) {
  const base = series[0].x.map(() => 0), top = Y(Infinity), parts = [];
  const floor = Y(0), ceil = M.top;
  const y = (v) => Math.max(ceil, Math.min(floor, Y(v)));
  void top;
  for (const q of series) {
    let up = '', down = '';
    for (let i = 0; i < q.x.length; i++) {
      const lo = base[i], hi = lo + (q.y[i] ?? 0);
      up += `${up ? 'L' : 'M'}${X(q.x[i]).toFixed(1)} ${y(hi).toFixed(1)}`;
      down = `L${X(q.x[i]).toFixed(1)} ${y(lo).toFixed(1)}${down}`;
      base[i] = hi;
    }
    parts.push(s('path', { d: `${up}${down}Z`, fill: q.color, opacity: 0.85 }));
  }
  return parts;
}
