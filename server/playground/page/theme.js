// SPDX-License-Identifier: Apache-2.0
// Before the first paint: the theme that was chosen, so that nothing flashes. The choice itself is
// kept with the settings (settings.js); this copy is only for the start.
try {
  const theme = localStorage.getItem('idefics-theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's theme.
}
