// SPDX-License-Identifier: Apache-2.0
// A list of texts and pictures that is edited in place: the message, and each example's question.
import {el, icon, iconButton} from './el.js';
import {canShow} from './pictures.js';
import {words} from './words.js';

const text = (value = '') => ({type: 'text', text: value});
const isText = (part) => part.type === 'text';

function joined(before, behind) {
  const gap = before !== '' && behind !== '' && !/\s$/.test(before) && !/^\s/.test(behind);
  return before + (gap ? ' ' : '') + behind;
}

/** Texts at both ends, no two side by side, and none that is empty between pictures. */
export function normalized(parts) {
  const out = [text()];
  for (const part of parts) {
    const last = out[out.length - 1];
    if (isText(part) && isText(last))
      out[out.length - 1] = text(joined(last.text, part.text));
    else if (!isText(part) && isText(last) && last.text === '' && out.length > 1)
      out[out.length - 1] = part;
    else
      out.push(part);
  }
  if (!isText(out[out.length - 1])) out.push(text());
  return out;
}

/** A picture that is only named: of an address, or of a kind that browsers cannot show. */
export const placeholder = (name, part) =>
    el('span', {class: 'unshown', role: 'img', 'aria-label': name},
       icon(part.url.startsWith('data:') ? 'picture' : 'address'));

export const pictureImage = (name, part) =>
    (canShow(part) ? el('img', {src: part.url, alt: name, decoding: 'async'}) :
                     placeholder(name, part));

/** `field` is as high as its text. */
function fit(field) {
  if (CSS.supports('field-sizing', 'content')) return;
  field.style.height = 'auto';
  field.style.height = `${field.scrollHeight}px`;
}

export class PartList {
  /**
   * `options`: nameOf(index) of a text part, placeholder(list, index), onChange(), onView(part,
   * name).
   */
  constructor(root, options) {
    this.root = root;
    this.options = options;
    this.parts = [text()];
    this.caret = null;  // the text part that has or had the focus
    this.render();
  }

  set(parts) {
    this.parts = normalized(parts.map((part) => ({...part})));
    this.caret = null;
    this.render();
  }

  get isEmpty() {
    return this.parts.every((part) => isText(part) && part.text.trim() === '');
  }

  get pictures() {
    return this.parts.filter((part) => !isText(part));
  }

  fields() {
    return [...this.root.querySelectorAll('textarea')];
  }

  focus() {
    const fields = this.fields();
    (fields.find((field) => Number(field.dataset.index) === this.caret) ||
     fields[fields.length - 1])
        .focus();
  }

  /** At the caret; at the end where there is none. The focus goes behind them. */
  insert(pictures) {
    if (pictures.length === 0) return;
    const at = this.caret === null ? this.parts.length - 1 : this.caret;
    const field = this.fields().find((candidate) => Number(candidate.dataset.index) === at);
    const cut = this.caret === null ? field.value.length : field.selectionStart;
    const behind = text(field.value.slice(
        field.selectionEnd > cut && this.caret !== null ? field.selectionEnd : cut));
    this.parts = normalized([
      ...this.parts.slice(0, at), text(field.value.slice(0, cut)), ...pictures, behind,
      ...this.parts.slice(at + 1)
    ]);
    const behindAll = this.parts.indexOf(pictures[pictures.length - 1]) + 1;
    const target = isText(this.parts[behindAll]) ? behindAll : this.parts.length - 1;
    this.changed();
    const next = this.fields().find((candidate) => Number(candidate.dataset.index) === target);
    next.focus();
    next.setSelectionRange(0, 0);
  }

  changed() {
    this.render();
    this.options.onChange();
  }

  move(part, step) {
    const from = this.parts.indexOf(part);
    const parts = [...this.parts];
    [parts[from], parts[from + step]] = [parts[from + step], parts[from]];
    this.parts = normalized(parts);
    this.caret = null;
    this.changed();
  }

