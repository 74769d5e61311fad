// One run: where it stands, its curves, its workers, its time, its checkpoints, what it has learned.

import { h, put, ask, num, group, bytes, span, ago, day, clock, pill, table, keyOf, color, changed } from './dom.js';
import { Plot, smooth } from './plot.js';
import { Curves, xs, timeOf } from './curves.js';
import { Timeline } from './timeline.js';
import { heldTables } from './held.js';
import { Samples } from './samples.js';

export const CURVES = [
  { key: 'loss', title: 'Training loss', log: false },
  { held: true, title: 'Held-out' },
  { key: 'lr', title: 'Learning rate' },
  { key: 'grad_norm', title: 'Gradient norm', log: true },
  { key: 'samples_per_s', title: 'Samples a second' },
  { key: 'world', title: 'Workers', whole: true },
];
const PHASES = ['data', 'forward', 'backward', 'ring', 'optimizer'];
const NAMED = { ring: 'exposed ring', other: 'the rest' };
const KNOWN = new Set(['loss', 'lr', 'grad_norm', 'samples_per_s', 'world', 'generation', 'targets', 'elapsed', 'step']);

/** controls are those of all plots of a view; change is told of each. */
export function controls(state, change) {
  const out = h('output', null, state.smooth ? state.smooth.toFixed(2) : 'off');
  return h('div', { class: 'tools' },
    h('label', null, 'smoothing', h('input', { type: 'range', min: 0, max: 99, value: Math.round(state.smooth * 100), 'aria-valuetext': out.textContent, oninput: (e) => { state.smooth = e.target.value / 100; out.textContent = state.smooth ? state.smooth.toFixed(2) : 'off'; e.target.setAttribute('aria-valuetext', out.textContent); change(); } }), out),
    h('label', null, 'against', h('select', { onchange: (e) => { state.by = e.target.value; change(true); } }, h('option', { value: 'step' }, 'steps'), h('option', { value: 'time' }, 'time'))));
}

/** lineOf makes of a key's values what a plot draws. */
export function lineOf(series, key, state, name, c) {
  const v = series.keys[key];
  if (!v) return null;
  const raw = v.mean, y = smooth(raw, state.smooth);
  return { name, color: c, x: xs(series, state.by), y, raw: state.smooth ? raw : null, low: state.smooth ? null : v.low, high: state.smooth ? null : v.high };
}

/** ends are those of the training's axis, on which measurements lie too. */
export const ends = (t, by) => { const x = xs(t, by); return !x.length ? null : by === 'time' ? [x[0], x.at(-1)] : [t.first[0], t.last.at(-1)]; };

