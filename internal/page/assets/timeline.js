// Who took part when: a row a worker, generations across, the job's phases above, signs below.

import { h, s, put, clock, day, group, span, table, keyOf } from './dom.js';

const ROW = 22, LEFT = 92, RIGHT = 12, MOST = 40;
const PHASE = { running: 'var(--good)', forming: 'var(--link)', settling: 'var(--warn)', paused: 'var(--bad)', gathering: 'var(--quiet)', saving: 'var(--c4)', ended: 'var(--line)' };
const SIGN = { saved: ['▾', 'var(--c2)', 'checkpoint'], eval: ['◆', 'var(--c4)', 'measured'], stall: ['!', 'var(--bad)', 'stall'], straggler: ['~', 'var(--warn)', 'straggler'], end: ['■', 'var(--quiet)', 'end'] };

/** axis lays the times of a run's sessions side by side: a night between two takes little room. */
export function axis(sessions, from, to, width) {
  const cuts = [];
  let a = from;
  for (const b of sessions) if (b.pause && b.at - b.pause > Math.max(60e3, (to - from) * 0.02) && b.at > from && b.pause < to) { cuts.push([a, Math.max(a, b.pause)]); a = b.at; }
  cuts.push([a, to]);
  const gap = 14, whole = cuts.reduce((n, [x, y]) => n + (y - x), 0) || 1, room = width - gap * (cuts.length - 1);
  let x = 0;
  const segs = cuts.map(([p, q]) => { const w = (q - p) / whole * room; const o = { p, q, x, w }; x += w + gap; return o; });
  const at = (t) => {
    for (const g of segs) if (t <= g.q) return g.x + (t <= g.p ? 0 : (t - g.p) / Math.max(1, g.q - g.p) * g.w);
    return width;
  };
  return { at, segs };
}

export class Timeline {
  constructor() {
    this.view = '0';
    this.pick = h('select', { 'aria-label': 'how much of the time is shown', onchange: (e) => { this.view = e.target.value; this.draw(); } },
      [['0', 'all of it'], ['3600', 'the last hour'], ['600', 'the last 10 minutes'], ['60', 'the last minute']].map(([v, t]) => h('option', { value: v }, t)));
    this.box = h('div', { class: 'line' });
    this.legend = h('p', { class: 'readout' });
    this.more = h('div');
    this.el = h('div', { class: 'card' }, this.box, this.legend, this.more);
    new ResizeObserver(() => { const w = Math.round(this.box.clientWidth); if (w && w !== this.width) { this.width = w; this.draw(); } }).observe(this.box);
  }

  set(o) { this.o = o; this.draw(); }

