// SPDX-License-Identifier: Apache-2.0
// Everything that is asked of the server. Addresses are relative to the page, so that it works
// below any prefix; nothing else is ever asked.
import {words} from './words.js';

let apiKey = '';
export const setApiKey = (key) => {
  apiKey = key;
};
export const hasApiKey = () => apiKey !== '';

/** A failure with the sentence that people read. `status` 0: there was no answer. */
export class TalkError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

function headers(more = {}) {
  return apiKey ? {...more, Authorization: `Bearer ${apiKey}`} : more;
}

async function ask(path, options) {
  try {
    return await fetch(path, {cache: 'no-store', credentials: 'omit', ...options});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new TalkError(words.noAnswer);
  }
}

/** The sentence of an answer that is no success, in whichever form the API says it. */
export function sentenceOf(status, text) {
  const shown = (value) => (typeof value === 'string' && value.trim() !== '' ? value.trim() : '');
  let found = '';
  try {
    const body = JSON.parse(text);
    const detail = Array.isArray(body.detail) ?
        body.detail.map((item) => shown(item && item.msg)).filter(Boolean).join('; ') :
        shown(body.detail);
    found = shown(body.error && body.error.message) || shown(body.error) || detail;
  } catch {
    found = shown(text);
    if (found.startsWith('<')) found = '';
  }
  const most = 300;
  if (found.length > most) found = `${found.slice(0, most)} …`;
  return found || words.status(status);
}

async function failureOf(response) {
  const text = await response.text().catch(() => '');
  if (response.status === 401) return new TalkError(words.needsKey, 401);
  return new TalkError(sentenceOf(response.status, text), response.status);
}

async function askJson(path) {
  const response = await ask(path, {headers: headers()});
  if (!response.ok) throw await failureOf(response);
  return response.json();
}

export const health = () => askJson('../health-check');
export const schema = () => askJson('../openapi.json');
export const models = () => askJson('../v1/models');

/** The records of an event stream, {event, data}, as bytes come in. */
export class EventReader {
  #decoder = new TextDecoder();
  #text = '';

  push(bytes) {
    this.#text += this.#decoder.decode(bytes, {stream: true});
    const records = this.#text.split(/\r?\n\r?\n/);
    this.#text = records.pop();
    return records
        .map((record) => {
          const found = {event: 'message', data: ''};
          for (const line of record.split(/\r?\n/)) {
            if (line.startsWith('event:')) found.event = line.slice(6).trim();
            if (line.startsWith('data:')) found.data += line.slice(5).trimStart();
          }
          return found;
        })
        .filter((record) => record.data !== '');
  }
}

const parsed = (data) => {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
};

/** What a record of the chat's stream adds to `answer`; returns its new text. */
function takeChat(record, answer) {
  const chunk = parsed(record.data);
  if (chunk === null) return '';
  if (chunk.error) throw new TalkError(sentenceOf(0, record.data));
  const choice = chunk.choices && chunk.choices[0];
  if (choice && choice.finish_reason) answer.finish = choice.finish_reason;
  if (chunk.usage) answer.usage = chunk.usage;
  if (chunk.metrics) answer.metrics = chunk.metrics;
  return (choice && choice.delta && choice.delta.content) || '';
}

/** The same for Cog's stream of a plain prompt. */
function takePrompt(record, answer) {
  const body = parsed(record.data);
  if (body === null) return '';
  if (record.event === 'output') return body.chunk || '';
  if (record.event === 'error') throw new TalkError(sentenceOf(0, record.data));
  if (record.event !== 'completed') return '';
  if (body.status !== 'succeeded')
    throw new TalkError(sentenceOf(0, JSON.stringify({error: body.error || body.status})));
  answer.metrics = body.metrics;
  answer.finish = body.metrics && body.metrics.finish_reason === 'length' ? 'length' : 'stop';
  return '';
}

async function readStream(response, take, answer, onText) {
  const reader = response.body.getReader();
  const events = new EventReader();
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new TalkError(words.brokeOff);
    }
    if (piece.done) break;
    for (const record of events.push(piece.value)) {
      const text = take(record, answer);
      if (text !== '') onText(text);
    }
  }
  if (!answer.finish) throw new TalkError(words.brokeOff);
}

function takeWhole(body, plain, answer, onText) {
  const text = plain ? body.output : body.choices[0].message.content;
  answer.finish = plain ? 'stop' : body.choices[0].finish_reason;
  answer.usage = body.usage;
  answer.metrics = body.metrics;
  if (text) onText(Array.isArray(text) ? text.join('') : text);
}

/**
 * Sends a request (request.js) and calls onText with each new piece of the answer. Resolves with
 * {finish, usage, metrics}; rejects with a TalkError, or an AbortError where `signal` ended it:
 * the server then gives the request up too.
 */
export async function send(request, signal, onText) {
  const plain = request.kind === 'prompt';
  const streamed = plain || !request.whole;
  const body = plain || !streamed ?
      request.body :
      {...request.body, stream: true, stream_options: {include_usage: true}};
  const response = await ask(request.path, {
    method: 'POST',
    headers: headers({
      'Content-Type': 'application/json',
      Accept: streamed ? 'text/event-stream' : 'application/json'
    }),
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw await failureOf(response);
  const answer = {finish: null, usage: null, metrics: null};
  const type = response.headers.get('Content-Type') || '';
  if (type.startsWith('text/event-stream')) {
    await readStream(response, plain ? takePrompt : takeChat, answer, onText);
  } else {
    const text = await response.text();
    const whole = parsed(text);
    if (whole === null) throw new TalkError(sentenceOf(response.status, ''), response.status);
    takeWhole(whole, plain, answer, onText);
  }
  return answer;
}
