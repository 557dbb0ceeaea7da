// SPDX-License-Identifier: Apache-2.0
// The empty page: what it is for, what the demo model knows, and scenes to begin with. The scenes
// are drawn by scripts/demo/gallery.py, which also writes scenes.json.
import {byId, el} from './el.js';
import {readPicture} from './pictures.js';
import {words} from './words.js';

async function fetched(name) {
  const response = await fetch(name);
  const blob = await response.blob();
  return new File([blob], name);
}

/** A scene's parts with its files in place of their names. */
async function filled(parts) {
  return Promise.all(parts.map(async (part) => {
    if (typeof part.file !== 'string') return {type: 'text', text: String(part.text)};
    return {...await readPicture(await fetched(part.file), true), ofGallery: true};
  }));
}

function card(scene, onTry) {
  const files = [...(scene.examples || []).flatMap((example) => example.parts), ...scene.parts]
                    .map((part) => part.file)
                    .filter((file) => typeof file === 'string');
  return el(
      'button', {
        type: 'button',
        class: 'scene',
        'aria-label': words.tryScene(scene.title),
        onClick: async () => onTry({
          parts: await filled(scene.parts),
          examples:
              await Promise.all((scene.examples || []).map(async (example) => ({
                                                             parts: await filled(example.parts),
                                                             answer: example.answer
                                                           }))),
        }),
      },
      el('span', {class: 'scene-pictures'},
         ...files.map(
             (file) =>
                 el('img', {src: file, alt: '', width: 168, height: 168, decoding: 'async'}))),
      el('span', {class: 'scene-title'}, scene.title),
      el('span', {class: 'scene-kind'}, scene.kind));
}

/**
 * `onTry({parts, examples})`: fill the composer, nothing is sent. `meta`: of the model, or null.
 */
export async function showStart(meta, onTry) {
  const root = byId('start');
  const about = meta && meta.demo ? words.demo : meta && meta.kind === 'base' ? words.base : '';
  const gallery = el('div', {class: 'gallery'});
  root.replaceChildren(
      el('h2', {id: 'start-title'}, words.startTitle), el('p', {class: 'lead'}, words.startText),
      about ? el('p', {class: 'about'}, about) : '', el('h3', {}, words.galleryTitle), gallery);
  try {
    const scenes = await (await fetch('scenes.json')).json();
    gallery.replaceChildren(...scenes.scenes.map((scene) => card(scene, onTry)));
  } catch {
    root.querySelector('h3').remove();
  }
}
