// SPDX-License-Identifier: Apache-2.0
// The list of conversations that this browser keeps.
import {byId, el, iconButton} from './el.js';
import {words} from './words.js';

const dayOf = (time) =>
    new Date(time).toLocaleDateString(undefined, {month: 'short', day: 'numeric'});

let shown = '';

/** `options`: onOpen(id), onDelete(id); the same at every call. */
export async function showShelf(store, openId, options) {
  const titles = await store.titles();
  byId('conversation-hint').textContent = store.works ? words.keptHere : words.notKept;
  // An answer under way is kept every second: a press and the focus outlive that.
  const now = JSON.stringify(
      [openId, ...titles.map(({id, title, updated}) => [id, title, dayOf(updated)])]);
  if (now === shown) return;
  shown = now;
  byId('conversation-list')
      .replaceChildren(...titles.map(
          ({id, title, updated}) =>
              el('li', {class: id === openId ? 'open' : null},
                 el('button', {
                   type: 'button',
                   class: 'entry',
                   'aria-label': words.openConversation(title),
                   'aria-current': id === openId ? 'true' : null,
                   onClick: () => options.onOpen(id)
                 },
                    el('span', {class: 'entry-title'}, title),
                    el('span', {class: 'entry-day'}, dayOf(updated))),
                 iconButton(
                     words.deleteConversation(title), 'delete', () => options.onDelete(id),
                     {class: 'mini'}))));
}
