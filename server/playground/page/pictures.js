// SPDX-License-Identifier: Apache-2.0
// Files -> the parts that are sent. What a file is, its first bytes say, never its name.
import {words} from './words.js';

const SENT_AS_IT_IS = 1 << 20;  // bytes
const LONG_SIDE = 1280;
const JPEG_QUALITY = 0.92;

/** A refusal with the sentence that names the file. */
export class PictureRefusal extends Error {}

const begins =
    (bytes, text, at = 0) => [...text].every((letter, i) => bytes[at + i] === letter.charCodeAt(0));

/** "image/png", …; 'heic', 'svg' and null are refused. */
export function kindOf(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return 'image/jpeg';
  if (bytes[0] === 0x89 && begins(bytes, 'PNG', 1)) return 'image/png';
  if (begins(bytes, 'GIF8')) return 'image/gif';
  if (begins(bytes, 'RIFF') && begins(bytes, 'WEBP', 8)) return 'image/webp';
  if (begins(bytes, 'BM')) return 'image/bmp';
  if (begins(bytes, 'II*\0') || begins(bytes, 'MM\0*')) return 'image/tiff';
  if (begins(bytes, 'P') && bytes[1] >= 0x31 && bytes[1] <= 0x36 && bytes[2] <= 0x20)
    return 'image/x-portable-pixmap';
  const text = new TextDecoder('latin1').decode(bytes);
  if (begins(bytes, 'ftyp', 4))
    return /avi[fs]/.test(text.slice(8))         ? 'image/avif' :
        /hei[cxms]|hev[cx]|mif1|msf1/.test(text) ? 'heic' :
                                                   null;
  return /^\s*(<\?xml|<!doctype svg|<svg|<!--)/i.test(text.replace(/^\u00ef\u00bb\u00bf/, '')) &&
          /<svg/i.test(text) ?
      'svg' :
      null;
}

// What browsers cannot show, though the server reads it.
const UNSEEN = ['image/tiff', 'image/x-portable-pixmap'];

function dataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener('load', () => resolve(reader.result));
    reader.addEventListener('error', () => reject(reader.error));
    reader.readAsDataURL(blob);
  });
}

const toBlob = (canvas, type) => new Promise((resolve) => {
  canvas.toBlob(resolve, type, JPEG_QUALITY);
});

/** The bitmap, upright, at most LONG_SIDE long. */
async function shrunk(bitmap, type) {
  const scale = Math.min(1, LONG_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (type === 'image/png') {
    const png = await toBlob(canvas, 'image/png');
    if (png && png.size <= SENT_AS_IT_IS) return png;
  }
  context.globalCompositeOperation = 'destination-over';  // JPEG has no transparency
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  return toBlob(canvas, 'image/jpeg');
}

function refusalOf(kind, name) {
  if (kind === 'heic') return words.heic(name);
  return kind === 'svg' ? words.svg(name) : words.unknownKind(name);
}

/** {type: 'image', name, url, note}. Rejects with a PictureRefusal. */
export async function readPicture(file, shrink) {
  const name = file.name || 'picture';
  if (file.size === 0) throw new PictureRefusal(words.emptyFile(name));
  const head = new Uint8Array(await file.slice(0, 1024).arrayBuffer());
  const kind = kindOf(head);
  if (kind === null || kind === 'heic' || kind === 'svg')
    throw new PictureRefusal(refusalOf(kind, name));
  const typed = new Blob([file], {type: kind});
  if (UNSEEN.includes(kind))
    return {type: 'image', name, url: await dataUri(typed), note: words.notShown};
  let bitmap;
  try {
    bitmap = await createImageBitmap(typed, {imageOrientation: 'from-image'});
  } catch {
    throw new PictureRefusal(words.undecodable(name));
  }
  try {
    if (file.size <= SENT_AS_IT_IS || !shrink)
      return {type: 'image', name, url: await dataUri(typed), note: ''};
    const blob = await shrunk(bitmap, kind);
    if (blob === null) throw new PictureRefusal(words.undecodable(name));
    return {
      type: 'image',
      name,
      url: await dataUri(blob),
      note: words.sentSmaller(bitmap.width, bitmap.height)
    };
  } finally {
    bitmap.close();
  }
}

/** All that can be read, in order, and the sentences about the others. */
export async function readPictures(files, shrink) {
  const pictures = [];
  const refusals = [];
  for (const file of files) {
    try {
      pictures.push(await readPicture(file, shrink));
    } catch (error) {
      refusals.push(error instanceof PictureRefusal ? error.message : words.undecodable(file.name));
    }
  }
  return {pictures, refusals};
}

/**
 * The part of a picture that the server is to fetch, or null. It is not shown: nobody else is
 * asked.
 */
export function pictureByAddress(text) {
  let url;
  try {
    url = new URL(text.trim());
  } catch {
    return null;
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return null;
  const last = url.pathname.split('/').filter(Boolean).pop();
  return {type: 'image', name: last || url.host, url: url.href, note: words.fromAddress};
}

/** Whether the page itself can show it. */
export const canShow = (part) => part.url.startsWith('data:image/') &&
    !UNSEEN.some((kind) => part.url.startsWith(`data:${kind}`));

/**
 * The pictures of a paste or a drop; [] where it is something else. A paste from a spreadsheet has
 * text, markup and a bitmap of itself: the text is meant.
 */
export function filesOf(transfer) {
  const files = [...(transfer.files || [])];
  const types = [...transfer.types];
  return types.includes('text/html') && types.includes('text/plain') ? [] : files;
}
