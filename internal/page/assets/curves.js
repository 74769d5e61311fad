// The curves of a run, kept up with: only what is new is asked for.

import { ask } from './dom.js';

export class Curves {
  constructor(id) { this.id = id; this.clear(); }

  clear() { Object.assign(this, { epoch: -1, width: 0, read: 0, newest: 0, train: { first: [], last: [], keys: {}, width: 1 }, held: { first: [], last: [], keys: {}, width: 1 }, zoomed: null }); }

  /** update asks until all that is written has been read; true: something is new. */
  async update(signal) {
    const n = this.train.first.length;
    const a = await ask('curves', { run: this.id, epoch: this.epoch, width: this.width, since: n ? this.train.first[n - 1] : 0 }, signal);
    const fresh = a.newest !== this.newest || a.epoch !== this.epoch || a.read !== this.read || a.held.first.length !== this.held.first.length;
    this.train = a.since ? join(this.train, a.train, a.since) : a.train;
    Object.assign(this, { epoch: a.epoch, width: a.train.width, read: a.read, newest: a.newest, held: a.held });
    return fresh;
  }

  /** part reads steps from to to as exactly as can be. */
  async part(from, to, signal) {
    if (this.width === 1) return this.train;
    const a = await ask('curves', { run: this.id, from: Math.max(1, Math.floor(from)), to: Math.ceil(to) }, signal);
    return a.train;
  }
}

function join(old, more, since) {
  let keep = old.first.length;
  while (keep > 0 && old.last[keep - 1] >= since) keep--;
  const out = { width: more.width, first: old.first.slice(0, keep).concat(more.first), last: old.last.slice(0, keep).concat(more.last), keys: {} };
  const blank = (n) => Array(n).fill(null);
  for (const k of new Set([...Object.keys(old.keys), ...Object.keys(more.keys)])) {
    const a = old.keys[k], b = more.keys[k];
    const of = (part) => (a?.[part] || blank(old.first.length)).slice(0, keep).concat(b?.[part] || blank(more.first.length));
    out.keys[k] = { mean: of('mean') };
    if (a?.low || b?.low) Object.assign(out.keys[k], { low: of('low'), high: of('high') });
  }
  return out;
}

/** xs are where the points of a series lie: by step, or by the seconds that steps took. */
export function xs(series, by) {
  if (by === 'time' && series.keys.elapsed) return series.keys.elapsed.mean;
  return series.first.map((f, i) => (f + series.last[i]) / 2);
}

/** timeOf finds for steps the seconds at which they were committed. */
export function timeOf(train, steps) {
  const t = train.keys.elapsed?.mean || [];
  return steps.map((st) => {
    let a = 0, b = train.last.length - 1;
    if (b < 0) return 0;
    while (a < b) { const m = (a + b) >> 1; if (train.last[m] < st) a = m + 1; else b = m; }
    return t[a] ?? 0;
  });
}
