// SPDX-License-Identifier: Apache-2.0
// The page's wiring: who is told what.
import {Composer} from './composer.js';
import {ConversationView} from './conversation.js';
import {CodeDialog, copyText, openPicture} from './dialogs.js';
import {listenForDrops} from './drop.js';
import {byId, el, iconButton, placeIcons} from './el.js';
import {exported, imported} from './exchange.js';
import {showStart} from './gallery.js';
import {listenToPanels} from './panels.js';
import {reloadOnChange} from './reload.js';
import {countPictures} from './request.js';
import {newConversation, Session, titleOf} from './session.js';
import {Settings} from './settings.js';
import {showShelf} from './shelf.js';
import {ServerStatus} from './status.js';
import {Store} from './store.js';
import {hasApiKey, models, schema} from './talk.js';
import {words} from './words.js';

const KEEP_MS = 1000;

class Page {
  #editing = 0;    // the turn that is edited; 0: none
  #before = null;  // the draft before it was
  #keepTimer = 0;
  #ready = false;  // what was kept has been read
  #meta = null;    // of the model: {kind, demo, max_images}
  #asked = false;  // whether the server was asked for schema and model
  #keyWanted = false;
  #photoSaid = false;

  constructor() {
    placeIcons();
    this.store = new Store();
    this.view = new ConversationView({
      onEdit: (n) => this.#edit(n),
      onCopy: (n) => this.#copy(this.session.turns[n - 1].answer.text),
      onRegenerate: () => this.#again(),
      onTryAgain: () => this.#again(),
      onView: openPicture,
    });
    this.session = new Session({
      onRender: () => this.view.render(this.session.turns),
      onLast: () => this.view.renderLast(),
      onGrow: (text) => this.view.grow(text),
      onAnnounce: (sentence) => this.#announce(sentence),
      onKeep: () => this.#keep(),
      onEnd: (failure) => this.#ended(failure),
    });
    this.settings = new Settings((what) => this.#settingsChanged(what));
    this.composer = new Composer({
      onSend: () => this.#send(),
      onStop: () => this.session.stop(),
      onChange: () => this.#draftChanged(),
      onView: openPicture,
      onRefusals: (sentences) => this.#refuse(sentences),
      onPictures: () => this.#sayPhoto(),
      shrinks: () => this.settings.shrinks,
      mode: () => this.settings.mode,
    });
    this.code = new CodeDialog((sentence) => this.#announce(sentence));
    this.panels =
        listenToPanels({onOpenList: () => this.#showShelf(), onChange: () => this.#keepPage()});
    this.status = new ServerStatus((state, reason) => this.#serverIs(state, reason));
    this.#listen();
  }

  async start() {
    showStart(null, (scene) => this.#try (scene));
    this.view.render(this.session.turns);
    await this.store.open();
    const kept = await this.store.page();
    if (kept) {
      this.settings.restore({...kept.settings, theme: undefined});  // theme.js knows the last one
      this.panels.restore(kept.panels);
      const conversation = kept.open ? await this.store.conversation(kept.open) : null;
      // Whoever began to write before that is not interrupted.
      if (conversation && this.composer.isEmpty && this.session.turns.length === 0)
        this.#open(conversation);
    }
    this.#ready = true;
    document.body.removeAttribute('aria-busy');
    const untouched = document.activeElement === document.body;
    if (untouched && !matchMedia('(pointer: coarse)').matches) this.composer.focus();
    reloadOnChange().catch(() => {});
  }

  #listen() {
    byId('new-button').addEventListener('click', () => this.#new ());
    byId('export-button').addEventListener('click', () => this.#export());
    byId('import-button').addEventListener('click', () => byId('import-file').click());
    byId('import-file').addEventListener('change', () => this.#import());
    byId('code-button').addEventListener('click', () => this.#showCode());
    byId('cancel-editing').addEventListener('click', () => this.#cancelEditing());
    document.addEventListener('keydown', (event) => {
      const inDialog = document.querySelector('dialog[open]') !== null;
      if (event.key === 'Escape' && !event.isComposing && !inDialog && this.session.busy)
        this.session.stop();
    });
    listenForDrops((files, target) => this.composer.take(files, target));
    addEventListener('pagehide', () => this.#keep());
  }

  // ---- the server

  #serverIs(state, reason) {
    this.composer.setReason(reason);
    const answers = state === 'ready' || state === 'busy';
    if (answers && !this.#asked) {
      this.#asked = true;
      this.#askAbout();
    }
    if (state === 'gone' || state === 'wait') this.#asked = false;  // another model may come up
  }

  async #askAbout() {
    try {
      const [document, list] = await Promise.all([schema(), models()]);
      const card = (list.data && list.data[0]) || {};
      this.#meta = card.meta || {};
      this.settings.setSchema(document);
      this.settings.setBase(this.#meta.kind === 'base');
      this.status.setModel(
          this.#meta.demo                 ? words.demoModel :
              typeof card.id === 'string' ? card.id :
                                            '');
      this.#keyWanted = hasApiKey();
      showStart(this.#meta, (scene) => this.#try (scene));
      this.composer.list.render();
    } catch (error) {
      this.#asked = error.status === 401;
      if (error.status === 401) this.#wantKey(!this.#keyWanted);
    }
  }

  /** `news`: whoever reads the page has not been asked for a key just now. */
  #wantKey(news) {
    this.#keyWanted = true;
    this.#refuse([words.needsKey]);
    this.panels.open('settings-button');
    // Whoever goes on to write keeps the caret: the key would get the message's words.
    if (news && this.composer.isEmpty) this.settings.showKey();
  }

  // ---- a turn

  async #send() {
    await this.composer.settled;
    const problem = this.#problem();
    if (this.session.busy || this.composer.isEmpty || byId('send').disabled) return;
    if (problem !== '') {
      this.#refuse([problem]);
      return;
    }
    const at = this.#editing > 0 ? this.#editing - 1 : this.session.turns.length;
    const parts = this.composer.parts.map((part) => ({...part}));
    this.#refuse([]);
    this.session.conversation.examples = this.composer.examples;
    this.#setEditing(0);
    this.#before = null;
    this.composer.clear();
    this.composer.fold(true);
    this.composer.setBusy(true);
    this.session.ask(parts, this.settings.forRequest, at);
    this.composer.focus();
  }

  /** Why the message cannot be sent as it is, or ''. */
  #problem() {
    if (this.settings.problem) return this.settings.problem;
    if (this.settings.mode === 'chat' && this.composer.unfinishedExample > 0)
      return words.exampleUnanswered(this.composer.unfinishedExample);
    const most = this.#meta && this.#meta.max_images;
    return most && countPictures(this.#request()) > most ? words.tooMany(most) : '';
  }

  /** What Send would send. */
  #request() {
    this.session.conversation.examples = this.composer.examples;
    return this.session.requestFor(
        this.composer.parts, this.settings.forRequest,
        this.#editing > 0 ? this.#editing - 1 : undefined);
  }

  #again() {
    if (this.session.busy) return;
    this.session.conversation.examples = this.composer.examples;
    this.composer.setBusy(true);
    this.session.again(this.settings.forRequest);
  }

  #ended(failure) {
    this.composer.setBusy(this.session.busy);
    if (failure === null) return;
    if (failure.status === 401) this.#wantKey(true);
    this.status.ask();
  }

  #edit(n) {
    if (this.session.busy) this.session.stop();
    if (this.#editing === 0) this.#before = this.composer.parts.map((part) => ({...part}));
    this.#setEditing(n);
    this.composer.setParts(this.session.turns[n - 1].parts);
    this.composer.focus();
  }

  #cancelEditing() {
    this.#setEditing(0);
    this.composer.setParts(this.#before || []);
    this.#before = null;
    this.composer.focus();
  }

  #setEditing(n) {
    this.#editing = n;
    this.composer.setEditing(n > 0 ? words.editing(n) : '');
  }

  async #copy(text) {
    await copyText(text);
    this.#announce(words.copied);
  }

#try ({parts, examples}) {
  this.composer.setExamples(examples);
  this.composer.setParts(parts);
  this.composer.focus();
}

#sayPhoto() {
  if (!this.#meta || !this.#meta.demo || this.#photoSaid) return;
  this.#photoSaid = true;
  this.#notice(words.demoPhoto, 'status');
}

#showCode() {
  const written = !this.composer.isEmpty;
  this.code.open(
      written ? this.#request() : this.session.lastRequest,
      written ? words.codeHint : words.codeHintLast, this.#keyWanted);
}

// ---- conversations

#open(conversation) {
  this.#setEditing(0);
  this.session.open(
      {id: conversation.id, turns: conversation.turns, examples: conversation.examples});
  this.composer.setExamples(conversation.examples);
  this.composer.setParts(conversation.draft || []);
  this.composer.fold(conversation.turns.length > 0);
  this.#refuse([]);
  clearTimeout(this.#keepTimer);  // to open one is no change of it
  this.#keepPage();
  this.#showShelf();
}

async #new () {
  await this.#keep();
  this.#open({...newConversation(), draft: []});
  this.session.lastRequest = null;
  this.composer.focus();
}

#export() {
this.session.conversation.examples = this.composer.examples;
const blob =
    new Blob([exported(this.session.conversation, this.settings.kept)], {type: 'application/json'});
const link = el('a', {href: URL.createObjectURL(blob), download: 'idefics-conversation.json'});
link.click();
setTimeout(() => URL.revokeObjectURL(link.href), KEEP_MS);
}

async #import() {
  const field = byId('import-file');
  const [file] = field.files;
  field.value = '';
  if (!file) return;
  try {
    const {turns, examples, settings} = imported(await file.text());
    await this.#keep();
    if (settings !== null) this.settings.restore(settings);
    this.#open({...newConversation(), turns, examples, draft: []});
    this.#keep();
  } catch (error) {
    this.#refuse([words.importBad(file.name, error.message)]);
  }
}

async #showShelf() {
  if (byId('conversations').hidden) return;
  await showShelf(this.store, this.session.conversation.id, {
    onOpen: async (id) => {
      await this.#keep();
      const conversation = await this.store.conversation(id);
      if (conversation) this.#open(conversation);
      this.panels.closeOnPhone('list-button');
    },
    onDelete: (id) => this.#delete (id),
  });
}

async #delete (id) {
  const conversation = await this.store.conversation(id);
  if (id === this.session.conversation.id) this.#open({...newConversation(), draft: []});
  await this.store.remove(id);
  await this.#showShelf();
  this.#notice(
      words.deleted(conversation ? conversation.title : ''), 'status', words.undo, async () => {
        await this.store.write(conversation);
        this.#showShelf();
      });
}

