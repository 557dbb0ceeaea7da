// SPDX-License-Identifier: Apache-2.0
// The composer: the message's parts, the answered examples before it, and its buttons.
import {byId, el, iconButton} from './el.js';
import {PartList} from './parts.js';
import {filesOf, pictureByAddress, readPictures} from './pictures.js';
import {words} from './words.js';

const coarse = window.matchMedia('(pointer: coarse)');

/** Whether a key press belongs to an input method (Japanese, Chinese …). */
const composes = (event) => event.isComposing || event.keyCode === 229;

export class Composer {
  #examples = [];  // {list, answer, root}
  #target = null;  // where chosen files go: a PartList
  #folded = false;
  #reading = Promise.resolve();  // until the pictures that were chosen are there

  /**
   * `options`: onSend(), onStop(), onChange(), onView(part, name), onRefusals(sentences),
   * shrinks(), mode().
   */
  constructor(options) {
    this.options = options;
    this.list = new PartList(byId('parts'), {
      firstId: 'first-text',
      nameOf: (index) => (index === 0 ? words.message : words.part(index + 1)),
      placeholder: (list, index) => this.#placeholder(list, index),
      onChange: options.onChange,
      onView: options.onView,
    });
    this.#listen();
  }

  #placeholder(list, index) {
    if (list.parts.length === 1)
      return this.options.mode() === 'prompt' ? words.placeholderPrompt : words.placeholder;
    return index === 0                  ? words.placeholderBefore :
        index === list.parts.length - 1 ? words.placeholderAfter :
                                          '';
  }

  #listen() {
    const form = byId('composer');
    const file = byId('picture-file');
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.options.onSend();
    });
    byId('parts').addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || composes(event) || coarse.matches) return;
      event.preventDefault();
      this.options.onSend();
    });
    byId('stop').addEventListener('click', () => this.options.onStop());
    byId('add-pictures').addEventListener('click', () => this.choose(this.list));
    file.addEventListener('change', () => {
      const files = [...file.files];
      file.value = '';  // the same file can come again
      this.take(files, this.#target || this.list);
    });
    byId('add-example').addEventListener('click', () => this.#addExample());
    form.addEventListener('paste', (event) => {
      const files = filesOf(event.clipboardData);
      if (files.length === 0) return;
      event.preventDefault();
      this.take(files, this.#listOf(event.target));
    });
    this.#listenToAddress();
  }

  #listenToAddress() {
    const row = byId('address-row');
    const button = byId('add-address');
    const field = byId('address');
    const show = (shown) => {
      row.hidden = !shown;
      button.setAttribute('aria-expanded', String(shown));
      if (shown) field.focus();
    };
    const add = () => {
      const part = pictureByAddress(field.value);
      if (part === null) {
        this.options.onRefusals([words.badAddress]);
        return;
      }
      field.value = '';
      show(false);
      this.list.insert([part]);
    };
    button.addEventListener('click', () => show(row.hidden));
    byId('address-add').addEventListener('click', add);
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !composes(event)) {
        event.preventDefault();
        add();
      } else if (event.key === 'Escape') {
        event.stopPropagation();
        show(false);
        button.focus();
      }
    });
  }

  choose(list) {
    this.#target = list;
    byId('picture-file').click();
  }

  /** The list that an element belongs to: an example's, else the message. */
  #listOf(element) {
    const found = this.#examples.find((example) => example.root.contains(element));
    return found ? found.list : this.list;
  }

  /** Reads files into a list; `where`: the list, or an element that files were dropped on. */
  take(files, where) {
    this.#reading = this.#reading.then(() => this.#take(files, where));
    return this.#reading;
  }

  /** Resolves once all pictures that were chosen are part of the message. */
  get settled() {
    return this.#reading;
  }

  async #take(files, where) {
    const list = where instanceof PartList ? where : this.#listOf(where);
    const note = byId('bar-note');
    note.textContent = words.reading;
    const {pictures, refusals} = await readPictures(files, this.options.shrinks());
    note.textContent = '';
    list.insert(pictures);
    this.options.onRefusals(refusals);
    if (pictures.length > 0) this.options.onPictures();
  }

  get parts() {
    return this.list.parts;
  }

  get examples() {
    return this.#examples.map(({list, answer}) => ({parts: list.parts, answer: answer.value}));
  }

  get isEmpty() {
    return this.list.isEmpty;
  }

  /** The number of the first example that was begun and has no answer; 0: there is none. */
  get unfinishedExample() {
    return 1 +
        this.#examples.findIndex(({list, answer}) => !list.isEmpty && answer.value.trim() === '');
  }

  setParts(parts) {
    this.list.set(parts);
    this.options.onChange();
  }

  setExamples(examples) {
    this.#examples = [];
    byId('examples').replaceChildren();
    for (const example of examples) this.#appendExample(example);
    this.fold(false);
  }

  clear() {
    this.list.set([]);
    this.options.onChange();
  }

  focus() {
    this.list.focus();
  }

  #addExample() {
    this.#appendExample({parts: [], answer: ''});
    this.fold(false);
    this.#examples[this.#examples.length - 1].list.focus();
    this.options.onChange();
  }

  #appendExample(example) {
    const number = () => 1 + this.#examples.findIndex((other) => other.root === root);
    const parts = el('div', {class: 'parts'});
    const answer = el('textarea', {
      rows: 1,
      class: 'example-answer',
      placeholder: words.exampleHint,
      autocomplete: 'off',
      onInput: this.options.onChange
    });
    answer.value = example.answer;
    const root = el('div', {class: 'example', role: 'group'});
    const list = new PartList(parts, {
      nameOf: (index) =>
          (index === 0 ? words.exampleQuestion(number() || this.#examples.length + 1) :
                         words.exampleQuestionPart(number(), index + 1)),
      placeholder: (those, index) =>
          (those.parts.length === 1 ? words.placeholder :
               index === 0          ? words.placeholderBefore :
                                      words.placeholderAfter),
      onChange: this.options.onChange,
      onView: this.options.onView,
    });
    root.append(
        el('div', {class: 'example-head'}, el('span', {class: 'example-title'}),
           iconButton('', 'picture', () => this.choose(list), {class: 'mini', 'data-role': 'add'}),
           iconButton(
               '', 'close', () => this.#removeExample(root),
               {class: 'mini', 'data-role': 'remove'})),
        parts, el('div', {class: 'example-reply'}, answer));
    this.#examples.push({list, answer, root});
    byId('examples').append(root);
    list.set(example.parts);
    this.#nameExamples();
  }

  #removeExample(root) {
    this.#examples = this.#examples.filter((example) => example.root !== root);
    root.remove();
    this.#nameExamples();
    this.options.onChange();
    this.focus();
  }

  #nameExamples() {
    this.#examples.forEach(({list, answer, root}, index) => {
      const n = index + 1;
      root.setAttribute('aria-label', words.example(n));
      root.querySelector('.example-title').textContent = words.example(n);
      for (const [role, name] of [
               ['add', words.exampleAdd(n)], ['remove', words.exampleRemove(n)]]) {
        const button = root.querySelector(`[data-role="${role}"]`);
        button.setAttribute('aria-label', name);
        button.title = name;
      }
      answer.setAttribute('aria-label', words.exampleAnswer(n));
      list.render();
    });
    this.#showFold();
  }

  /** Folds the examples to one line: they stay part of every question. */
  fold(folded) {
    this.#folded = folded && this.#examples.length > 0;
    this.#showFold();
  }

  #showFold() {
    const root = byId('examples');
    const count = this.#examples.length;
    root.querySelector('.fold')?.remove();
    root.classList.toggle('folded', this.#folded);
    if (count === 0) return;
    const toggle =
        el('button', {
          type: 'button',
          class: 'link',
          'aria-expanded': String(!this.#folded),
          onClick: () => this.fold(!this.#folded)
        },
           this.#folded ? words.examplesShow(count) : words.examplesHide(count));
    root.prepend(el('div', {class: 'fold'}, el('span', {}, words.examplesNote(count)), toggle));
  }

  setBusy(busy) {
    byId('send').hidden = busy;
    byId('stop').hidden = !busy;
  }

  /** `reason`: why nothing can be sent now; '' enables sending. */
  setReason(reason) {
    const send = byId('send');
    const note = byId('send-reason');
    send.disabled = reason !== '';
    note.textContent = reason;
    note.hidden = reason === '';
    if (reason)
      send.setAttribute('aria-describedby', 'send-reason');
    else
      send.removeAttribute('aria-describedby');
  }

  setEditing(sentence) {
    byId('editing').hidden = sentence === '';
    byId('editing').querySelector('span').textContent = sentence;
  }
}
