// The page: which view is shown, and how often it looks for news.

import { h, put } from './dom.js';
import { listView } from './list.js';
import { runView } from './run.js';
import { compareView } from './compare.js';

const main = document.getElementById('main'), where = document.getElementById('where'), standing = document.getElementById('standing');
let view = null, stop = null, timer = 0, fails = 0;

async function look() {
  clearTimeout(timer);
  stop?.abort();
  const mine = stop = new AbortController();
  let wait = 10_000;
  try {
    const v = view;
    wait = (await v.update(mine.signal)) ?? wait;
    if (v !== view) return;
    fails = 0;
    standing.classList.remove('bad');
    standing.textContent = v.standing || '';
  } catch (e) {
    if (mine.signal.aborted) return;
    fails++;
    standing.classList.add('bad');
    standing.textContent = e.status ? e.message : 'no answer: the coordinator has ended, or the connection is cut (coordinator ui RUN-DIR shows the run on)';
    wait = Math.min(20_000, 1500 * 2 ** Math.min(fails, 4));
    if (e.status === 404 && view) view.gone?.(e.message);
  }
  if (!document.hidden) timer = setTimeout(look, wait);
}

async function route() {
  const [, kind, rest] = location.hash.match(/^#\/(run|compare)\/(.*)$/) || [];
  const ids = rest ? rest.split('|').map(decodeURIComponent) : [];
  view?.close?.();
  view = kind === 'run' && ids[0] ? runView(ids[0]) : kind === 'compare' && ids.length ? compareView(ids) : listView((id) => { history.replaceState(null, '', `#/run/${encodeURIComponent(id)}`); route(); });
  document.title = `${view.title || 'runs'} · vlaring`;
  put(where, view.title ? [h('span', { class: 'quiet', 'aria-hidden': 'true' }, '/'), h('b', null, view.title)] : null);
  put(main, view.el);
  scrollTo(0, 0);
  await look();
}


document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });
addEventListener('hashchange', () => { route(); main.focus({ preventScroll: true }); });
route();