// ---- keeping

#draftChanged() {
  if (!this.#ready) return;
  clearTimeout(this.#keepTimer);
  this.#keepTimer = setTimeout(() => this.#keep(), KEEP_MS);
}

#settingsChanged(what) {
  if (what === 'key') {
    this.#asked = false;
    this.status.ask();
    return;
  }
  this.composer.list.render();
  this.#keepPage();
}

/** An empty conversation is not kept: another tab's would be overwritten by nothing. */
async #keep() {
  clearTimeout(this.#keepTimer);
  const {conversation} = this.session;
  conversation.examples = this.composer.examples;
  const empty = conversation.turns.length === 0 && conversation.examples.length === 0 &&
      this.composer.isEmpty;
  if (empty || !this.#ready) return;
  await this.store.write({
    ...structuredClone(conversation),
    draft: structuredClone(this.composer.parts),
    title: titleOf(conversation),
    updated: Date.now()
  });
  await this.#keepPage();
  await this.#showShelf();
}

async #keepPage() {
  if (!this.#ready) return;
  await this.store.writePage(
      {open: this.session.conversation.id, settings: this.settings.kept, panels: this.panels.kept});
}

// ---- saying

#announce(sentence) {
  byId('announcements').textContent = sentence;
}

/** Alerts in place of those before; [] takes them away. */
#refuse(sentences) {
  byId('refusals').replaceChildren();
  for (const sentence of sentences) this.#notice(sentence, 'alert');
}

#notice(sentence, role, action = '', onAction = () => {}) {
  const notice = el('div', {class: `notice ${role}`}, el('p', {role}, sentence));
  if (action)
    notice.append(
        el('button', {
          type: 'button',
          class: 'link',
          onClick: () => {
            notice.remove();
            onAction();
          }
        },
           action));
  notice.append(iconButton(words.dismiss, 'close', () => notice.remove(), {class: 'mini'}));
  byId('refusals').append(notice);
}
}

new Page().start();
