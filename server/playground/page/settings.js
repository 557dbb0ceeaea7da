// SPDX-License-Identifier: Apache-2.0
// The settings: what the server's schema says of its inputs becomes fields. There is no table of
// limits or explanations here.
import {byId, el} from './el.js';
import {setApiKey} from './talk.js';
import {words} from './words.js';

const FIRST = ['max_new_tokens', 'temperature', 'top_p', 'repetition_penalty', 'seed'];
const MORE = [
  'top_k', 'min_p', 'typical_p', 'min_new_tokens', 'no_repeat_ngram_size', 'num_beams',
  'length_penalty'
];
const WITH_SLIDER = ['max_new_tokens', 'temperature', 'top_p', 'repetition_penalty'];
const THEMES = {
  system: 'System',
  light: 'Light',
  dark: 'Dark'
};
const SAFE = Number.MAX_SAFE_INTEGER;

const initial = () => ({
  mode: null,
  strategy: 'Greedy',
  values: {},
  shrink: true,
  theme: document.documentElement.dataset.theme || 'system'
});

/** Shows the theme, and remembers it where the next start looks (theme.js). */
function applyTheme(theme) {
  if (theme === 'system')
    delete document.documentElement.dataset.theme;
  else
    document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem('idefics-theme', theme);
  } catch {
    // No storage: the theme lasts until the page is closed.
  }
}

export class Settings {
  #state = initial();
  #properties = {};
  #strategies = ['Greedy', 'Top P Sampling'];
  #wrong = new Map();  // field: why it cannot be sent
  #base = false;

  /** `onChange()`: something is to be kept, or shown elsewhere. */
  constructor(onChange) {
    this.onChange = onChange;
    this.form = byId('settings-form');
    this.form.addEventListener('submit', (event) => event.preventDefault());
    this.render();
  }

  get mode() {
    return this.#state.mode || (this.#base ? 'prompt' : 'chat');
  }
  get shrinks() {
    return this.#state.shrink;
  }
  /** Why nothing can be sent, or ''. */
  get problem() {
    return this.#wrong.values().next().value || '';
  }

