// The page for operators; it shows /v1/cluster, /v1/history and the stream of new messages.
import { h, render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import htm from "htm";
import { follow, hasToken, jsonOf, signIn } from "/assets/access.js";
import { Charts } from "/assets/charts.js";
import { ago, bytes, clock, curl, milliseconds, number } from "/assets/format.js";

const html = htm.bind(h);

const POLL_MS = 1000; // between a response to /v1/cluster and the next request for it
const ANSWER_MS = 3000; // timeout of such a request
const SHOWN = 200; // most messages in the list
const RECENT = 20; // older messages that are loaded when the page opens
const RECONNECT_MS = 2000; // after the stream ended
const [UNAUTHORIZED, FORBIDDEN] = [401, 403]; // HTTP statuses

/** True if the token is missing or not accepted, so that a retry with it is useless. */
function isFinal(error) {
  return error.status === UNAUTHORIZED || error.status === FORBIDDEN;
}

/** The last known status of the cluster, and the error of the last request if it failed. */
function useCluster() {
  const [cluster, setCluster] = useState({ view: null, error: "", locked: false });
  useEffect(() => {
    let timer;
    async function poll() {
      try {
        const view = await jsonOf("/v1/cluster", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
        setCluster({ view, error: "", locked: false });
      } catch (error) {
        if (isFinal(error)) {
          setCluster({ view: null, error: error.message, locked: true });
          return;
        }
        setCluster((last) => ({ view: last.view, error: `this facade does not answer: ${error.message}`, locked: false }));
      }
      timer = setTimeout(poll, POLL_MS);
    }
    poll();
    return () => clearTimeout(timer);
  }, []);
  return cluster;
}

/** The newest messages first; messages from the stream name the node that accepted them. */
function useTail() {
  const [messages, setMessages] = useState([]);
  const [live, setLive] = useState(false);
  useEffect(() => {
    const stream = new AbortController();
    let timer;
    let newest = "";
    const add = (found) =>
      setMessages((current) => {
        const ids = new Set(current.map((one) => one.id));
        return [...found.filter((one) => !ids.has(one.id)), ...current].slice(0, SHOWN);
      });
    async function connect() {
      const onMessage = (message) => {
        newest = message.id;
        add([message]);
      };
      try {
        await follow("/v1/messages", newest, stream.signal, { onOpen: () => setLive(true), onMessage });
      } catch (error) {
        if (isFinal(error) || stream.signal.aborted) return;
      } finally {
        setLive(false);
      }
      timer = setTimeout(connect, RECONNECT_MS);
    }
    jsonOf(`/v1/messages?order=desc&limit=${RECENT}`)
      .then((page) =>
        setMessages((current) => {
          const ids = new Set(current.map((one) => one.id));
          return [...current, ...page.messages.filter((one) => !ids.has(one.id))].slice(0, SHOWN);
        }))
      .catch(() => {});
    connect();
    return () => {
      clearTimeout(timer);
      stream.abort();
    };
  }, []);
  return { messages, live };
}

/** The reported in-sync set with the highest term; a fenced node may still report an older set. */
function inSyncSet(nodes) {
  const reports = nodes.filter((node) => node.in_sync.length > 0);
  return reports.reduce((newest, node) => (node.term > newest.term ? node : newest), { term: -1, in_sync: [] }).in_sync;
}

function Banner({ view, error }) {
  if (!view) return html`<header class="banner ${error ? "bad" : ""}" role="status"><h1>Threefold</h1><p>${error || "Asking the cluster …"}</p></header>`;
  const nodes = view.logging_nodes;
  const ready = nodes.filter((node) => node.state === "ready" && node.status !== "down").length;
  const set = inSyncSet(nodes);
  const inSync = nodes.filter((node) => node.status !== "down" && set.includes(node.address)).length;
  const level = error || ready === 0 ? "bad" : view.safe ? "good" : "warn";
  const counts = `${ready}/${nodes.length} nodes, ${inSync}/${nodes.length} in sync`;
  return html`<header class="banner ${level}" role="status">
    <h1>Threefold</h1>
    <p><strong>${counts}, ${error ? "unknown" : view.safe ? "safe" : "not safe"}</strong> <span>${error || (ready ? "" : "nothing can be stored or read: ") + view.reason}</span></p>
  </header>`;
}

function Badge({ status, text }) {
  return html`<span class="badge ${status}">${text || status}</span>`;
}

/** A table whose rows become cards on a narrow screen. */
function Table({ caption, columns, rows }) {
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

function Nodes({ view }) {
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
  return html`<section><h2>Logging nodes</h2><${Table} caption="What each node reports, and what this facade observed" columns=${columns} rows=${rows} /></section>`;
}

function Members({ view }) {
  const { partitions, entries, members } = view.hazelcast;
  if (!members.length) return html`<section class="minor"><h2>Hazelcast members</h2><p>None: the engine is ${view.engine || "unknown"}.</p></section>`;
  const nodes = view.logging_nodes.filter((node) => node.status !== "down").length;
  let at = 0;
  const parts = members.map((member, index) => {
    const part = { member, index, x: at, width: partitions ? (1000 * member.partitions) / partitions : 0 };
    at += part.width;
    return part;
  });
  const shares = members.map((member) => `${member.address} ${member.partitions}`).join(", ");
  return html`<section class="minor">
    <h2>Hazelcast members</h2>
    <svg class="bar" role="img" viewBox="0 0 1000 20" preserveAspectRatio="none" aria-label=${`${partitions} partitions: ${shares}`}>
      ${parts.map(({ member, index, x, width }) => html`<rect key=${member.address} class=${`part${index % 5}`} x=${x} y="0" width=${width} height="20" />`)}
    </svg>
    <p>${number(partitions)} partitions; ${entries === null ? "an unknown number of" : number(entries)} recent messages in the map</p>
    <${Table} caption="As the logging nodes see them" columns=${["address", "state", "partitions", "seen by", "started by"]}
      rows=${members.map((member) => ({
        key: member.address,
        cells: [
          html`<span class=${`swatch part${members.indexOf(member) % 5}`}></span> ${member.address}`,
          html`<${Badge} status=${member.seen_by.length === nodes ? "up" : member.seen_by.length ? "suspect" : "down"} />`,
          `${member.partitions} of ${partitions}`,
          `${member.seen_by.length} of ${nodes} nodes`,
          member.node || "unknown",
        ],
      }))} />
  </section>`;
}

function Others({ view }) {
  const rows = [["registry", view.registries], ["facade", view.facades], ["messages node", view.messages_nodes]].flatMap(([what, servers]) =>
    servers.map((server) => ({
      key: what + server.address,
      cells: [server.address, what, html`<${Badge} status=${server.status} />`, ago(server.since, view.time), milliseconds(server.round_trip_ms)],
    })));
  return html`<section><h2>Other processes</h2><${Table} caption="Registries, facades, messages nodes" columns=${["address", "what", "state", "since", "round trip"]} rows=${rows} /></section>`;
}

function Tail() {
  const { messages, live } = useTail();
  const [filter, setFilter] = useState("");
  const shown = messages.filter((one) => one.msg.toLowerCase().includes(filter.toLowerCase()));
  return html`<section>
    <h2>Messages <${Badge} status=${live ? "up" : "suspect"} text=${live ? "live" : "not connected"} /></h2>
    <label>Filter <input type="search" value=${filter} onInput=${(event) => setFilter(event.target.value)} placeholder="text" /></label>
    <ol class="tail" tabindex="0" aria-label="The newest messages first">
      ${shown.map((one) => html`<li key=${one.id}>
        <time datetime=${one.time}>${clock(one.time)}</time>
        ${one.node && html`<span class="node">${one.node}</span>`}
        <span class="text">${one.msg}</span>
      </li>`)}
    </ol>
    ${!shown.length && html`<p>${messages.length ? "No message has this text." : "No messages yet."}</p>`}
  </section>`;
}

function Timeline({ view }) {
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

function Send() {
  const [text, setText] = useState("");
  const [result, setResult] = useState("");
  const line = useRef(null);
  async function send(event) {
    event.preventDefault();
    try {
      const stored = await jsonOf("/v1/messages", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ msg: text }) });
      setResult(`stored as ${stored.id}`);
      setText("");
    } catch (error) {
      setResult(`not stored: ${error.message}`);
    }
  }
  async function copy() {
    try {
      await navigator.clipboard.writeText(line.current.textContent);
      setResult("copied");
    } catch {
      getSelection().selectAllChildren(line.current); // browsers allow the clipboard only with https
      setResult("selected: copy it with your keyboard");
    }
  }
  return html`<section>
    <h2>Send a message</h2>
    <form onSubmit=${send}>
      <label>Message <input name="msg" required value=${text} onInput=${(event) => setText(event.target.value)} /></label>
      <button>Send</button>
    </form>
    <p role="status">${result}</p>
    <pre tabindex="0" aria-label="The same with curl"><code ref=${line}>${curl(location.origin, text || "hi", hasToken())}</code></pre>
    <button type="button" onClick=${copy}>Copy</button>
  </section>`;
}

function SignIn() {
  const [token, setToken] = useState("");
  function enter(event) {
    event.preventDefault();
    signIn(token);
  }
  return html`<section>
    <h2>Sign in</h2>
    <form onSubmit=${enter}>
      <label>Token <input type="password" name="token" required autocomplete="current-password" value=${token} onInput=${(event) => setToken(event.target.value)} /></label>
      <button>Sign in</button>
    </form>
    <p>The status of the cluster needs a token with the scope admin; reading and sending messages, one with read or write.</p>
  </section>`;
}

function App() {
  const { view, error, locked } = useCluster();
  return html`
    <${Banner} view=${view} error=${error} />
    <main>
      ${locked && html`<${SignIn} />`}
      ${view && view.warnings.map((warning) => html`<p class="notice" role="note" key=${warning}>${warning}</p>`)}
      ${view && html`<${Nodes} view=${view} /><${Members} view=${view} />`}
      <${Charts} html=${html} sample=${view && view.traffic} />
      <${Tail} />
      ${view && html`<${Timeline} view=${view} />`}
      <${Send} />
      ${view && html`<${Others} view=${view} />`}
    </main>
    <footer><a href="/api">API</a> <a href="/v1/cluster">JSON</a> <a href="/metrics">metrics</a></footer>`;
}

render(html`<${App} />`, document.getElementById("app"));
