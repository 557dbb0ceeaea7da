// SPDX-License-Identifier: Apache-2.0
// Elements without markup: whatever text goes in stays text.

/**
 * el('button', {class: 'x', 'aria-label': name, onClick: f}, 'text', child, …). `onX` adds a
 * listener, `true` sets an attribute without a value, null and false leave it out.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') {
      element.addEventListener(name.slice(2).toLowerCase(), value);
    } else {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** A copy of one of the page's icons, which say nothing to assistive technology. */
export function icon(name) {
  const found = byId('icons').content.querySelector(`[data-name="${name}"]`).cloneNode(true);
  found.setAttribute('aria-hidden', 'true');
  found.setAttribute('class', 'icon');
  return found;
}

/** A button that shows an icon and is called `name`; `text` is shown beside the icon. */
export function iconButton(name, iconName, onClick, attributes = {}, text = '') {
  return el(
      'button',
      {type: 'button', 'aria-label': name, title: text ? null : name, onClick, ...attributes},
      icon(iconName), text ? el('span', {}, text) : null);
}

/** Puts the icon into each element of the page that names one. */
export function placeIcons(root = document) {
  for (const element of root.querySelectorAll('[data-icon]')) {
    element.prepend(icon(element.dataset.icon));
  }
}
