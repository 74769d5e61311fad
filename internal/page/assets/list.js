// All runs of a folder, a line each.

import { h, put, ask, num, group, pill, ago, changed } from './dom.js';

export function listView(open) {
  const picked = new Set();
  const note = h('div'), body = h('tbody'), filter = h('input', { type: 'search', 'aria-label': 'filter runs by name', placeholder: 'filter', oninput: () => draw() });
  const compare = h('button', { class: 'main', disabled: true, onclick: () => { location.hash = `#/compare/${[...picked].map(encodeURIComponent).join('|')}`; } }, 'Compare');
  const count = h('span', { class: 'quiet' });
  const el = h('div', null, h('h1', null, 'Runs'), h('p', { class: 'sub' }), note,
    h('section', { 'aria-label': 'runs' }, h('div', { class: 'head' }, count, h('div', { class: 'tools' }, filter, compare)),
      h('div', { class: 'card scroll', tabindex: '0', role: 'region', 'aria-label': 'table of runs' },
        h('table', null, h('caption', { class: 'hidden' }, 'Runs, the newest first'), h('thead', null, h('tr', null,
          ['', 'run', 'state', 'step', 'loss', 'held-out', 'model', 'data', 'samples/s', 'last change'].map((n, i) => h('th', { scope: 'col', class: [3, 4, 5, 8].includes(i) ? 'n' : null }, i === 0 ? h('span', { class: 'hidden' }, 'compare') : n)))), body))));
  let l = null;

  const pick = (id, on) => {
    on ? picked.add(id) : picked.delete(id);
    compare.disabled = picked.size < 2 || picked.size > 8;
    compare.textContent = picked.size > 8 ? 'Compare at most 8' : picked.size ? `Compare ${picked.size}` : 'Compare';
  };

  function draw() {
    const word = filter.value.trim().toLowerCase();
    const rows = l.runs.filter((g) => `${g.id} ${g.name} ${g.model} ${g.data}`.toLowerCase().includes(word)).sort((a, b) => b.written - a.written);
    count.textContent = `${rows.length === l.runs.length ? group(rows.length) : `${rows.length} of ${group(l.runs.length)}`} ${l.runs.length === 1 ? 'run' : 'runs'}${rows.length > 300 ? '; the newest 300 are listed' : ''}`;
    const held = (g) => ['l1', 'accuracy', 'loss'].filter((k) => k in g.held).slice(0, 1).map((k) => `${num(g.held[k])} ${k}`)[0] || '–';
    put(body, rows.slice(0, 300).map((g) => h('tr', { class: 'pick' },
      h('td', null, h('input', { type: 'checkbox', 'aria-label': `compare ${g.id}`, checked: picked.has(g.id), onchange: (e) => pick(g.id, e.target.checked) })),
      h('th', { scope: 'row' }, h('a', { href: `#/run/${encodeURIComponent(g.id)}` }, g.id)),
      h('td', null, pill(g.state)),
      h('td', { class: 'n' }, g.steps ? `${group(g.step)} / ${group(g.steps)}` : group(g.step)),
      h('td', { class: 'n' }, num(g.last.loss)), h('td', { class: 'n' }, held(g)), h('td', null, g.model || '–'), h('td', null, g.data || '–'),
      h('td', { class: 'n' }, num(g.last.samples_per_s)), h('td', null, g.written ? ago(g.written, l.now) : '–'))));
  }

  return {
    el, title: '', standing: '',
    async update(signal) {
      l = await ask('runs', {}, signal);
      if (l.runs.length === 1 && l.runs[0].id && (l.coming || !location.hash)) { open(l.runs[0].id); return 1000; }
      el.querySelector('.sub').textContent = l.folders.join(', ');
      if (changed(note, [l.notes, l.runs.length, l.coming])) {
        put(note, (l.notes || []).map((t) => h('p', { class: 'hint' }, t)),
          l.runs.length ? null : h('p', { class: 'hint' }, l.coming ? 'The run has not begun yet: the data is being looked at.' : 'No run is here. A run directory holds metrics.jsonl and run.json, as coordinator train writes them to runs/NAME.'));
      }
      if (changed(body, [l.runs, Math.floor(l.now / 10000)])) { const had = document.activeElement?.getAttribute('aria-label'), link = document.activeElement?.getAttribute('href'); draw(); const again = had && body.querySelector(`[aria-label="${CSS.escape(had)}"]`) || link && body.querySelector(`[href="${CSS.escape(link)}"]`); again?.focus(); }
      return l.coming && !l.runs.length ? 1000 : l.runs.some((g) => g.state === 'running') ? 3000 : 10_000;
    },
  };
}
