// SPDX-License-Identifier: Apache-2.0
// A conversation as a file, and back. Of what comes in every field is judged by its type, and only
// known fields are read.
import {spoken} from './request.js';
import {checkedSettings} from './settings.js';

const FORMAT = 'idefics-playground';
const VERSION = 1;
const MOST = 10000;

const filePart = (part) =>
    (part.type === 'text' ? {type: 'text', text: part.text} :
                            {type: 'image', name: part.name, url: part.url});

/** What is written; `conversation`: {turns, examples}. */
export function exported(conversation, settings) {
  const turns = [];
  for (const turn of conversation.turns) {
    turns.push({role: 'user', parts: spoken(turn.parts).map(filePart)});
    if (turn.answer.text !== '')
      turns.push({role: 'assistant', parts: [{type: 'text', text: turn.answer.text}]});
  }
  const examples = conversation.examples.map(
      (example) => ({parts: spoken(example.parts).map(filePart), answer: example.answer}));
  return JSON.stringify({format: FORMAT, version: VERSION, turns, examples, settings}, null, 1);
}

/** Why a file is not taken: the end of a sentence. */
export class ImportError extends Error {}

function require(holds, why) {
  if (!holds) throw new ImportError(why);
}

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
const isList = (value) => Array.isArray(value) && value.length <= MOST;

function readPart(part, where) {
  require(isObject(part), `${where} is no object`);
  if (part.type === 'text') {
    require(typeof part.text === 'string', `${where} has no text`);
    return {type: 'text', text: part.text};
  }
  require(part.type === 'image', `${where} is neither text nor image`);
  require(typeof part.name === 'string', `${where} has no name`);
  require(
      typeof part.url === 'string' && /^(data:image\/|https?:)/.test(part.url),
      `${where} has no address that a picture can have`);
  return {type: 'image', name: part.name, url: part.url, note: ''};
}

const readParts = (parts, where) => {
  require(isList(parts), `${where} has no parts`);
  return parts.map((part, i) => readPart(part, `part ${i + 1} of ${where}`));
};

function readTurns(list) {
  require(isList(list), 'turns is no list');
  const turns = [];
  list.forEach((entry, i) => {
    const where = `entry ${i + 1}`;
    require(
        isObject(entry) && (entry.role === 'user' || entry.role === 'assistant'),
        `${where} has no role`);
    const parts = readParts(entry.parts, where);
    if (entry.role === 'user') {
      turns.push({parts, answer: {text: '', state: 'stopped', error: '', stats: null}});
      return;
    }
    const last = turns[turns.length - 1];
    require(last !== undefined && last.answer.text === '', `${where} answers no question`);
    require(parts.every((part) => part.type === 'text'), `${where} is an answer with a picture`);
    last.answer = {...last.answer, text: parts.map((part) => part.text).join('\n'), state: 'done'};
  });
  return turns;
}

function readExample(example, i) {
  const where = `example ${i + 1}`;
  require(isObject(example), `${where} is no object`);
  require(typeof example.answer === 'string', `${where} has no answer`);
  return {parts: readParts(example.parts, where), answer: example.answer};
}

/** {turns, examples, settings}; throws an ImportError. */
export function imported(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new ImportError('it is no JSON');
  }
  require(isObject(file) && file.format === FORMAT, `its format is not ${FORMAT}`);
  require(file.version === VERSION, `its version is not ${VERSION}`);
  const examples = file.examples === undefined ? [] : file.examples;
  require(isList(examples), 'examples is no list');
  require(file.settings === undefined || isObject(file.settings), 'settings is no object');
  return {
    turns: readTurns(file.turns),
    examples: examples.map(readExample),
    settings: file.settings === undefined ? null : checkedSettings(file.settings),
  };
}
