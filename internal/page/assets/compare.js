// Several runs in the same plots, and what is different between them.

import { h, put, ask, num, group, span, pill, color, keyOf, changed } from './dom.js';
import { Plot } from './plot.js';
import { Curves, timeOf } from './curves.js';
import { CURVES, controls, lineOf } from './run.js';

/** flat reads the keys of a job file as coordinator writes it: two spaces a level, a value a line. */
export function flat(yaml) {
  const out = new Map(), path = [];
  for (const line of yaml.split('\n')) {
    const m = line.match(/^( *)(- )?([^:#]+):(?: (.*))?$/);
    if (!m) { if (line.trim() && path.length) { const k = path.filter(Boolean).join('.'); out.set(k, `${out.get(k) || ''}${out.get(k) ? ' ' : ''}${line.trim()}`); } continue; }
    const depth = m[1].length / 2 + (m[2] ? 1 : 0);
    path.length = depth;
    path[depth] = m[3].trim();
    if (m[4] !== undefined && m[4] !== '') { const k = path.filter(Boolean).join('.'); out.set(k, out.has(k) ? `${out.get(k)}, ${m[4]}` : m[4]); }
  }
  return out;
}

export function compareView(ids) {
  const state = { smooth: 0.6, by: 'step', zoom: null };
  const of = ids.map((id) => ({ id, curves: new Curves(id), o: null, problem: null }));
  const zoom = (from, to) => { state.zoom = from === null ? null : [from, to]; draw(); };
  const plots = CURVES.map((c) => ({ ...c, plot: new Plot({ title: c.title, log: c.log, whole: c.whole, zoom }) }));
  const warn = h('div'), legend = h('p', { class: 'readout' }), measures = h('div', { class: 'card' }), diff = h('div', { class: 'card' });
  const reread = (all) => { if (all) state.zoom = null; draw(); };
  const el = h('div', null, h('h1', null, `${ids.length} runs`), legend, warn,
    h('section', { 'aria-labelledby': 'cm' }, h('div', { class: 'head' }, h('h2', { id: 'cm' }, 'Measures')), measures),
    h('section', { 'aria-labelledby': 'cc' }, h('div', { class: 'head' }, h('h2', { id: 'cc' }, 'Curves'), controls(state, reread)), h('div', { class: 'grid' }, plots.map((p) => p.plot.el))),
    h('section', { 'aria-labelledby': 'cd' }, h('div', { class: 'head' }, h('h2', { id: 'cd' }, 'What their jobs have different')), diff));

  function draw() {
    for (const p of plots) {
      const lines = [];
      for (const [i, r] of of.entries()) {
        if (p.held) {
          const hd = r.curves.held, k = ['l1', 'accuracy', 'loss'].find((n) => hd.keys[n]);
          if (k) lines.push({ name: `${r.id} (${k})`, color: color(i), x: state.by === 'time' ? timeOf(r.curves.train, hd.last) : hd.last, y: hd.keys[k].mean, dots: true });
        } else {
          const q = lineOf(r.curves.train, p.key, p.key === 'lr' || p.key === 'world' ? { ...state, smooth: 0 } : state, r.id, color(i));
          if (q) { q.low = q.high = null; if (of.length > 3) q.raw = null; lines.push(q); }
        }
      }
      p.plot.set(lines, { xname: state.by, domain: state.zoom, zoomed: !!state.zoom });
    }
  }

  function tables() {
    const runs = of.filter((r) => r.o);
    put(legend, of.map((r, i) => h('a', { href: `#/run/${encodeURIComponent(r.id)}` }, keyOf(color(i), r.id))));
    const best = (r) => { const hk = r.curves.held.keys, k = ['l1', 'accuracy', 'loss'].find((n) => hk[n]); if (!k) return '–'; const v = k === 'accuracy' ? Math.max(...hk[k].mean) : Math.min(...hk[k].mean); return `${num(v)} ${k}, step ${group(r.curves.held.last[hk[k].mean.indexOf(v)])}`; };
    const mean = (r) => { const y = r.curves.train.keys.loss?.mean.filter((v) => v !== null) || [], tail = y.slice(-Math.max(1, Math.round(y.length / 20))); return tail.length ? tail.reduce((a, b) => a + b, 0) / tail.length : null; };
    const rows = [
      ['state', (r) => pill(r.o.state)], ['step', (r) => (r.o.steps ? `${group(r.o.step)} of ${group(r.o.steps)}` : group(r.o.step))],
      ['loss, mean of the last 5 % of steps', (r) => num(mean(r), 5)], ['held-out, newest', (r) => { const hk = r.curves.held.keys, k = ['l1', 'accuracy', 'loss'].find((n) => hk[n]); return k ? `${num(hk[k].mean.at(-1))} ${k}` : '–'; }],
      ['held-out, best', best], ['time of the steps', (r) => span(r.o.seconds)], ['samples a second, last step', (r) => num(r.o.last.samples_per_s)],
      ['workers, generation', (r) => `${num(r.o.last.world)}, ${num(r.o.last.generation)}`], ['losses of workers', (r) => String(r.o.story.stays.filter((x) => x.lost).length)], ['parameters', (r) => (r.o.story.parameters ? group(r.o.story.parameters) : '–')],
    ];
    const grid = (caption, lines) => h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption }, h('table', null, h('caption', { class: 'hidden' }, caption),
      h('thead', null, h('tr', null, h('th', { scope: 'col' }, ''), runs.map((r) => h('th', { scope: 'col' }, keyOf(color(of.indexOf(r)), r.id))))),
      h('tbody', null, lines.map(([name, cells]) => h('tr', null, h('th', { scope: 'row' }, name), cells.map((c) => h('td', null, c)))))));
    put(measures, grid('Measures of the runs', rows.map(([n, f]) => [n, runs.map(f)])));
    if (!changed(diff, runs.map((r) => r.o.job))) return;
    const jobs = runs.map((r) => flat(r.o.job)), keys = [...new Set(jobs.flatMap((j) => [...j.keys()]))];
    const other = keys.filter((k) => new Set(jobs.map((j) => j.get(k) ?? '')).size > 1);
    put(diff, other.length ? grid('Keys of the job files that differ', other.map((k) => [k, jobs.map((j) => (j.has(k) ? h('code', null, j.get(k)) : h('span', { class: 'quiet' }, 'not there')))])) : h('p', { class: 'empty' }, 'Their job files are the same.'));
  }

  return {
    el, title: ids.length > 3 ? `${ids.length} runs` : ids.join(', '), standing: '',
    async update(signal) {
      let more = false, live = false;
      await Promise.all(of.map(async (r) => {
        try {
          const a = await ask('run', { run: r.id, version: r.o?.version, told: r.o?.told }, signal);
          if (a && !a.story) { a.story = r.o.story; a.tables = r.o.tables; }
          if (a) r.o = a;
          if (a || r.curves.read < 1) await r.curves.update(signal);
          more ||= r.curves.read < 1;
          live ||= r.o.state === 'running';
          r.problem = null;
        } catch (e) { if (signal.aborted || !e.status) throw e; r.problem = `${r.id}: ${e.message}`; }
      }));
      put(warn, of.filter((r) => r.problem).map((r) => h('p', { class: 'problem' }, r.problem)));
      tables();
      draw();
      return more ? 50 : live ? 2500 : 10_000;
    },
  };
}
