// The keys of the log.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { html } from "/assets/elements.js";

const OFF_KEY = "threefold-keys-off"; // in the local storage
const KEYS = [
  ["/", "search"],
  ["j, k", "next line, line before; in the list also the arrow keys"],
  ["Enter, Space", "on a line: open or close it"],
  ["Escape", "close the line, or leave the search"],
  ["p", "pause or resume; outside of lines and buttons also Space"],
  ["?", "show these keys"],
];

/** True if the key belongs to the element in which it was pressed. */
function isTaken({ key, target, ctrlKey, metaKey, altKey }) {
  if (ctrlKey || metaKey || altKey || target.closest("input, textarea, select, dialog")) return true;
  return (key === " " || key === "Enter") && Boolean(target.closest("button, a"));
}

/** Call the action of each key that is pressed outside of inputs; `actions` is by key. */
export function useKeys(actions) {
  const latest = useRef(actions);
  latest.current = actions;
  useLayoutEffect(() => { // at once, so that no key is lost after the first drawing
    function press(event) {
      const action = latest.current[event.key];
      if (!action || isTaken(event) || (event.key.length === 1 && localStorage.getItem(OFF_KEY))) return;
      if (action(event) !== false) event.preventDefault();
    }
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, []);
}

/** The list of keys; `dialog` refers to it. Keys of one character can be turned off, for speech input presses them. */
export function Help({ dialog }) {
  const [off, setOff] = useState(Boolean(localStorage.getItem(OFF_KEY)));
  function turn(event) {
    if (event.target.checked) localStorage.removeItem(OFF_KEY);
    else localStorage.setItem(OFF_KEY, "1");
    setOff(!event.target.checked);
  }
  return html`<dialog ref=${dialog} aria-label="Keys">
    <h2>Keys</h2>
    <dl>${KEYS.map(([key, what]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>
    <label class="check"><input type="checkbox" checked=${!off} onChange=${turn} /> Keys of one character work</label>
    <button type="button" onClick=${() => dialog.current.close()}>Close</button>
  </dialog>`;
}