  /** What request.js needs. */
  get forRequest() {
    const defaults = {};
    for (const name of [...FIRST, ...MORE]) {
      const value = this.#properties[name] && this.#properties[name].default;
      if (typeof value === 'number') defaults[name] = value;
    }
    return {mode: this.mode, strategy: this.#state.strategy, values: this.#state.values, defaults};
  }

  /** What is kept and exported: no key. */
  get kept() {
    return structuredClone(this.#state);
  }

  restore(kept) {
    this.#state = {...initial(), ...checkedSettings(kept)};
    applyTheme(this.#state.theme);
    this.render();
  }

  setSchema(document) {
    const schemas = (document.components && document.components.schemas) || {};
    this.#properties = (schemas.Input && schemas.Input.properties) || {};
    const strategies = schemas.decoding_strategy && schemas.decoding_strategy.enum;
    if (Array.isArray(strategies)) this.#strategies = strategies.map(String);
    this.render();
  }

  /** `base`: a checkpoint that has learnt no dialogue. */
  setBase(base) {
    if (this.#base === base) return;
    this.#base = base;
    this.render();
  }

  showKey() {
    const field = byId('api-key');
    if (field) field.focus();
  }

  #set(change) {
    Object.assign(this.#state, change);
    this.onChange();
  }

  render() {
    const key = byId('api-key') ? byId('api-key').value : '';
    const open = this.form.querySelector('details')?.open || false;
    this.#wrong.clear();
    const numbers = (names) =>
        names.filter((name) => this.#properties[name]).map((name) => this.#number(name));
    const none = Object.keys(this.#properties).length === 0;
    this.form.replaceChildren(
        this.#radios(
            'mode', words.mode, {chat: words.modeChat, prompt: words.modePrompt}, this.mode,
            (mode) => this.#set({mode}), words.modeHint),
        this.#radios(
            'strategy', words.decoding,
            Object.fromEntries(this.#strategies.map((name) => [name, name])), this.#state.strategy,
            (strategy) => this.#set({strategy})),
        ...(none ? [el('p', {class: 'hint'}, words.noSchema)] : numbers(FIRST)),
        ...(none ? [] : [el('details', {class: 'more', open}, el('summary', {}, words.more),
                            ...numbers(MORE))]),
        this.#checkbox(), this.#keyField(key),
        this.#radios(
            'theme', words.theme, THEMES, this.#state.theme,
            (theme) => {
              applyTheme(theme);
              this.#set({theme});
            }),
        el('button', {type: 'button', class: 'small', onClick: () => this.#reset()}, words.reset));
  }

  #reset() {
    this.#state = initial();
    this.render();
    this.onChange();
  }

  #radios(name, title, choices, chosen, onChoose, hint = '') {
    const options = Object.entries(choices).map(
        ([value, label]) =>
            el('label', {}, el('input', {
                 type: 'radio',
                 name,
                 value,
                 checked: value === chosen,
                 onChange: () => onChoose(value)
               }),
               el('span', {}, label)));
    return el(
        'fieldset', {class: 'field'}, el('legend', {}, title),
        el('div', {class: 'segments'}, ...options), hint ? el('p', {class: 'hint'}, hint) : null);
  }

  #number(name) {
    const property = this.#properties[name];
    const whole = property.type === 'integer';
    const low = property.minimum ?? -SAFE;
    const high = Math.min(property.maximum ?? SAFE, SAFE);
    const value = this.#state.values[name] ?? property.default ?? '';
    const step = whole ? 1 : 0.05;
    const title = String(property.title || name);
    const input = el('input', {
      type: 'number',
      id: `set-${name}`,
      min: low,
      max: high,
      step: whole ? 1 : 'any',
      value,
      'aria-describedby': `about-${name}`,
      inputmode: whole ? 'numeric' : 'decimal'
    });
    const slider = WITH_SLIDER.includes(name) ? el('input', {
      type: 'range',
      min: low,
      max: high,
      step,
      value,
      'aria-hidden': 'true',
      tabindex: -1,
      class: 'slider'
    }) :
                                                null;
    const show = () =>
        slider?.style.setProperty('--at', `${(100 * (slider.value - low)) / (high - low)}%`);
    const take = (text) => {
      const why = this.#wrongNumber(text, {title, low, high, whole});
      input.toggleAttribute('aria-invalid', false);
      if (why) input.setAttribute('aria-invalid', 'true');
      this.#wrong.delete(name);
      if (why) this.#wrong.set(name, why);
      const values = {...this.#state.values};
      delete values[name];
      if (!why && text !== '' && Number(text) !== property.default) values[name] = Number(text);
      problem.textContent = why;
      this.#set({values});
    };
    const problem = el('p', {class: 'problem', role: 'alert'});
    input.addEventListener('input', () => {
      if (slider) slider.value = input.value;
      show();
      take(input.validity.badInput ? 'x' : input.value);
    });
    slider?.addEventListener('input', () => {
      input.value = slider.value;
      show();
      take(slider.value);
    });
    show();
    const about = name === 'seed' ? `${property.description || ''} ${words.seedHint}` :
                                    property.description || '';
    return el(
        'div', {class: 'field'},
        el('div', {class: 'line'},
           el('label',
              { for: input.id
              },
              title),
           input),
        slider, problem, el('p', {class: 'hint', id: `about-${name}`}, String(about)));
  }

  #wrongNumber(text, {title, low, high, whole}) {
    if (text === '') return '';
    const value = Number(text);
    if (!Number.isFinite(value) || value < low || value > high)
      return words.outOfRange(title, low, high);
    return whole && !Number.isInteger(value) ? words.notWhole(title) : '';
  }

  #checkbox() {
    return el(
        'div', {class: 'field'},
        el('label', {class: 'check'}, el('input', {
             type: 'checkbox',
             checked: this.#state.shrink,
             'aria-describedby': 'about-shrink',
             onChange: (event) => this.#set({shrink: event.target.checked})
           }),
           el('span', {}, words.shrink)),
        el('p', {class: 'hint', id: 'about-shrink'}, words.shrinkHint));
  }

  #keyField(value) {
    const field = el('input', {
      type: 'password',
      id: 'api-key',
      autocomplete: 'off',
      'aria-describedby': 'about-key',
      value,
      onInput: () => {
        const usable = /^[\x21-\x7e]*$/.test(field.value);
        this.#wrong.delete('key');
        if (!usable) this.#wrong.set('key', words.fixKey);
        field.setAttribute('aria-invalid', String(!usable));
        setApiKey(usable ? field.value : '');
        this.onChange('key');
      }
    });
    return el('div', {class: 'field'}, el('label', { for: 'api-key'
              }, words.key), field, el('p', {class: 'hint', id: 'about-key'}, words.keyHint));
  }
}

/** Only what settings can be, field by field; from storage and from imported files. */
export function checkedSettings(kept) {
  const out = {};
  if (kept === null || typeof kept !== 'object') return out;
  if (kept.mode === 'chat' || kept.mode === 'prompt') out.mode = kept.mode;
  if (typeof kept.strategy === 'string' && ['Greedy', 'Top P Sampling'].includes(kept.strategy))
    out.strategy = kept.strategy;
  if (typeof kept.shrink === 'boolean') out.shrink = kept.shrink;
  if (Object.hasOwn(THEMES, kept.theme)) out.theme = kept.theme;
  out.values = {};
  for (const name of [...FIRST, ...MORE]) {
    const value = kept.values && kept.values[name];
    if (typeof value === 'number' && Number.isFinite(value)) out.values[name] = value;
  }
  return out;
}