export function runView(id) {
  const state = { smooth: 0.6, by: 'step', zoom: null };
  const curves = new Curves(id);
  let o = null, part = null;
  const head = h('h1', null, id), sub = h('p', { class: 'sub' }), bar = h('progress', { max: 1, value: 0, hidden: true, 'aria-label': 'steps done' }), warn = h('div'), tiles = h('dl', { class: 'tiles' });
  const zoom = async (from, to) => {
    state.zoom = from === null ? null : [from, to];
    part = null;
    draw();
    if (state.zoom && state.by === 'step') { part = await curves.part(from, to).catch(() => null); draw(); }
  };
  const plots = CURVES.map((c) => ({ ...c, plot: new Plot({ title: c.title, log: c.log, whole: c.whole, zoom, none: c.held ? 'nothing was measured (train.eval_every)' : undefined }) }));
  const sets = new Plot({ title: 'Loss by data set', zoom });
  const grid = h('div', { class: 'grid' }, plots.map((p) => p.plot.el));
  const extra = new Map();
  const time = new Plot({ title: 'Time of a step', stacked: true, format: span, zoom });
  const share = h('div', { class: 'card' });
  const line = new Timeline();
  const held = h('div'), store = h('div', { class: 'card' }), notes = h('ol', { class: 'notes', tabindex: '0', 'aria-label': 'what the run said, the newest first' }), job = h('pre', { tabindex: '0', 'aria-label': 'job file' });
  const samples = new Samples(id);
  const reread = (all) => { if (all) { state.zoom = null; part = null; } draw(); };
  const sec = (anchor, title, tools, ...kids) => h('section', { id: anchor, 'aria-labelledby': `${anchor}-h` }, h('div', { class: 'head' }, h('h2', { id: `${anchor}-h` }, title), tools), kids);
  const parts = [['curves', 'Curves'], ['workers', 'Workers'], ['time', 'Where the time goes'], ['held', 'Held-out'], ['samples', 'Samples'], ['stored', 'Checkpoints'], ['log', 'Log'], ['job', 'Job file']];
  const jump = (anchor) => (e) => { e.preventDefault(); const t = el.querySelector(`#${anchor}`); t.scrollIntoView(); t.querySelector('h2').setAttribute('tabindex', '-1'); t.querySelector('h2').focus({ preventScroll: true }); };
  const el = h('div', null, head, sub, bar, warn, tiles,
    h('nav', { class: 'toc', 'aria-label': 'parts of the page' }, parts.map(([a, t]) => h('a', { href: `#${a}`, onclick: jump(a) }, t))),
    sec('curves', 'Curves', controls(state, reread), grid),
    sec('workers', 'Workers', h('div', { class: 'tools' }, line.pick), line.el),
    sec('time', 'Where the time goes', null, h('div', { class: 'two' }, time.el, share)),
    sec('held', 'Held-out', null, held),
    sec('samples', 'Samples', samples.tools, samples.el),
    sec('stored', 'Checkpoints', null, store),
    sec('log', 'Log', null, h('div', { class: 'card' }, notes)),
    sec('job', 'Job file', null, h('div', { class: 'card' }, h('p', { class: 'quiet small' }), job)));

  function draw() {
    if (!o) return;
    const t = part || curves.train, hd = curves.held;
    const opts = { xname: state.by, domain: state.zoom, zoomed: !!state.zoom, note: t.width > 1 ? `${group(t.width)} steps a point` : '' };
    for (const p of plots) {
      if (p.held) {
        const names = Object.keys(hd.keys).filter((k) => !['samples', 'seconds', 'elapsed'].includes(k) && !k.startsWith('sets.')).sort((a, b) => (b === 'loss') - (a === 'loss'));
        const x = state.by === 'time' ? timeOf(curves.train, hd.last) : hd.last;
        p.plot.set(names.slice(0, 6).map((k, i) => ({ name: k, color: color(i), x, y: hd.keys[k].mean, dots: true })), { ...opts, note: '', domain: opts.domain || ends(t, state.by) });
      } else {
        const q = lineOf(t, p.key, p.key === 'lr' || p.key === 'world' ? { ...state, smooth: 0 } : state, p.title, color(0));
        p.plot.set(q ? [q] : [], opts);
      }
    }
    const names = Object.keys(t.keys).filter((k) => /^sets\..*\.loss$/.test(k));
    if (names.length && !sets.el.isConnected) grid.children[1].after(sets.el);
    if (names.length) sets.set(names.slice(0, 8).map((k, i) => lineOf(t, k, state, k.slice(5, -5), color(i))), opts);
    for (const k of Object.keys(t.keys)) { // figures of a newer release
      if (KNOWN.has(k) || /^(sets|time)\./.test(k) || extra.size >= 8 && !extra.has(k)) continue;
      if (!extra.has(k)) { const p = new Plot({ title: k.replace(/[_.]/g, ' '), zoom }); extra.set(k, p); grid.append(p.el); }
      extra.get(k).set([lineOf(t, k, state, k, color(0))], opts);
    }
    const phases = PHASES.concat(Object.keys(t.keys).filter((k) => k.startsWith('time.')).map((k) => k.slice(5)).filter((k) => k !== 'step' && !PHASES.includes(k))).filter((k) => t.keys[`time.${k}`]);
    time.set(phases.map((k, i) => ({ name: NAMED[k] || k, color: PHASES.includes(k) ? `var(--${k})` : color(i), x: xs(t, state.by), y: smooth(t.keys[`time.${k}`].mean, state.smooth) })), opts);
  }

  function drawTiles() {
    const l = o.last, tile = (name, v, small) => h('div', { class: 'tile' }, h('dt', null, name), h('dd', null, v, small ? h('small', null, small) : null));
    const there = o.story.stays.filter((x) => !x.to).length;
    const newest = o.checkpoints.at(-1), best = o.checkpoints.find((c) => c.best);
    const hk = curves.held.keys, m = ['l1', 'accuracy', 'loss'].find((k) => hk[k]);
    const measured = m ? hk[m].mean : [];
    put(tiles,
      tile('Step', group(o.step), o.steps ? `of ${group(o.steps)}` : null),
      tile('Loss', num(l.loss), l.grad_norm !== undefined ? `gradient norm ${num(l.grad_norm)}` : null),
      measured.length ? tile(`Held-out ${m}`, num(measured.at(-1)), `best ${num(m === 'accuracy' ? Math.max(...measured) : Math.min(...measured))}`) : null,
      tile('Samples a second', num(l.samples_per_s, 3), l['time.step'] !== undefined ? `${span(l['time.step'])} a step` : null),
      tile('Workers', o.state === 'running' && there ? String(there) : num(l.world), l.generation !== undefined ? `generation ${group(l.generation)}` : null),
      o.state === 'running' ? tile('Time left', o.left ? span(o.left) : '–', `${span(o.seconds)} so far`) : tile('Time of the steps', span(o.seconds), null),
      newest ? tile('Checkpoint', group(newest.step), best ? `best: ${group(best.step)}` : bytes(newest.bytes)) : null);
    bar.hidden = !o.steps || o.state === 'done';
    bar.value = o.steps ? o.step / o.steps : 0;
  }

  function drawShare() {
    const names = Object.keys(o.phases).sort((a, b) => (PHASES.indexOf(a) + 99) % 99 - (PHASES.indexOf(b) + 99) % 99).filter((k) => o.phases[k] > 0);
    const sum = names.reduce((a, k) => a + o.phases[k], 0), whole = Math.max(sum, o.seconds);
    if (!whole) { put(share, h('p', { class: 'empty' }, 'No step has been timed yet.')); return; }
    const rows = names.map((k) => [k, o.phases[k]]).concat(o.seconds > sum * 1.005 ? [['other', o.seconds - sum]] : []);
    const c = (k, i) => (PHASES.includes(k) || k === 'other' ? `var(--${k})` : color(i));
    put(share, h('h3', null, 'Of all steps together'), h('p', { class: 'quiet small' }, `${span(o.seconds)} in ${group(o.step)} steps. Each part is the slowest worker’s, so parts of a step may add up to more than the step. Exposed ring: waiting for the ring after backward, which overlap has not hidden.`),
      h('div', { class: 'bars', 'aria-hidden': 'true' }, rows.map(([k, v], i) => h('span', { style: { width: `${v / whole * 100}%`, background: c(k, i) } }))),
      table('Parts of the steps’ time', [{ name: 'part' }, { name: 'time', n: true }, { name: 'share', n: true }, { name: 'a step', n: true }],
        rows.map(([k, v], i) => [keyOf(c(k, i), NAMED[k] || k, true), span(v), `${(v / whole * 100).toFixed(1)} %`, span(v / Math.max(1, curves.newest || o.step))])));
  }

  function drawStored() {
    if (!o.checkpoints.length) { put(store, h('p', { class: 'empty' }, 'No checkpoint is stored in this directory.')); return; }
    const check = (c) => (c.checked ? (c.checked === 'good' ? h('span', { class: 'pill ok' }, 'every byte read, good') : h('span', { class: 'bad' }, c.checked))
      : c.checking ? h('span', { class: 'quiet' }, 'reading…')
        : h('button', { onclick: async (e) => { e.target.disabled = true; await ask('verify', { run: id, step: c.step }).catch(() => {}); } }, 'verify'));
    const had = document.activeElement?.closest?.('#stored tr')?.dataset.step;
    put(store, table('Stored checkpoints, the newest first', [{ name: 'step', n: true }, { name: 'size', n: true }, { name: 'training loss', n: true }, { name: 'stored' }, { name: 'state' }, { name: '' }, { name: 'verified' }],
      [...o.checkpoints].reverse().map((c) => [group(c.step), bytes(c.bytes), num(c.loss), c.created ? day(c.created) : '–', c.problem ? h('span', { class: 'bad' }, c.problem) : c.state,
        [c.latest ? h('span', { class: 'pill' }, 'latest') : null, ' ', c.best ? h('span', { class: 'pill ok' }, `best ${c.metric || ''}`) : null], check(c)])));
    [...store.querySelectorAll('tbody tr')].forEach((tr, i) => { tr.dataset.step = [...o.checkpoints].reverse()[i].step; });
    if (had) store.querySelector(`tr[data-step="${had}"] button`)?.focus();
  }

  function drawAll() {
    const words = [o.model, o.story.parameters ? `${group(o.story.parameters)} parameters` : null, o.data ? `data ${o.data}` : null, o.global ? `${group(o.global)} samples a step` : null, o.story.road ? `ring: ${o.story.road}` : null].filter(Boolean);
    put(head, id, ' ', pill(o.state));
    sub.textContent = `${words.join(' · ')}${words.length ? ' · ' : ''}${o.path}`;
    if (changed(warn, [o.problem, o.state === 'silent' && o.said, o.refused?.length, o.bad, curves.read < 1])) {
      put(warn, o.problem ? h('p', { class: 'problem' }, o.problem) : null, o.state === 'silent' ? h('p', { class: 'hint' }, o.said) : null,
        o.refused ? h('p', { class: 'hint' }, `${o.refused.length} step(s) made no update; the last one, step ${group(o.refused.at(-1).step)}: ${o.refused.at(-1).why}`) : null,
        o.bad ? h('p', { class: 'hint' }, `${o.bad} line(s) of metrics.jsonl are torn and left out`) : null);
    }
    drawTiles(); drawShare(); drawStored();
    line.set(o);
    if (changed(held, [o.tables, Object.keys(curves.held.keys).length, curves.held.last.length])) heldTables(held, o, curves.held);
    if (changed(notes, o.story.notes)) {
      const top = notes.scrollTop;
      put(notes, o.story.notes.length ? [...o.story.notes].reverse().map((n) => h('li', { class: n.level }, h('span', { title: day(n.at) }, clock(n.at)), h('span', null, `step ${group(n.step)}`), h('span', { class: n.text.includes('\n') ? 'lines' : null }, n.text))) : h('li', { class: 'quiet' }, 'nothing yet'));
      notes.scrollTop = top;
    }
    if (changed(job, o.job)) { job.textContent = o.job || 'There is no job.yaml.'; job.previousSibling.textContent = o.job_file ? `job.yaml, every default written out; trained from ${o.job_file}` : 'job.yaml, every default written out'; }
    samples.set(o);
  }

  return {
    el, title: id, standing: '',
    async update(signal) {
      const a = await ask('run', { run: id, version: o?.version, told: o?.told }, signal);
      if (a && !a.story) { a.story = o.story; a.tables = o.tables; }
      if (a || curves.read < 1) await curves.update(signal);
      if (a) { o = a; drawAll(); }
      draw();
      if (a) { drawShare(); drawTiles(); }
      this.standing = curves.read < 1 ? `reading, ${Math.floor(curves.read * 100)} %` : o.state === 'running' ? 'live' : `${o.said}, ${ago(o.written, o.now)}`;
      return curves.read < 1 ? 50 : o.state === 'running' ? 1500 : o.checkpoints.some((c) => c.checking) ? 1000 : 8000;
    },
    gone(text) { put(warn, h('p', { class: 'problem' }, text)); },
    close() { samples.close(); },
  };
}
