// The tables of the cluster's processes, and what happened to them.
import { Badge, html, Table } from "/assets/elements.js";
import { ago, bytes, clock, milliseconds, number } from "/assets/format.js";

/** The reported in-sync set with the highest term; a fenced node may still report an older set. */
export function inSyncSet(nodes) {
  const reports = nodes.filter((node) => node.in_sync.length > 0);
  return reports.reduce((newest, node) => (node.term > newest.term ? node : newest), { term: -1, in_sync: [] }).in_sync;
}

/** A reported value of a node, if the node answers. */
function reported(node, text) {
  return node.version ? text : "unknown";
}

function State({ node }) {
  const status = node.state === "ready" ? node.status : node.status === "down" ? "down" : "suspect";
  return html`<${Badge} status=${status} text=${node.status === "suspect" ? "suspect" : node.state} />
    ${node.reason && html`<span class="reason" title=${node.reason}>${node.reason}</span>`}`;
}

/** The size of a node's in-sync set and its term; a node that is still joining is in no set. */
function InSync({ node, count }) {
  return node.in_sync.includes(node.address) ? html`<span title=${node.in_sync.join(", ")}>${node.in_sync.length} of ${count}, term ${node.term}</span>` : "no";
}

export function Nodes({ view }) {
  const columns = ["address", "state", "in sync", "since", "requests", "errors", "p50 / p99", "round trip", "lease", "messages", "journal", "flushed", "version"];
  const rows = view.logging_nodes.map((node) => ({
    key: node.address,
    cells: [
      node.address,
      html`<${State} node=${node} />`,
      reported(node, html`<${InSync} node=${node} count=${view.logging_nodes.length} />`),
      ago(node.since, view.time),
      reported(node, number(node.total)),
      number(node.errors),
      `${milliseconds(node.p50_ms)} / ${milliseconds(node.p99_ms)}`,
      milliseconds(node.round_trip_ms),
      node.lease_age_s === null ? "none" : `${node.lease_age_s} s`,
      reported(node, number(node.messages)),
      reported(node, bytes(node.journal_bytes)),
      reported(node, node.synced ? ago(node.synced, view.time) : "not since its start"),
      reported(node, node.version),
    ],
  }));
  const set = inSyncSet(view.logging_nodes);
  return html`<section>
    <h2>Logging nodes</h2>
    <p class="set">${set.length ? `In sync: ${set.join(", ")}. Each of them has every acknowledged message on its disk.` : "No node reports an in-sync set."}</p>
    <${Table} caption="What each node reports, and what this facade observed" columns=${columns} rows=${rows} />
  </section>`;
}

export function Members({ view }) {
  const { entries, members } = view.hazelcast;
  if (!members.length) return html`<section class="minor"><h2>Hazelcast members</h2><p>None: the engine is ${view.engine || "unknown"}.</p></section>`;
  const nodes = view.logging_nodes.filter((node) => node.status !== "down").length;
  return html`<section class="minor">
    <h2>Hazelcast members</h2>
    <p>${entries === null ? "An unknown number of" : number(entries)} recent messages in the map</p>
    <${Table} caption="As the logging nodes see them" columns=${["address", "state", "seen by", "started by"]}
      rows=${members.map((member) => ({
        key: member.address,
        cells: [
          member.address,
          html`<${Badge} status=${member.seen_by.length === nodes ? "up" : member.seen_by.length ? "suspect" : "down"} />`,
          `${member.seen_by.length} of ${nodes} nodes`,
          member.node || "unknown",
        ],
      }))} />
  </section>`;
}

export function Others({ view }) {
  const rows = [["registry", view.registries], ["facade", view.facades], ["messages node", view.messages_nodes]].flatMap(([what, servers]) =>
    servers.map((server) => ({
      key: what + server.address,
      cells: [server.address, what, html`<${Badge} status=${server.status} />`, ago(server.since, view.time), milliseconds(server.round_trip_ms)],
    })));
  return html`<section><h2>Other processes</h2><${Table} caption="Registries, facades, messages nodes" columns=${["address", "what", "state", "since", "round trip"]} rows=${rows} /></section>`;
}

export function Timeline({ view }) {
  return html`<section>
    <h2>What happened</h2>
    <ol class="events" tabindex="0" aria-label="The newest first">
      ${view.events.map((event, index) => html`<li key=${view.events.length - index}>
        <time datetime=${event.time}>${clock(event.time)}</time> <span class="kind ${event.kind}">${event.kind}</span> <span class="text">${event.text}</span>
      </li>`)}
    </ol>
    ${!view.events.length && html`<p>Nothing since this facade started.</p>`}
  </section>`;
}
