// Samples of the held-out split: what the model sees, what it would do, and what the expert did.

import { h, s, put, ask, num, group, table, keyOf } from './dom.js';
import { Plot } from './plot.js';

const TRUE = 'var(--c2)', SAID = 'var(--c1)';

/** arrow draws one from (a, b) to (c, d). */
function arrow(points, color, width, dash) {
  const [c, d] = points.at(-1), [a, b] = points.at(-2), len = Math.hypot(c - a, d - b) || 1, ux = (c - a) / len, uy = (d - b) / len, t = width * 2.4;
  return [s('path', { d: points.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(2)} ${y.toFixed(2)}`).join(''), fill: 'none', stroke: color, 'stroke-width': width, 'stroke-linecap': 'round', 'stroke-linejoin': 'round', 'stroke-dasharray': dash }),
    s('path', { d: `M${c + ux * t} ${d + uy * t}L${c - uy * t * 0.7} ${d + ux * t * 0.7}L${c + uy * t * 0.7} ${d - ux * t * 0.7}Z`, fill: color })];
}

export class Samples {
  constructor(id) {
    this.id = id; this.sample = 0; this.step = null; this.heat = true; this.way = true; this.asked = false;
    this.which = h('select', { 'aria-label': 'checkpoint', onchange: (e) => { this.step = Number(e.target.value); this.ask(); } });
    this.number = h('input', { type: 'number', min: 0, value: 0, 'aria-label': 'number of the sample', onchange: (e) => { this.sample = Math.max(0, Math.floor(Number(e.target.value)) || 0); this.ask(); } });
    const go = (d) => () => { this.sample = Math.max(0, Math.min((this.x?.of ?? 1e9) - 1, this.sample + d)); this.ask(); };
    const check = (key, name) => h('label', null, h('input', { type: 'checkbox', checked: true, onchange: (e) => { this[key] = e.target.checked; this.draw(); } }), name);
    this.tools = h('div', { class: 'tools' }, h('label', null, 'checkpoint', this.which), h('button', { type: 'button', 'aria-label': 'sample before', onclick: go(-1) }, '‹'), this.number, h('button', { type: 'button', 'aria-label': 'next sample', onclick: go(1) }, '›'),
      h('button', { type: 'button', onclick: () => { this.sample = Math.floor(Math.random() * (this.x?.of || 1000)); this.ask(); } }, 'any'), check('way', 'actions'), check('heat', 'attention'));
    this.pics = h('div', { class: 'pictures' });
    this.words = h('p', { class: 'small' });
    this.nums = h('div');
    this.plots = h('div', { class: 'grid' });
    this.body = h('div', { class: 'card' }, h('p', { class: 'empty' }, 'Samples are asked for when this part of the page is looked at.'));
    this.el = h('div', null, this.body, this.plots);
    this.watch = new IntersectionObserver((e) => { if (e.some((x) => x.isIntersecting)) { this.seen = true; if (!this.asked) this.ask(); } });
    this.watch.observe(this.el);
  }

  set(o) {
    const steps = o.checkpoints.filter((c) => !c.problem).map((c) => c.step);
    const key = steps.join();
    if (key === this.had) return;
    const newest = this.step === null || this.step === this.newest || !steps.includes(this.step);
    this.had = key;
    this.newest = steps.at(-1) ?? null;
    put(this.which, [...steps].reverse().map((t) => h('option', { value: t }, `step ${group(t)}`)));
    if (newest) this.step = this.newest;
    if (this.step !== null) this.which.value = this.step;
    if (this.seen && newest) this.ask(); else if (newest) this.asked = false;
  }

  async ask() {
    if (this.step === null || this.step === undefined) { put(this.body, h('p', { class: 'empty' }, 'Samples are shown by a stored checkpoint, and there is none in this directory.')); return; }
    this.asked = true;
    this.abort?.abort();
    const mine = this.abort = new AbortController();
    this.body.setAttribute('aria-busy', 'true');
    if (!this.x) put(this.body, h('p', { class: 'empty' }, 'Opening the checkpoint and its data…'));
    try {
      const x = await ask('sample', { run: this.id, step: this.step, sample: this.sample }, mine.signal);
      if (x.problem) { this.x = null; put(this.body, h('p', { class: 'empty' }, `No samples of this checkpoint: ${x.problem}`)); put(this.plots); return; }
      this.x = x;
      this.sample = x.sample;
      this.number.value = x.sample;
      this.number.max = x.of - 1;
      this.draw();
    } catch (e) {
      if (!mine.signal.aborted) { this.x = null; put(this.body, h('p', { class: 'empty' }, `No answer: ${e.message}`)); put(this.plots); }
    } finally { if (this.abort === mine) this.body.removeAttribute('aria-busy'); }
  }

  draw() {
    const x = this.x;
    if (!x) return;
    const n = x.valid.filter(Boolean).length || 1;
    put(this.pics, x.pictures.map((p) => this.picture(p, x, n)));
    const err = (d) => x.true.slice(0, n).reduce((a, t, i) => a + Math.abs(t[d] - x.predicted[i][d]), 0) / n;
    const bar = (d) => {
      const std = x.dims[d].std || 1, w = 120, m = 1.5, at = (v) => (Math.max(-m, Math.min(m, (v - mid) / std)) / m + 1) * w / 2, mid = (x.true[0][d] + x.predicted[0][d]) / 2;
      return s('svg', { width: w, height: 16, 'aria-hidden': 'true' }, s('line', { x1: 0, x2: w, y1: 8, y2: 8, stroke: 'var(--line)' }), s('circle', { cx: at(x.true[0][d]), cy: 8, r: 4.5, fill: TRUE }), s('circle', { cx: at(x.predicted[0][d]), cy: 8, r: 3.2, fill: SAID }));
    };
    put(this.nums, table(n > 1 ? `The first of ${n} actions; error: mean of all` : 'The action', [{ name: 'dimension' }, { name: 'true', n: true }, { name: 'predicted', n: true }, { name: 'error', n: true }, { name: 'unit' }, { name: 'apart, of ±1.5 deviations' }],
      x.dims.map((d, i) => [d.name, num(x.true[0][i]), num(x.predicted[0][i]), num(err(i)), d.unit, bar(i)])));
    put(this.words, x.words ? h('b', null, `“${x.words}” `) : null, h('span', { class: 'quiet' }, `sample ${group(x.sample)} of ${group(x.of)} (${x.split}), ${x.origin}`), ' ', keyOf(TRUE, 'true', true), ' ', keyOf(SAID, 'predicted', true));
    put(this.body, this.words, h('div', { class: 'two' }, h('div', null, this.pics,
      h('p', { class: 'quiet small' }, [x.pictures.some((p) => p.true) ? 'Arrows: where the gripper goes by the actions, as this camera sees it; the dot is where it is. ' : x.plane && x.pictures.length ? 'Arrows: the way of the actions over the table, x up and y to the left as a robot’s base has them, from the middle; directions, not the camera’s projection. ' : '', x.pictures.some((p) => p.map) ? 'Warm patches: what of the picture the result is made of (attention rollout). ' : '', x.attention ? `${x.attention[0].toUpperCase()}${x.attention.slice(1)}.` : ''].join(''))), this.nums));
    const many = x.true.length > 1;
    put(this.plots, many ? x.dims.slice(0, 16).map((d, i) => {
      const p = new Plot({ title: `${d.name}${d.unit ? ` (${d.unit})` : ''}`, height: 140 });
      p.set([['true', x.true, TRUE], ['predicted', x.predicted, SAID]].map(([name, rows, c]) => ({ name, color: c, x: rows.slice(0, n).map((_, k) => k + 1), y: rows.slice(0, n).map((r) => r[i]), dots: true })), { xname: 'action' });
      return p.el;
    }) : []);
    this.plots.style.marginTop = many ? '14px' : '0';
  }

  picture(p, x, n) {
    const over = [];
    if (this.heat && p.map) {
      const max = Math.max(...p.map), min = Math.min(...p.map), side = p.side;
      over.push(s('g', null, p.map.map((v, i) => s('rect', { x: (i % side) * p.w / side, y: Math.floor(i / side) * p.h / side, width: p.w / side + 0.05, height: p.h / side + 0.05, fill: '#ff5a1f', opacity: (0.62 * (v - min) / (max - min || 1)).toFixed(3) }))));
    }
    const ways = p.true?.length > 1 && p.predicted?.length > 1;
    if (this.way && ways) {
      const unit = p.w / 100, put2 = (l) => l.map(([a, b]) => [a * p.w, b * p.h]), from = put2(p.true)[0];
      over.push(s('circle', { class: 'from', cx: from[0], cy: from[1], r: unit * 1.4, fill: '#fff', stroke: '#0008', 'stroke-width': unit * 0.5 }));
      for (const [l, c, name] of [[p.true, '#19d18b', 'true'], [p.predicted, '#ff9d2e', 'predicted']]) over.push(s('g', { class: `way ${name}` }, arrow(put2(l), '#000a', unit * 2.6), arrow(put2(l), c, unit * 1.5)));
    } else if (this.way && x.plane) {
      const g = x.plane, unit = p.w / 100, way = (rows) => {
        let a = 0, b = 0;
        const steps = g.from_x === 0 && g.from_y === 0;
        const out = [[0, 0]];
        for (const r of rows.slice(0, n)) { if (steps) { a += r[g.x]; b += r[g.y]; } else { a = r[g.x] - g.from_x; b = r[g.y] - g.from_y; } out.push([a, b]); }
        return out;
      };
      const lists = [way(x.true), way(x.predicted)], far = Math.max(g.std, ...lists.flat().map(([a, b]) => Math.hypot(a, b)));
      const put2 = (l) => l.map(([a, b]) => [p.w / 2 - b / far * p.w * 0.4, p.h / 2 - a / far * p.h * 0.4]);
      over.push(s('circle', { cx: p.w / 2, cy: p.h / 2, r: unit * 1.4, fill: '#fff', stroke: '#0008', 'stroke-width': unit * 0.5 }));
      for (const [l, c] of [[lists[0], '#19d18b'], [lists[1], '#ff9d2e']]) over.push(...arrow(put2(l), '#000a', unit * 2.6), ...arrow(put2(l), c, unit * 1.5));
    }
    const what = `camera ${p.name}${p.map ? ', with attention' : ''}${ways || x.plane ? ', with the true and the predicted way' : ''}; the table has the numbers`;
    return h('figure', null, h('div', { class: 'pic' }, h('img', { src: `data:image/png;base64,${p.png}`, width: p.w, height: p.h, alt: what }), s('svg', { viewBox: `0 0 ${p.w} ${p.h}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, over)), h('figcaption', null, p.name));
  }

  close() { this.watch.disconnect(); this.abort?.abort(); }
}
