// SPDX-License-Identifier: Apache-2.0
// One conversation and the answer under way. Knows no element of the page: what happens is told to
// `view`.
import {buildRequest, spoken} from './request.js';
import {send, TalkError} from './talk.js';
import {words} from './words.js';

export const newConversation = () =>
    ({id: crypto.randomUUID?.() || `${Date.now()}-${Math.random()}`, turns: [], examples: []});

const newAnswer = () => ({text: '', state: 'writing', error: '', stats: null});

/** Its first words, for lists. */
export function titleOf(conversation) {
  const parts = conversation.turns.length > 0 ? conversation.turns[0].parts : [];
  const text = parts.filter((part) => part.type === 'text')
                   .map((part) => part.text.trim())
                   .filter(Boolean)
                   .join(' … ');
  const most = 60;
  if (text !== '') return text.length > most ? `${text.slice(0, most)} …` : text;
  return parts.length > 0 ? words.pictureOnly : words.untitled;
}

/**
 * Numbers of an answer: the server's own where it tells them, else by this clock (milliseconds).
 */
function statistics(result, clock, request) {
  const metrics = result.metrics || {};
  const tokens =
      metrics.output_token_count || (result.usage && result.usage.completion_tokens) || 0;
  const known = typeof metrics.time_to_first_token === 'number';
  const seconds = (clock.end - clock.first) / 1000;
  const limit = request.body.max_tokens ||
      (request.body.input && request.body.input.max_new_tokens) || tokens;
  return {
    tokens,
    rate: metrics.tokens_per_second ||
        (known || tokens < 2 || seconds <= 0 ? 0 : (tokens - 1) / seconds),
    first: known ? metrics.time_to_first_token : (clock.first - clock.begin) / 1000,
    limit: result.finish === 'length' ? limit : 0,
  };
}

export class Session {
  #abort = null;

  /** `view`: onRender(), onLast(), onGrow(text), onAnnounce(sentence), onKeep(), onEnd(error). */
  constructor(view) {
    this.view = view;
    this.conversation = newConversation();
    this.lastRequest = null;  // what was sent last
  }

  get turns() {
    return this.conversation.turns;
  }
  get busy() {
    return this.#abort !== null;
  }

  open(conversation) {
    this.stop();
    for (const turn of conversation.turns) {
      if (turn.answer.state === 'writing') turn.answer.state = 'stopped';
    }
    this.conversation = conversation;
    this.view.onRender();
  }

  /** What `parts` would be asked as, behind the first `kept` turns. */
  requestFor(parts, settings, kept = this.turns.length) {
    return buildRequest(this.conversation, this.turns.slice(0, kept), parts, settings);
  }

  /** Asks; `at`: the number of turns before the new one, later ones are dropped. */
  ask(parts, settings, at = this.turns.length) {
    this.turns.length = at;
    this.turns.push({parts: spoken(parts), answer: newAnswer()});
    this.view.onRender();
    return this.#run(settings);
  }

  /** The last question once more. */
  again(settings) {
    this.turns[this.turns.length - 1].answer = newAnswer();
    this.view.onLast();
    return this.#run(settings);
  }

  /** Ends the answer under way; the server gives it up. */
  stop() {
    this.#abort?.abort();
  }

  async #run(settings) {
    const turn = this.turns[this.turns.length - 1];
    const {answer} = turn;
    const request = this.requestFor(turn.parts, settings, this.turns.length - 1);
    const abort = new AbortController();
    const clock = {begin: performance.now(), first: 0, end: 0};
    const keeping = setInterval(() => this.view.onKeep(), 1000);
    this.#abort = abort;
    this.lastRequest = request;
    let failure = null;
    try {
      const result = await send(request, abort.signal, (text) => this.#take(answer, text, clock));
      clock.end = performance.now();
      answer.stats = statistics(result, clock, request);
      answer.state = 'done';
    } catch (error) {
      failure = error;
      answer.state = abort.signal.aborted ? 'stopped' : 'failed';
      answer.error = error instanceof TalkError ? error.message : String(error);
    }
    clearInterval(keeping);
    this.#abort = null;
    this.#finish(answer, abort.signal.aborted ? null : failure);
  }

  #finish(answer, failure) {
    if (this.turns.some((turn) => turn.answer === answer)) this.view.onLast();
    this.view.onAnnounce(
        {done: answer.text || words.emptyAnswer, stopped: words.stopped, failed: ''}[answer.state]);
    this.view.onKeep();
    this.view.onEnd(failure);
  }

  // The first text at once, then at most one update a frame.
  #take(answer, text, clock) {
    const isFirst = answer.text === '';
    answer.text += text;
    if (isFirst) {
      clock.first = performance.now();
      this.view.onAnnounce(words.begins);
      this.view.onGrow(answer.text);
      return;
    }
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (answer.state === 'writing') this.view.onGrow(answer.text);
    });
  }
}
