// What was measured on the held-out split: by dimension, by data set.

import { h, put, num, group, table } from './dom.js';

const pct = (a, b) => (b ? `${(a / b * 100).toFixed(0)} %` : '–');

function actions(title, a) {
  const rows = a.dof.map((d) => [d.name, num(d.mae), num(d.mean_mae), pct(d.mae, d.mean_mae), d.unit]);
  rows.push(['all, normalised (L1)', num(a.l1), num(a.mean_l1), pct(a.l1, a.mean_l1), ''], ['all, normalised (MSE)', num(a.mse), num(a.mean_mse), pct(a.mse, a.mean_mse), '']);
  return [table(title, [{ name: 'dimension' }, { name: 'error', n: true }, { name: 'always the mean', n: true }, { name: 'of it', n: true }, { name: 'unit' }], rows),
    a.left_out?.length ? h('p', { class: 'quiet small' }, `The totals leave out ${a.left_out.map((x) => `${x.name} (${x.why})`).join(', ')}.`) : null];
}

function one(title, rep) {
  if (rep.actions) return actions(title, rep.actions);
  const flat = Object.entries({ ...rep.tokens, ...rep.metrics }).filter(([, v]) => typeof v === 'number');
  return flat.length ? table(title, [{ name: 'measure' }, { name: 'value', n: true }], flat.map(([k, v]) => [k.replace(/_/g, ' '), num(v)])) : null;
}

/** heldTables fills box with the tables of the newest measurement, or of the one that is chosen. */
export function heldTables(box, o, held) {
  const steps = o.tables.map((t) => t.step);
  const parts = [], opened = box.querySelector('details')?.open;
  if (steps.length) {
    const body = h('div', { class: 'two' });
    const show = (step) => {
      const t = o.tables.find((x) => x.step === step);
      const cards = [];
      for (const [name, rep] of [['', t.report], ['averaged weights', t.ema]]) {
        if (!rep) continue;
        const label = `Step ${group(step)}, ${rep.actions?.samples ?? ''} samples${name ? `, ${name}` : ''}`.replace(',  samples', '');
        if (rep.sets) {
          cards.push(h('div', { class: 'card' }, table(`${label}, by data set`, [{ name: 'data set' }, { name: 'samples', n: true }, { name: 'loss', n: true }, ...Object.keys(rep.sets[0]?.metrics || {}).map((k) => ({ name: k, n: true }))],
            rep.sets.map((x) => [x.name, group(x.samples), num(x.loss), ...Object.values(x.metrics || {}).map((v) => num(v))]))));
          for (const x of rep.sets.slice(0, 8)) { const t2 = one(`${x.name}${name ? `, ${name}` : ''}`, x); if (t2) cards.push(h('div', { class: 'card' }, t2)); }
        } else { const t2 = one(label, rep); if (t2) cards.push(h('div', { class: 'card' }, t2)); }
      }
      put(body, cards);
    };
    const chosen = box.chosen && steps.includes(box.chosen) ? box.chosen : steps.at(-1);
    if (steps.length > 1) parts.push(h('p', null, h('label', { class: 'small quiet' }, 'checkpoint of step ', h('select', { onchange: (e) => { box.chosen = Number(e.target.value); show(box.chosen); } }, [...steps].reverse().map((t) => h('option', { value: t, selected: t === chosen }, group(t)))))));
    parts.push(body);
    show(chosen);
  }
  const names = Object.keys(held.keys).filter((k) => !['elapsed', 'samples', 'seconds'].includes(k));
  if (names.length) {
    const rows = held.last.map((step, i) => [group(step), ...names.slice(0, 12).map((k) => num(held.keys[k].mean[i]))]).reverse().slice(0, 60);
    const all = h('div', { class: 'card' }, table('Every measurement (eval.jsonl), the newest first', [{ name: 'step' }, ...names.slice(0, 12).map((k) => ({ name: k.replace(/^sets\./, ''), n: true }))], rows));
    parts.push(steps.length ? h('details', { open: opened }, h('summary', null, 'All measurements'), all) : all);
    if (!steps.length) parts.push(h('p', { class: 'quiet small' }, 'Errors by dimension are in events.jsonl of runs of newer releases; coordinator eval --checkpoint measures them for any.'));
  }
  put(box, parts.length ? parts : h('div', { class: 'card' }, h('p', { class: 'empty' }, 'Nothing was measured on a held-out split yet: train.eval_every measures checkpoints beside training.')));
}
