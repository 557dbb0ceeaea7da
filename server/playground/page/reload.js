// SPDX-License-Identifier: Apache-2.0
// For work on the page (--playground-dir): reloads it when one of its files changes. Served from
// the program it does nothing.
const tagOf = async (file, options) => {
  const response = await fetch(file, options);
  return {
    tag: response.headers.get('ETag'),
    isFolder: response.headers.get('X-Playground-Dir') === '1'
  };
};

export async function reloadOnChange() {
  const scripts = performance.getEntriesByType('resource')
                      .map((entry) => new URL(entry.name))
                      .filter((url) => /\.(js|css)$/.test(url.pathname))
                      .map((url) => url.pathname.split('/').pop());
  const files = [...new Set([window.location.pathname, ...scripts])];
  const loaded = new Map();  // file: tag of what this page was made of, from the browser's cache
  for (const file of files) {
    const {tag, isFolder} = await tagOf(file, {cache: 'force-cache'});
    if (!isFolder) return;
    loaded.set(file, tag);
  }
  const look = async () => {
    for (const file of files) {
      const {tag} =
          await tagOf(file, {method: 'HEAD', cache: 'no-store'}).catch(() => ({tag: null}));
      if (tag !== null && tag !== loaded.get(file)) return window.location.reload();
    }
    setTimeout(look, 1000);
  };
  await look();
}