  remove(part) {
    const at = this.parts.indexOf(part);
    this.parts = normalized(this.parts.filter((other) => other !== part));
    this.caret = null;
    this.changed();
    const buttons = [...this.root.querySelectorAll('.remove')];
    const next = buttons[Math.min(
        this.parts.slice(0, at).filter((other) => !isText(other)).length, buttons.length - 1)];
    if (next)
      next.focus();
    else
      this.focus();
  }

  writeBetween(part) {
    const at = this.parts.indexOf(part) + 1;
    this.parts = [...this.parts.slice(0, at), text(), ...this.parts.slice(at)];
    this.caret = at;
    this.changed();
    this.focus();
  }

  /** Whether a picture can change its place with its neighbour. */
  canMove(index, step) {
    const other = this.parts[index + step];
    const isEdge = index + step <= 0 || index + step >= this.parts.length - 1;
    return !(isEdge && isText(other) && other.text === '');
  }

  render() {
    const children = [];
    let row = null;
    let number = 0;
    this.parts.forEach((part, index) => {
      if (isText(part)) {
        row = null;
        children.push(this.field(part, index));
        return;
      }
      number += 1;
      if (row === null) {
        row = el('div', {class: 'picture-row'});
        children.push(row);
      } else {
        const previous = this.parts[index - 1];
        row.append(iconButton(
            words.writeBetween(number - 1), 'text', () => this.writeBetween(previous),
            {class: 'between'}));
      }
      row.append(this.picture(part, index, number));
    });
    const {activeElement: focused} = document;
    const index = this.root.contains(focused) ? focused.dataset.index : undefined;
    this.root.replaceChildren(...children);
    this.fields().forEach(fit);
    if (index !== undefined) this.#focusAgain(index, focused);
  }

  /** Whoever writes is not interrupted when the list is drawn anew. */
  #focusAgain(index, before) {
    const field = this.fields().find((candidate) => candidate.dataset.index === index);
    if (!field) return;
    field.focus();
    field.setSelectionRange(before.selectionStart, before.selectionEnd);
  }

  field(part, index) {
    const field = el('textarea', {
      rows: 1,
      'data-index': index,
      'aria-label': this.options.nameOf(index),
      placeholder: this.options.placeholder(this, index),
      autocomplete: 'off',
      id: index === 0 && this.options.firstId ? this.options.firstId : null,
      class: index === 0 && part.text === '' && this.parts.length > 1 ? 'before' : null,
      onFocus: () => {
        this.caret = index;
      },
      onInput: () => {
        part.text = field.value;
        fit(field);
        this.refreshMoves();
        this.options.onChange();
      },
    });
    field.value = part.text;
    return field;
  }

  picture(part, index, number) {
    const name = words.picture(number, part.name);
    const again = (action) => {
      const button = this.root.querySelector(`[aria-label="${CSS.escape(action)}"]`);
      if (button && !button.disabled) button.focus();
    };
    const mover = (label, iconName, step) => iconButton(label(number), iconName, () => {
      this.move(part, step);
      const now = this.pictures.indexOf(part) + 1;
      again(label(now));
    }, {class: 'mini', disabled: !this.canMove(index, step), 'data-step': step});
    return el(
        'div', {class: 'picture', role: 'group', 'aria-label': name, 'data-index': index},
        el('div', {class: 'thumb'}, pictureImage(name, part), el('button', {
             type: 'button',
             class: 'view',
             'aria-label': words.view(number, part.name),
             onClick: () => this.options.onView(part, name)
           })),
        iconButton(
            words.remove(number, part.name), 'close', () => this.remove(part),
            {class: 'mini remove'}),
        el('div', {class: 'picture-foot'}, mover(words.earlier, 'earlier', -1),
           mover(words.later, 'later', 1)),
        el('p', {class: 'picture-note', title: part.name}, part.note || part.name));
  }

  /** A text that becomes empty or not changes where pictures can go. */
  refreshMoves() {
    for (const group of this.root.querySelectorAll('.picture')) {
      for (const button of group.querySelectorAll('[data-step]')) {
        button.disabled = !this.canMove(Number(group.dataset.index), Number(button.dataset.step));
      }
    }
  }
}
