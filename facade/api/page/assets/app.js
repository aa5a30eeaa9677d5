// The page for operators: the log, and the state of the cluster.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { hasToken, isFinal, jsonOf, signIn } from "/assets/access.js";
import { Charts } from "/assets/charts.js";
import { html } from "/assets/elements.js";
import { curl } from "/assets/format.js";
import { Log } from "/assets/log.js";
import { inSyncSet, Members, Nodes, Others, Timeline } from "/assets/tables.js";

const POLL_MS = 1000; // between a response to /v1/cluster and the next request for it
const ANSWER_MS = 3000; // timeout of such a request

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
      ${(view || hasToken()) && html`<${Log} />`}
      ${view && html`<${Nodes} view=${view} /><${Members} view=${view} />`}
      <${Charts} sample=${view && view.traffic} />
      ${view && html`<${Timeline} view=${view} />`}
      <${Send} />
      ${view && html`<${Others} view=${view} />`}
    </main>
    <footer><a href="/api">API</a> <a href="/v1/cluster">JSON</a> <a href="/metrics">metrics</a></footer>`;
}

render(html`<${App} />`, document.getElementById("app"));
