// SPDX-License-Identifier: Apache-2.0
// The conversation on the screen. Text of the model is a text node, whatever is in it.
import {byId, el, icon, iconButton} from './el.js';
import {pictureImage} from './parts.js';
import {spoken} from './request.js';
import {words} from './words.js';

/** "12 tokens · 31.2 tokens/s · first token after 0.40 s". */
export function statisticsLine(stats) {
  const items = [];
  if (stats.tokens > 0) items.push(words.tokens(stats.tokens));
  if (stats.rate > 0) items.push(words.rate(stats.rate));
  if (stats.first > 0) items.push(words.first(stats.first.toFixed(2)));
  if (stats.limit > 0) items.push(words.limit(stats.limit));
  return items.join(' · ');
}

/** Parts as people see them: texts, and rows of pictures that open large. */
function shownParts(parts, onView) {
  const children = [];
  let row = null;
  let number = 0;
  for (const part of spoken(parts)) {
    if (part.type === 'text') {
      row = null;
      children.push(el('p', {class: 'said'}, part.text.trim()));
      continue;
    }
    number += 1;
    const name = words.picture(number, part.name);
    const shown = el('div', {class: 'shown'}, pictureImage(name, part), el('button', {
                       type: 'button',
                       class: 'view',
                       'aria-label': words.view(number, part.name),
                       onClick: () => onView(part, name)
                     }));
    if (row === null) {
      row = el('div', {class: 'shown-row'});
      children.push(row);
    }
    row.append(shown);
  }
  return children;
}

export class ConversationView {
  #turns = [];
  #text = null;  // the text node that grows
  #following = true;
  #lastTop = 0;

  /** `options`: onEdit(n), onCopy(n), onRegenerate(), onTryAgain(), onView(part, name). */
  constructor(options) {
    this.options = options;
    this.log = byId('log');
    this.root = byId('turns');
    this.jump = byId('jump');
    this.log.addEventListener('scroll', () => this.#onScroll(), {passive: true});
    this.jump.addEventListener('click', () => this.follow());
    new ResizeObserver(() => this.#stay()).observe(this.log);
  }

  render(turns) {
    this.#turns = turns;
    this.root.replaceChildren(...turns.flatMap((turn, index) => this.#articles(turn, index + 1)));
    byId('start').hidden = turns.length > 0;
    this.follow();
  }

  /** Redraws the last turn's answer. */
  renderLast() {
    const n = this.#turns.length;
    const old = this.root.lastElementChild;
    old.replaceWith(this.#answer(this.#turns[n - 1], n));
    this.#stay();
  }

  /** The answer's text so far, while it is written. */
  grow(text) {
    if (this.#text === null) this.renderLast();
    this.#text.data = text;
    this.#stay();
  }

  #articles(turn, n) {
    const question =
        el('article', {class: 'turn question', 'aria-label': words.question(n)},
           el('div', {class: 'bubble'}, ...shownParts(turn.parts, this.options.onView)),
           el('div', {class: 'turn-tools'},
              iconButton(words.edit(n), 'edit', () => this.options.onEdit(n), {class: 'mini'})));
    return [question, this.#answer(turn, n)];
  }

  #answer(turn, n) {
    const {answer} = turn;
    const busy = answer.state === 'writing';
    this.#text = null;
    const body = el('div', {class: 'answer-body'});
    if (busy && answer.text === '') {
      body.append(
          el('p', {class: 'thinking'}, el('i'), el('i'), el('i'),
             el('span', {class: 'unseen'}, words.thinking)));
    } else if (answer.text !== '' || busy) {
      this.#text = document.createTextNode(answer.text.replace(/^\s+/, ''));
      body.append(el('p', {class: 'said'}, this.#text));
    } else if (answer.state === 'done') {
      body.append(el('p', {class: 'said nothing'}, words.emptyAnswer));
    }
    if (answer.state === 'stopped') body.append(el('p', {class: 'stopped'}, words.stopped));
    if (answer.state === 'failed') {
      body.append(
          el('div', {class: 'failure', role: 'alert'}, answer.error),
          el('button', {type: 'button', class: 'small', onClick: () => this.options.onTryAgain()},
             icon('again'), words.tryAgain));
    }
    if (!busy) body.append(this.#foot(answer, n));
    return el(
        'article',
        {class: 'turn answer', 'aria-label': words.answer(n), 'aria-busy': busy ? 'true' : null},
        el('img', {class: 'face', src: 'icon.svg', alt: '', width: 28, height: 28}), body);
  }

  #foot(answer, n) {
    const last = n === this.#turns.length;
    const line = answer.stats ? statisticsLine(answer.stats) : '';
    return el(
        'div', {class: 'answer-foot'},
        answer.text !== '' ?
            iconButton(words.copy(n), 'copy', () => this.options.onCopy(n), {class: 'mini'}) :
            null,
        last && answer.state !== 'failed' ?
            iconButton(
                words.regenerate(n), 'again', () => this.options.onRegenerate(), {class: 'mini'}) :
            null,
        line ? el('span', {class: 'stats'}, line) : null);
  }

  /** Goes to the end and stays there while the answer grows. */
  follow() {
    this.#following = true;
    this.#stay();
  }

  #stay() {
    this.#showJump();
    if (!this.#following || this.#turns.length === 0) return;
    this.log.scrollTop = this.log.scrollHeight;
    this.#lastTop = this.log.scrollTop;
  }

  // The page itself only scrolls down: whatever goes up was the reader.
  #onScroll() {
    const top = this.log.scrollTop;
    const rest = this.log.scrollHeight - this.log.clientHeight - top;
    const nearEnd = 8;
    if (rest <= nearEnd)
      this.#following = true;
    else if (top < this.#lastTop - 1)
      this.#following = false;
    this.#lastTop = top;
    this.#showJump();
  }

  #showJump() {
    const far = this.log.scrollHeight - this.log.clientHeight - this.log.scrollTop > 8;
    this.jump.hidden = this.#following || !far || this.#turns.length === 0;
  }
}
