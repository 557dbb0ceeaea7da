// SPDX-License-Identifier: Apache-2.0
// Files that are dropped anywhere on the page. Nothing dropped ever replaces the page.
import {byId} from './el.js';
import {filesOf} from './pictures.js';

const hasFiles = (event) => [...event.dataTransfer.types].includes('Files');

/** `onFiles(files, target)`: the element they were dropped on. */
export function listenForDrops(onFiles) {
  const veil = byId('drop-veil');
  let depth = 0;
  const show = (shown) => {
    veil.hidden = !shown;
  };
  document.addEventListener('dragenter', (event) => {
    if (!hasFiles(event)) return;
    depth += 1;
    show(true);
  });
  document.addEventListener('dragleave', (event) => {
    if (!hasFiles(event)) return;
    depth = Math.max(0, depth - 1);
    if (depth === 0) show(false);
  });
  document.addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = 'copy';
  });
  document.addEventListener('drop', (event) => {
    depth = 0;
    show(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    onFiles(filesOf(event.dataTransfer), event.target);
  });
}
