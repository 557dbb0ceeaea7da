// SPDX-License-Identifier: Apache-2.0
// How the server is: asked at the start, often until it is ready, seldom afterwards, at once after
// a failure, and never while nobody looks.
import {byId} from './el.js';
import {health} from './talk.js';
import {words} from './words.js';

const SOON_MS = 500;
const LATER_MS = 5000;

/** {state, text, reason} of a health body; `reason`: why nothing can be sent. */
export function readHealth(body, model) {
  const status = String(body && body.status);
  const setup = (body && body.setup) || {};
  if (status === 'READY') return {state: 'ready', text: words.ready(model), reason: ''};
  if (status === 'STARTING')
    return {state: 'wait', text: words.starting, reason: words.whyNotStarting};
  if (status === 'BUSY') {
    const {current = 0, max = 0} = body.concurrency || {};
    return {
      state: 'busy',
      text: words.busy(current, max, (body.queue && body.queue.current) || 0),
      reason: ''
    };
  }
  const why = String(body.user_healthcheck_error || setup.logs || status).trim();
  return {state: 'failed', text: words.failed(why), reason: words.whyNotFailed};
}

export class ServerStatus {
  #timer = 0;
  #asking = false;
  #model = '';
  #last = null;

  /** `onChange(state, reason)`: after each answer. */
  constructor(onChange) {
    this.onChange = onChange;
    document.addEventListener('visibilitychange', () => {
      if (document.hidden)
        clearTimeout(this.#timer);
      else
        this.ask();
    });
    this.ask();
  }

  setModel(model) {
    this.#model = model;
    this.ask();
  }

  async ask() {
    if (this.#asking) return;
    clearTimeout(this.#timer);
    this.#asking = true;
    let seen;
    try {
      seen = readHealth(await health(), this.#model);
    } catch {
      seen = {state: 'gone', text: words.disconnected, reason: ''};
    }
    this.#asking = false;
    this.#show(seen);
    this.onChange(seen.state, seen.reason);
    const good = seen.state === 'ready';
    if (!document.hidden) this.#timer = setTimeout(() => this.ask(), good ? LATER_MS : SOON_MS);
  }

  // Said again only where it changed: a status that repeats itself is noise.
  #show(seen) {
    if (this.#last !== null && this.#last.text === seen.text) return;
    this.#last = seen;
    const element = byId('server-status');
    element.dataset.state = seen.state;
    element.querySelector('span').textContent = seen.text;
    element.title = seen.text;
  }
}
