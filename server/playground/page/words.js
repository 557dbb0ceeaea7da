// SPDX-License-Identifier: Apache-2.0
// The sentences that the page says, in one place. Names of controls that never change stand in
// index.html.

const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

export const words = {
  // Server
  ready: (model) => (model ? `Ready · ${model}` : 'Ready'),
  starting: 'Starting: the model is loading',
  busy: (current, max, waiting) =>
      `Busy: ${current} of ${max} places taken${waiting ? `, ${waiting} waiting` : ''}`,
  failed: (why) => `Failed: ${why || 'the server does not say why'}`,
  demoModel: 'demo model',
  disconnected: 'Disconnected: no answer from the server, trying again',
  whyNotStarting:
      'The model is still loading. You can write; sending works as soon as it is ready.',
  whyNotFailed: 'The server has failed and answers nothing until it is started again.',

  // Start
  startTitle: 'Ask about pictures',
  startText: 'Text and pictures may come in any order, as many as you like. ' +
      'Answered examples show the model how to reply.',
  demo:
      'This is the demo model. It knows drawn scenes like these: 6 shapes in 8 colours, 64 emoji, ' +
      '36 words and the numbers 0 to 99. It names, counts, places, reads and compares, and knows ' +
      'nothing else of the world.',
  demoPhoto: 'The demo model has only ever seen drawn scenes like those on the start page. ' +
      'About your own picture it can only guess.',
  base:
      'This is a base checkpoint: it continues text. Plain prompt, in the settings, sends your text as it is.',
  galleryTitle: 'Try one of these',
  tryScene: (title) => `Try: ${title}`,

  // Turns
  question: (n) => `You, turn ${n}`,
  answer: (n) => `Assistant, turn ${n}`,
  you: 'You',
  assistant: 'IDEFICS',
  edit: (n) => `Edit turn ${n}`,
  copy: (n) => `Copy answer ${n}`,
  regenerate: (n) => `Regenerate answer ${n}`,
  tryAgain: 'Try again',
  stopped: 'Stopped.',
  thinking: 'The model is looking …',
  emptyAnswer: 'The model answered nothing.',
  copied: 'Copied.',
  begins: 'The answer begins.',
  editing: (n) => `Editing turn ${n}: later turns will be replaced.`,
  tokens: (n) => plural(n, 'token', 'tokens'),
  // Tokens that come in one step have hardly any time between them.
  rate: (perSecond) => perSecond > 10000 ?
      'over 10000 tokens/s' :
      `${perSecond.toFixed(perSecond < 1000 ? 1 : 0)} tokens/s`,
  first: (seconds) => `first token after ${seconds} s`,
  limit: (n) => `stopped at the limit of ${plural(n, 'token', 'tokens')}`,

  // Requests
  brokeOff: 'The connection broke off; the answer may be incomplete.',
  noAnswer: 'The server cannot be reached.',
  status: (code) => `The server answered ${code}.`,
  needsKey: 'This server asks for an API key: give it in the settings.',

  // Composer
  placeholder: 'Ask about a picture …',
  placeholderBefore: 'Text before the picture',
  placeholderAfter: 'And now your question …',
  placeholderPrompt: 'A prompt that the model continues …',
  message: 'Message',
  part: (n) => `Message, part ${n}`,
  picture: (n, name) => `Picture ${n}: ${name}`,
  view: (n, name) => `View picture ${n}: ${name}`,
  remove: (n, name) => `Remove picture ${n}: ${name}`,
  earlier: (n) => `Move picture ${n} earlier`,
  later: (n) => `Move picture ${n} later`,
  writeBetween: (n) => `Write between pictures ${n} and ${n + 1}`,
  example: (n) => `Example ${n}`,
  exampleQuestion: (n) => `Question of example ${n}`,
  exampleQuestionPart: (n, part) => `Question of example ${n}, part ${part}`,
  exampleAnswer: (n) => `Answer of example ${n}`,
  exampleAdd: (n) => `Add pictures to example ${n}`,
  exampleRemove: (n) => `Remove example ${n}`,
  exampleHint: 'How a good answer looks',
  examplesShow: (n) => `Show ${plural(n, 'example', 'examples')}`,
  examplesHide: (n) => `Hide ${plural(n, 'example', 'examples')}`,
  examplesNote: (n) => `${plural(n, 'example', 'examples')} before every question`,
  exampleUnanswered: (n) => `Example ${n} has no answer yet: write one or remove the example.`,
  sentSmaller: (width, height) => `${width} × ${height}, sent smaller`,
  notShown: 'not shown by this browser',
  fromAddress: 'fetched by the server',
  reading: 'Reading pictures …',

  // Refusals
  dismiss: 'Dismiss',
  emptyFile: (name) => `${name} is empty.`,
  unknownKind: (name) =>
      `${name} is no picture that can be read: JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF and PPM are.`,
  heic: (name) => `${name} is a HEIC photograph, which few programs read: save it as JPEG first.`,
  svg: (name) => `${name} is an SVG drawing, which has no pixels: save it as PNG first.`,
  undecodable: (name) => `${name} is damaged: it cannot be decoded.`,
  badAddress: 'Picture address must begin with http:// or https://.',
  tooMany: (most) =>
      `This server takes at most ${plural(most, 'picture', 'pictures')} in one request.`,
  outOfRange: (title, low, high) => `${title} must be from ${low} to ${high}.`,
  notWhole: (title) => `${title} must be a whole number.`,
  fixKey: 'API key may hold only letters, digits and signs of ASCII.',

  // Keeping
  importBad: (name, why) => `${name} is no conversation of this page: ${why}.`,
  untitled: 'New conversation',
  pictureOnly: 'Pictures',
  deleted: (title) => `Deleted: ${title}`,
  undo: 'Undo',
  openConversation: (title) => `Open conversation: ${title}`,
  deleteConversation: (title) => `Delete conversation: ${title}`,
  keptHere: 'Conversations are kept in this browser only.',
  notKept:
      'This browser keeps nothing for this page: a conversation lasts until the page is closed.',

  // Settings
  mode: 'Mode',
  modeChat: 'Chat',
  modePrompt: 'Plain prompt',
  modeHint:
      'A plain prompt is sent exactly as written, without turns: for base checkpoints. A part that is an address is a picture.',
  decoding: 'Decoding',
  more: 'More settings',
  reset: 'Reset settings',
  theme: 'Theme',
  shrink: 'Shrink large pictures',
  shrinkHint: 'Pictures over 1 MiB are sent at 1280 pixels; the model looks at 224.',
  key: 'API key',
  keyHint: 'Kept in memory only, until the page is closed.',
  seedHint: 'Empty: a fresh one each time.',
  noSchema: 'The server has not told its settings yet.',

  // Code
  codeHint: 'What Send would send now, to run elsewhere.',
  codeHintLast: 'What was sent last, to run elsewhere.',
  codeNothing: 'Write something first: the code follows the composer.',
  copyCode: 'Copy code',
  close: 'Close',
};
