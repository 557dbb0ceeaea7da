// SPDX-License-Identifier: Apache-2.0
// The two dialogs: a request as code, and a picture large. And copying, where browsers allow it and
// where they do not.
import {codeOf} from './code.js';
import {byId, el, iconButton} from './el.js';
import {pictureImage} from './parts.js';
import {words} from './words.js';

/**
 * Outside secure contexts (http in a local network) there is no clipboard: a selection is copied.
 */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return;
  } catch {
    // Below.
  }
  const open = document.querySelector('dialog[open]') || document.body;
  const field = el('textarea', {class: 'unseen', 'aria-hidden': 'true', tabindex: -1});
  field.value = text;
  const focused = document.activeElement;
  open.append(field);
  field.select();
  document.execCommand('copy');
  field.remove();
  focused?.focus();
}

const closer = (dialog) => iconButton(words.close, 'close', () => dialog.close(), {class: 'quiet'});

/** A click beside the dialog closes it. */
function closesOutside(dialog) {
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
}

export function openPicture(part, name) {
  const dialog = byId('picture-dialog');
  dialog.setAttribute('aria-label', name);
  const address = part.url.startsWith('data:') ? null : el('p', {class: 'hint address'}, part.url);
  dialog.replaceChildren(
      el('div', {class: 'dialog-body'},
         el('div', {class: 'panel-head'}, el('h2', {}, name), closer(dialog)),
         el('div', {class: 'large'}, pictureImage(name, part)), address));
  dialog.showModal();
}

export class CodeDialog {
  #language = 'curl';
  #shown = null;

  /** `announce(sentence)` */
  constructor(announce) {
    this.dialog = byId('code-dialog');
    this.announce = announce;
    closesOutside(this.dialog);
    closesOutside(byId('picture-dialog'));
  }

  /** `request`: of request.js, or null where nothing was written; `hint`: what it is; `key`. */
  open(request, hint, key) {
    this.#shown = {request, hint, key};
    this.#render();
    this.dialog.showModal();
    this.dialog.querySelector('[aria-selected="true"]')?.focus();
  }

  #render() {
    const {request, hint} = this.#shown;
    this.dialog.replaceChildren(
        el('div', {class: 'dialog-body'},
           el('div', {class: 'panel-head'}, el('h2', {}, 'Code'), closer(this.dialog)),
           el('p', {class: 'hint'}, request === null ? words.codeNothing : hint),
           ...(request === null ? [] : [this.#tabs(), this.#panel()])));
  }

  #tabs() {
    const languages = Object.keys(codeOf);
    const choose = (language) => {
      this.#language = language;
      this.#render();
      this.dialog.querySelector('[aria-selected="true"]').focus();
    };
    return el(
        'div', {role: 'tablist', class: 'tabs', 'aria-label': 'Language'},
        ...languages.map(
            (language, i) =>
                el('button', {
                  type: 'button',
                  role: 'tab',
                  id: `tab-${language}`,
                  'aria-selected': String(language === this.#language),
                  'aria-controls': 'code-panel',
                  tabindex: language === this.#language ? 0 : -1,
                  onClick: () => choose(language),
                  onKeydown: (event) => {
                    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
                    if (step) choose(languages[(i + step + languages.length) % languages.length]);
                  },
                },
                   language)));
  }

  #panel() {
    const {request, key} = this.#shown;
    const url = new URL(request.path, window.location.href).href;
    const code = codeOf[this.#language](url, request, key);
    return el(
        'div', {
          role: 'tabpanel',
          id: 'code-panel',
          class: 'code-panel',
          'aria-labelledby': `tab-${this.#language}`
        },
        el('pre', {role: 'region', 'aria-label': 'Code', tabindex: 0}, el('code', {}, code)),
        iconButton(words.copyCode, 'copy', async () => {
          await copyText(code);
          this.announce(words.copied);
        }, {class: 'small'}, words.copyCode));
  }
}
