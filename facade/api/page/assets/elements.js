// The elements that several parts of the page use.
import { h } from "preact";
import htm from "htm";

export const html = htm.bind(h);

export function Badge({ status, text }) {
  return html`<span class="badge ${status}">${text || status}</span>`;
}

/** A table whose rows become cards on a narrow screen. */
export function Table({ caption, columns, rows }) {
  return html`<table>
    <caption>${caption}</caption>
    <thead><tr>${columns.map((column) => html`<th scope="col" key=${column}>${column}</th>`)}</tr></thead>
    <tbody>${rows.map(({ key, cells }) => html`<tr key=${key}>
      ${cells.map((cell, at) => at === 0
        ? html`<th scope="row">${cell}</th>`
        : html`<td data-label=${columns[at]}>${cell}</td>`)}
    </tr>`)}</tbody>
  </table>`;
}
