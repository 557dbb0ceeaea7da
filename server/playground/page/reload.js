// SPDX-License-Identifier: Apache-2.0
// For work on the page (--playground-dir): reloads it when one of its files changes. Served from
// the program it does nothing.
const tagOf = async (file) => {
  const response = await fetch(file, {method: 'HEAD', cache: 'no-store'});
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
  const files = [...new Set(['index.html', ...scripts])];
  if (!(await tagOf(files[0])).isFolder) return;
  const known = new Map();
  const look = async () => {
    for (const file of files) {
      const {tag} = await tagOf(file).catch(() => ({tag: null}));
      if (tag === null) continue;
      if (known.has(file) && known.get(file) !== tag) window.location.reload();
      known.set(file, tag);
    }
    setTimeout(look, 1000);
  };
  await look();
}
