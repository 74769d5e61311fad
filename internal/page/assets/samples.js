import { h } from './dom.js';
export class Samples {
  constructor() { this.el = h('div'); this.tools = h('div'); }
  set() {}
  close() {}
}