  draw() {
    const o = this.o, w = this.width;
    if (!o || !w) return;
    const st = o.story;
    if (!st.stays.length) {
      put(this.box, h('p', { class: 'empty' }, st.sessions.length ? 'No worker has joined yet.' : 'This run has no events.jsonl: it was trained by a release that did not write who took part. The curves have world and generation.'));
      put(this.legend); put(this.more);
      return;
    }
    const live = o.state === 'running';
    const end = live ? o.now : Math.max(st.newest, ...st.stays.map((x) => x.to));
    let from = Math.min(st.stays[0].from, ...st.sessions.map((x) => x.at));
    if (this.view !== '0') from = Math.max(from, end - Number(this.view) * 1000);
    const to = Math.max(end, from + 1000);
    const sessions = st.sessions.map((x, i) => ({ at: x.at, pause: i ? Math.max(...st.stays.filter((y) => y.from < x.at).map((y) => y.to || 0), st.sessions[i - 1].at) : 0 }));
    const { at, segs } = axis(sessions, from, to, w - LEFT - RIGHT);
    const X = (t) => LEFT + at(Math.min(to, Math.max(from, t)));
    const shown = st.stays.filter((x) => (x.to || to) >= from);
    const ids = [...new Set(st.stays.map((x) => x.worker))].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    const there = ids.filter((id) => shown.some((x) => x.worker === id));
    const changes = (id) => shown.filter((x) => x.worker === id).length + 2 * shown.filter((x) => x.worker === id && x.lost).length;
    const busy = new Set(there.length > MOST ? [...there].sort((x, y) => changes(y) - changes(x)).slice(0, MOST) : there);
    const rows = there.filter((id) => busy.has(id)); // of very many, those to whom most has happened
    const top = 44, height = top + rows.length * ROW + 40;
    const parts = [], y = (id) => top + rows.indexOf(id) * ROW;
    const tip = (el, text) => { el.append(s('title', null, text)); return el; };

    parts.push(s('text', { x: LEFT - 8, y: 35, 'text-anchor': 'end' }, 'job'));
    st.phases.forEach((p, i) => {
      const q = st.phases[i + 1]?.at ?? to;
      if (q < from) return;
      parts.push(tip(s('rect', { x: X(p.at), y: 27, width: Math.max(1, X(q) - X(p.at)), height: 9, fill: PHASE[p.name] || 'var(--quiet)', opacity: p.name === 'running' ? 0.45 : 0.9 }), `${p.name}, ${clock(p.at)}, step ${group(p.step)}, for ${span((q - p.at) / 1000)}`));
    });
    let lastText = -99;
    for (const g of st.generations) {
      if (g.at < from) continue;
      const x = X(g.at);
      parts.push(tip(s('line', { x1: x, x2: x, y1: 18, y2: top + rows.length * ROW, stroke: 'var(--quiet)', 'stroke-dasharray': '1 3' }), `generation ${g.number}: ${g.workers} workers from step ${group(g.step)}`));
      if (x - lastText > 24) { parts.push(s('text', { x, y: 14, 'text-anchor': 'middle' }, `g${g.number}`)); lastText = x; }
    }
    for (const id of rows) {
      parts.push(s('text', { x: LEFT - 8, y: y(id) + 15, 'text-anchor': 'end' }, id.length > 12 ? `${id.slice(0, 11)}…` : id));
      parts.push(s('line', { x1: LEFT, x2: w - RIGHT, y1: y(id) + 11, y2: y(id) + 11, stroke: 'var(--grid)' }));
    }
    for (const x of shown) {
      if (!rows.includes(x.worker)) continue;
      const a = X(x.from), b = X(x.to || to), yy = y(x.worker);
      const words = `${x.worker}, process ${x.pid} on ${x.host}: ${clock(x.from)} to ${x.to ? clock(x.to) : 'now'}, from step ${group(x.step)}${x.why ? `. ${x.why}` : ''}`;
      x.places.forEach((p, i) => {
        const c = X(p.at), d = i + 1 < x.places.length ? X(x.places[i + 1].at) : b;
        parts.push(tip(s('rect', { class: 'bar', x: c, y: yy + 3, width: Math.max(1.5, d - c), height: 16, fill: p.rank < 0 ? 'var(--other)' : 'var(--c0)', opacity: p.spare ? 0.4 : p.rank < 0 ? 0.7 : 0.85 }), `${words}. ${p.rank < 0 ? 'loading' : `rank ${p.rank}`}${p.spare ? ', spare' : ''}`));
      });
      const here = (t) => t >= x.from && t <= (x.to || to);
      for (const v of st.waits ?? []) { // below the bar: how much of the time it has waited for the ring
        const r = v.ring[x.worker];
        const a = Math.max(v.from, x.from), b = Math.min(v.at, x.to || to);
        if (!r || r[1] <= 0 || b < from || b < a) continue;
        const c = X(a), part = Math.min(1, r[0] / r[1]);
        parts.push(tip(s('rect', { class: 'wait', x: c, y: yy + 19 - 10 * part, width: Math.max(1, X(b) - c), height: 10 * part, fill: 'var(--ring)' }), `${x.worker} waited ${(part * 100).toFixed(0)} % of its steps’ time for the ring, ${clock(v.from)} to ${clock(v.at)}`));
      }
      for (const m of st.marks) {
        if (m.at < from || !here(m.at)) continue;
        if (m.kind === 'stall' && m.worker === x.worker) parts.push(tip(s('rect', { class: 'stalled', x: X(m.at - m.seconds * 1000), y: yy + 3, width: Math.max(2, X(m.at) - X(m.at - m.seconds * 1000)), height: 16, fill: 'var(--bad)', opacity: 0.55 }), `${clock(m.at)}, step ${group(m.step)}: ${m.text}`));
        if (m.kind === 'stall' && m.peer === x.worker || m.kind === 'straggler' && m.worker === x.worker) parts.push(tip(s('text', { class: 'blamed', x: X(m.at), y: yy + 16, 'text-anchor': 'middle', style: { fill: SIGN[m.kind][1], 'font-weight': 'bold' } }, SIGN[m.kind][0]), `${clock(m.at)}, step ${group(m.step)}: ${m.text}`));
      }
      if (x.again) parts.push(tip(s('path', { d: `M${a + 1} ${yy + 2}v18`, stroke: 'var(--good)', 'stroke-width': 3 }), `${x.worker} is back at ${clock(x.from)}, as process ${x.pid}`));
      if (x.lost) parts.push(tip(s('g', null, s('circle', { class: 'halo', cx: b, cy: yy + 11, r: 8 }), s('path', { class: 'lost', d: `M${b - 4} ${yy + 7}l8 8m0 -8l-8 8` })), `${clock(x.to)}: ${x.why}`));
    }
    const base = top + rows.length * ROW + 13;
    let lastX = {};
    for (const m of st.marks) {
      if (m.at < from || !SIGN[m.kind]) continue;
      const x = X(m.at);
      if (x - (lastX[m.kind] ?? -9) < 5) continue;
      lastX[m.kind] = x;
      parts.push(tip(s('text', { x, y: base, 'text-anchor': 'middle', style: { fill: SIGN[m.kind][1] } }, SIGN[m.kind][0]), `${clock(m.at)}, step ${group(m.step)}: ${m.text}`));
    }
    for (const g of segs) {
      if (g.x > 0) parts.push(s('path', { d: `M${LEFT + g.x - 9} ${top}v${rows.length * ROW}m4 0v${-rows.length * ROW}`, stroke: 'var(--line)' }));
      const n = Math.max(1, Math.floor(g.w / 150));
      for (let i = 0; i <= n; i++) {
        if (i === n && n > 1 && g !== segs.at(-1)) continue;
        const t = g.p + (g.q - g.p) * i / n, x = LEFT + g.x + g.w * i / n;
        parts.push(s('text', { x: Math.min(x, w - RIGHT), y: height - 6, 'text-anchor': i === 0 ? 'start' : i === n ? 'end' : 'middle' }, clock(t)));
        if (g.w < 60) break;
      }
    }
    const lost = st.stays.filter((x) => x.lost).length, back = st.stays.filter((x) => x.again).length;
    put(this.box, s('svg', { viewBox: `0 0 ${w} ${height}`, height, role: 'img', 'aria-label': `Time line of ${ids.length} workers, ${lost} losses, ${back} returns, ${st.generations.length} generations. The table below has all of it.` }, parts));
    put(this.legend, h('span', null, day(from)), keyOf('var(--c0)', 'in the ring', true), keyOf('var(--other)', 'loading', true), st.waits?.length ? keyOf('var(--ring)', 'share of its time that it waited for the ring', true) : null, st.marks.some((m) => m.seconds) ? keyOf('var(--bad)', 'stall', true) : null, h('span', { class: 'key bad' }, `✕ lost (${lost})`), h('span', { class: 'key good' }, `┃ back (${back})`),
      Object.entries(SIGN).filter(([k]) => st.marks.some((m) => m.kind === k)).map(([, [sign, c, name]]) => h('span', { class: 'key' }, h('span', { style: { color: c } }, sign), name)),
      h('span', null, 'job:'), [...new Set(st.phases.map((p) => p.name))].map((n) => keyOf(PHASE[n] || 'var(--quiet)', n, true)), rows.length < ids.length && this.view === '0' ? h('span', null, `drawn: the ${rows.length} of ${ids.length} workers with the most changes`) : null);
    const was = (name) => this.more.querySelector(`details.${name}`)?.open;
    const [open, openWaits, openStalls] = ['joins', 'waits', 'stalls'].map(was);
    const waited = new Map();
    for (const v of st.waits ?? []) for (const [id, r] of Object.entries(v.ring)) { const sum = waited.get(id) ?? [0, 0, 0]; waited.set(id, [sum[0] + r[0], sum[1] + r[1], Math.max(sum[2], r[1] > 0 ? r[0] / r[1] : 0)]); }
    const slow = st.marks.filter((m) => m.kind === 'stall' || m.kind === 'straggler');
    put(this.more, h('details', { class: 'joins', open }, h('summary', null, 'Table of joins and losses'),
      table('Members, the newest first', [{ name: 'worker' }, { name: 'host' }, { name: 'process', n: true }, { name: 'joined' }, { name: 'at step', n: true }, { name: 'left' }, { name: 'ranks' }, { name: 'why', wide: true }],
        [...st.stays].reverse().slice(0, 200).map((x) => [x.worker, x.host, String(x.pid), day(x.from).slice(0, 10) === day(to).slice(0, 10) ? clock(x.from) : day(x.from), group(x.step), x.to ? clock(x.to) : 'is there',
          [...new Set(x.places.map((p) => (p.rank < 0 ? '' : p.rank + (p.spare ? ' spare' : ''))).filter((p) => p !== ''))].join(', ') || 'none', (x.again ? 'back. ' : '') + (x.why || '')]))),
    waited.size ? h('details', { class: 'waits', open: openWaits }, h('summary', null, 'Ring waits by worker'),
      table('What each worker has waited for the ring after its backward', [{ name: 'worker' }, { name: 'waited', n: true }, { name: 'of its steps', n: true }, { name: 'share', n: true }, { name: 'at most', n: true }],
        ids.filter((id) => waited.has(id)).slice(0, 200).map((id) => { const [a, b, c] = waited.get(id); return [id, span(a), span(b), `${(b ? a / b * 100 : 0).toFixed(0)} %`, `${(c * 100).toFixed(0)} %`]; }))) : null,
    slow.length ? h('details', { class: 'stalls', open: openStalls }, h('summary', null, `Stalls of the ring and slow workers (${slow.length})`),
      table('Stalls and stragglers, the newest first', [{ name: 'time' }, { name: 'step', n: true }, { name: 'what', wide: true }], [...slow].reverse().slice(0, 200).map((m) => [clock(m.at), group(m.step), m.text]))) : null);
  }
}
