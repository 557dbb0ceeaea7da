// SPDX-License-Identifier: Apache-2.0
// The columns beside the conversation, which cover it on a phone.
import {byId} from './el.js';

const phone = matchMedia('(max-width: 799.98px)');
const BUTTONS = ['list-button', 'settings-button'];

const panelOf = (id) => byId(byId(id).getAttribute('aria-controls'));

function show(id, shown) {
  panelOf(id).hidden = !shown;
  byId(id).setAttribute('aria-expanded', String(shown));
}

/** `options`: onOpenList(), onChange(). */
export function listenToPanels(options) {
  const isOpen = (id) => !panelOf(id).hidden;
  const set = (id, shown) => {
    // On a phone there is room for one.
    if (shown && phone.matches)
      BUTTONS.filter((other) => other !== id).forEach((other) => show(other, false));
    show(id, shown);
    if (shown && id === 'list-button') options.onOpenList();
  };
  for (const id of BUTTONS) {
    byId(id).addEventListener('click', () => {
      set(id, !isOpen(id));
      options.onChange();
    });
    panelOf(id).addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !phone.matches) return;
      event.stopPropagation();
      set(id, false);
      byId(id).focus();
    });
  }
  for (const button of document.querySelectorAll('[data-close]')) {
    button.addEventListener('click', () => {
      set(button.dataset.close, false);
      byId(button.dataset.close).focus();
      options.onChange();
    });
  }
  set('settings-button', !phone.matches);
  return {
    open: (id) => set(id, true),
    closeOnPhone: (id) => {
      if (phone.matches) set(id, false);
    },
    get kept() {
      return {list: isOpen('list-button'), settings: isOpen('settings-button')};
    },
    restore: (kept) => {
      if (!kept || phone.matches) return;
      set('list-button', kept.list === true);
      set('settings-button', kept.settings === true);
    },
  };
}
