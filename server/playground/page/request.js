// SPDX-License-Identifier: Apache-2.0
// What is sent: a conversation and settings -> the path and the body of a request. Pure.

/** The chat's names of the inputs that the settings are called by. */
const CHAT_NAMES = {
  max_new_tokens: 'max_tokens',
  min_new_tokens: 'min_tokens'
};
// Without them the two APIs of the server would sample differently, and the chat otherwise than
// the settings show.
const ALWAYS_SENT = ['temperature', 'top_p', 'top_k'];
const SAMPLING = [...ALWAYS_SENT, 'min_p', 'typical_p'];

/** A part as a piece of a chat message. */
const chatPart = (part) =>
    (part.type === 'text' ? {type: 'text', text: part.text} :
                            {type: 'image_url', image_url: {url: part.url}});

/** Parts that say something. */
export const spoken = (parts) =>
    parts.filter((part) => part.type === 'image' || part.text.trim() !== '');

export const userMessage = (parts) => ({role: 'user', content: spoken(parts).map(chatPart)});

const answerMessage = (text) => ({role: 'assistant', content: text});

/** Whether a turn is part of what later ones follow from. */
export const counts = (turn) => turn.answer !== null && turn.answer.text !== '' &&
    (turn.answer.state === 'done' || turn.answer.state === 'stopped');

/** Examples that are whole, then the turns that ended, then the new question. */
function messages(conversation, turns, parts) {
  const all = [];
  for (const example of conversation.examples) {
    if (spoken(example.parts).length === 0 || example.answer.trim() === '') continue;
    all.push(userMessage(example.parts), answerMessage(example.answer.trim()));
  }
  for (const turn of turns.filter(counts)) {
    all.push(userMessage(turn.parts), answerMessage(turn.answer.text));
  }
  return [...all, userMessage(parts)];
}

/** The settings' numbers under the names of the API. `settings.values`: only what was touched. */
function sampling(settings, chat) {
  const sampled = settings.strategy !== 'Greedy';
  const fields = {};
  for (const [name, value] of Object.entries({...settings.defaults, ...settings.values})) {
    const touched = Object.hasOwn(settings.values, name);
    const isSampling = SAMPLING.includes(name);
    const wanted = name === 'max_new_tokens' ||
        (isSampling ? sampled && (touched || (chat && ALWAYS_SENT.includes(name))) : touched);
    if (wanted && value !== null) fields[(chat && CHAT_NAMES[name]) || name] = value;
  }
  if (chat && !sampled) fields.temperature = 0;
  if (!chat && sampled) fields.decoding_strategy = settings.strategy;
  return fields;
}

/**
 * {kind, path, body, whole}. `turns`: those before the new one. `whole`: the answer cannot be
 * streamed (beam search).
 */
export function buildRequest(conversation, turns, parts, settings) {
  if (settings.mode === 'prompt') {
    const prompt = spoken(parts).map((part) => (part.type === 'text' ? part.text : part.url));
    return {
      kind: 'prompt',
      path: '../predictions',
      body: {input: {prompt, ...sampling(settings, false)}},
      whole: false
    };
  }
  const fields = sampling(settings, true);
  return {
    kind: 'chat',
    path: '../v1/chat/completions',
    body: {messages: messages(conversation, turns, parts), ...fields},
    whole: (fields.num_beams || 1) > 1
  };
}

/** How many pictures a request holds. */
export function countPictures(request) {
  if (request.kind === 'prompt')
    return request.body.input.prompt.filter((item) => item.startsWith('data:image/')).length;
  return request.body.messages
      .flatMap((message) => (Array.isArray(message.content) ? message.content : []))
      .filter((part) => part.type === 'image_url')
      .length;
}
