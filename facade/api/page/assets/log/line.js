// One message of the log, and what it has besides its text.
import { Component } from "preact";
import { html } from "/assets/elements.js";
import { full, stamp, visible } from "/assets/format.js";

const SHORT_CHARACTERS = 1000; // of a text in the list; the open line has all
const SHORT_LINES = 10; // the same in lines
const LEVEL_FIELDS = ["level", "severity", "severity_text"];
const LEVELS = {
  error: ["error", "err", "fatal", "critical", "crit", "alert", "emerg", "emergency", "panic"],
  warn: ["warn", "warning"],
  info: ["info", "information", "informational", "notice"],
  debug: ["debug", "trace", "verbose"],
};

/** The level of a message as [kind, name]; undefined without a field for it, or if its value is unknown. */
function levelOf(fields) {
  for (const [name, value] of Object.entries(fields || {})) {
    if (!LEVEL_FIELDS.includes(name.toLowerCase())) continue;
    const found = Object.entries(LEVELS).find(([, names]) => names.includes(String(value).toLowerCase()));
    if (found) return [found[0], String(value).toUpperCase()];
  }
  return undefined;
}

function shortened(text) {
  const lines = text.split("\n", SHORT_LINES).join("\n").slice(0, SHORT_CHARACTERS);
  return lines.length < text.length ? `${lines} …` : text;
}

function Row({ name, value }) {
  return html`<div><dt><bdi>${visible(name)}</bdi></dt><dd><bdi>${visible(String(value))}</bdi></dd></div>`;
}

function Details({ message }) {
  const fields = Object.entries(message.fields || {});
  return html`<div class="details">
    <dl>
      <${Row} name="id" value=${message.id} />
      <${Row} name="time" value=${message.time} />
      <${Row} name="local time" value=${full(message.time)} />
      <${Row} name="node" value=${message.node || "unknown"} />
      ${shortened(message.msg) !== message.msg && html`<${Row} name="text" value=${message.msg} />`}
    </dl>
    <h3>Fields</h3>
    ${fields.length ? html`<dl class="fields">${fields.map(([name, value]) => html`<${Row} key=${name} name=${name} value=${value} />`)}</dl>` : html`<p>None.</p>`}
    <p><a href=${`/?id=${message.id}`}>Link to this message</a></p>
  </div>`;
}

/** A line of the log; `onToggle` opens or closes it, `current` is true for the line of the keyboard. */
export class Line extends Component {
  shouldComponentUpdate(next) {
    return ["message", "open", "current"].some((name) => next[name] !== this.props[name]);
  }

  render({ message, open, current, onToggle }) {
    const level = levelOf(message.fields);
    const toggle = () => getSelection().isCollapsed && onToggle(message.id); // a click that ends a selection does not
    return html`<li class=${level ? level[0] : ""} aria-current=${current ? "true" : undefined}>
      <div id=${`m-${message.id}`} class="line" role="button" tabindex=${current ? 0 : -1} aria-expanded=${open} onClick=${toggle}>
        <time datetime=${message.time}>${stamp(message.time)}</time>
        ${level && html`<span class="level ${level[0]}">${level[1]}</span>`}
        ${message.node && html`<span class="node">${message.node}</span>`}
        <bdi class="text">${visible(shortened(message.msg))}</bdi>
      </div>
      ${open && html`<${Details} message=${message} />`}
    </li>`;
  }
}
