// SPDX-License-Identifier: Apache-2.0
// Before the first paint: the theme that was chosen last (settings.js), so that nothing flashes.
try {
  const theme = localStorage.getItem('idefics-theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's theme.
}
