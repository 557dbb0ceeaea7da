// SPDX-License-Identifier: Apache-2.0
// What this browser keeps: conversations, their titles, and the page's own state. Without storage
// everything else works. Two tabs: the last writer wins.

const NAME = 'idefics-playground';
const STORES = ['conversations', 'titles', 'page'];

const done = (request) => new Promise((resolve, reject) => {
  request.addEventListener('success', () => resolve(request.result));
  request.addEventListener('error', () => reject(request.error));
});

const ended = (transaction) => new Promise((resolve, reject) => {
  transaction.addEventListener('complete', () => resolve());
  transaction.addEventListener('abort', () => reject(transaction.error));
});

export class Store {
  #database = null;

  /** Whether anything can be kept. */
  get works() {
    return this.#database !== null;
  }

  async open() {
    try {
      const request = indexedDB.open(NAME, 1);
      request.addEventListener('upgradeneeded', () => {
        for (const store of STORES) request.result.createObjectStore(store);
      });
      this.#database = await done(request);
    } catch {
      this.#database = null;
    }
  }

  async #run(mode, stores, work, otherwise) {
    if (this.#database === null) return otherwise;
    try {
      const transaction = this.#database.transaction(stores, mode);
      const finished = ended(transaction);
      const result = await work(transaction);
      await finished;
      return result;
    } catch {
      return otherwise;
    }
  }

  page() {
    return this.#run('readonly', ['page'], (t) => done(t.objectStore('page').get('state')), null);
  }

  writePage(state) {
    return this.#run(
        'readwrite', ['page'], (t) => done(t.objectStore('page').put(state, 'state')), null);
  }

  conversation(id) {
    return this.#run(
        'readonly', ['conversations'], (t) => done(t.objectStore('conversations').get(id)), null);
  }

  /** `conversation`: {id, title, updated, …}. False: it could not be kept. */
  write(conversation) {
    return this.#run('readwrite', ['conversations', 'titles'], async (t) => {
      const {id, title, updated} = conversation;
      t.objectStore('titles').put({id, title, updated}, id);
      await done(t.objectStore('conversations').put(conversation, id));
      return true;
    }, false);
  }

  remove(id) {
    return this.#run('readwrite', ['conversations', 'titles'], async (t) => {
      t.objectStore('titles').delete(id);
      await done(t.objectStore('conversations').delete(id));
    }, null);
  }

  /** {id, title, updated} of all, the newest first. */
  async titles() {
    const all =
        await this.#run('readonly', ['titles'], (t) => done(t.objectStore('titles').getAll()), []);
    return all.sort((a, b) => b.updated - a.updated);
  }
}
