// The log: search, time, pause, and the list of messages, the newest first.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Badge, html } from "/assets/elements.js";
import { Feed, LIMIT } from "/assets/feed.js";
import { full, number, timeOf, zone } from "/assets/format.js";
import { Help, useKeys } from "/assets/keys.js";
import { Line } from "/assets/line.js";
import { inWords } from "/assets/search.js";

const NEAR_END_PX = 200; // from the end of the list, where older messages are loaded

/** The place of the log in the URL of the page, and a function that goes to another one. */
function usePlace() {
  const read = () => {
    const given = new URLSearchParams(location.search);
    return { search: given.get("q") || "", id: given.get("id") || "", from: given.get("from") || "" };
  };
  const [place, setPlace] = useState(read);
  useEffect(() => {
    const back = () => setPlace(read());
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, []);
  function go({ search = "", id = "", from = "" }) {
    const query = new URLSearchParams(Object.entries({ q: search, id, from }).filter(([, value]) => value));
    history.pushState(null, "", query.size ? `/?${query}` : "/");
    setPlace({ search, id, from });
  }
  return [place, go];
}

/** The feed of a place; it is made anew when the place changes, or when `restart` is called. */
function useFeed(place) {
  const [, draw] = useState({});
  const [round, setRound] = useState(0);
  const feed = useRef(null);
  if (!feed.current) feed.current = new Feed(place, () => {});
  useEffect(() => {
    feed.current = new Feed(place, () => draw({}), feed.current.messages);
    feed.current.start();
    return () => feed.current.stop();
  }, [place, round]);
  return [feed.current, () => setRound(round + 1)];
}

function SearchBox({ search, onSearch, input }) {
  function submit(event) {
    event.preventDefault();
    onSearch(input.current.value.trim());
  }
  const cleared = (event) => !event.target.value && search && onSearch("");
  function left(event) {
    if (event.key !== "Escape") return;
    event.preventDefault(); // else some browsers clear the search
    event.target.blur();
  }
  return html`<form role="search" onSubmit=${submit}>
    <label>Search <input ref=${input} type="search" key=${search} defaultValue=${search} onInput=${cleared} onKeyDown=${left}
      placeholder=${'disk full level=error host="web 1"'} aria-keyshortcuts="/" /></label>
    <button>Search</button>
  </form>`;
}

/** A time as the value of an input of the type datetime-local, which has no time zone. */
function localValue(time) {
  return Number.isNaN(Date.parse(time)) ? "" : new Date(time).toLocaleString("sv-SE").replace(" ", "T");
}

function JumpBox({ from, onJump }) {
  const input = useRef(null);
  function submit(event) {
    event.preventDefault();
    onJump(new Date(input.current.value).toISOString());
  }
  return html`<form onSubmit=${submit}>
    <label>Time (${zone()}) <input ref=${input} type="datetime-local" step="1" required key=${from} defaultValue=${localValue(from)} /></label>
    <button>Jump</button>
  </form>`;
}

/** One sentence about what is shown. */
function said({ place, messages, older, loading, loaded, error }) {
  if (error) return error;
  const words = inWords(place.search);
  if (loading && !loaded) return words ? "Searching …" : "Loading …";
  const what = [words, place.from && `from ${full(place.from)} on`].filter(Boolean).join(", ");
  const back = words && older?.after ? `; searched back to ${full(timeOf(older.after))}` : "";
  if (messages.length) return what ? `${number(messages.length)} messages: ${what}${back}` : "";
  return what ? `No message: ${what}${back}` : "No messages yet.";
}

function State({ feed }) {
  if (!feed.live) return html`<${Badge} status="" text="history" />`;
  if (!feed.connected) return html`<${Badge} status="suspect" text="not connected" />`;
  return feed.paused ? html`<${Badge} status="suspect" text="paused" />` : html`<${Badge} status="up" text="live" />`;
}

function waitingText({ waiting }) {
  return waiting.size >= LIMIT ? `${number(LIMIT)} or more new` : `${number(waiting.size)} new`;
}

function More({ feed, direction }) {
  if (!feed[direction]) return null;
  const text = feed.place.search && direction === "older" ? "Search older messages" : `Load ${direction} messages`;
  return html`<button type="button" onClick=${() => feed.more(direction)}>${text}</button>`;
}

/** Which line has the keyboard, which one is open, and how both change. */
function useLines(feed, list) {
  const { id, from } = feed.place;
  const [current, setCurrent] = useState("");
  const [open, setOpen] = useState("");
  const line = (wanted) => document.getElementById(`m-${wanted}`);
  function reveal(wanted) {
    list.current.scrollTop = line(wanted).offsetTop - list.current.clientHeight / 2; // the page stays where it is
  }
  const newest = useRef(""); // before the last change
  useLayoutEffect(() => {
    const added = !feed.live || feed.paused; // by the user, above the line that was the first one
    if (added && line(newest.current)) reveal(newest.current);
    newest.current = feed.messages[0]?.id;
  }, [feed.messages[0]?.id]);
  useLayoutEffect(() => {
    if (!feed.loaded || feed.live || !feed.messages.length) return;
    const wanted = feed.messages.find((message) => message.id === id.toLowerCase()) || feed.messages.at(-1);
    setCurrent(wanted.id);
    if (id) setOpen(wanted.id);
    reveal(wanted.id);
  }, [feed, feed.loaded, id, from]);
  function move(step) {
    const at = feed.messages.findIndex((message) => message.id === current);
    const next = feed.messages[at < 0 ? 0 : at + step];
    if (!next) return feed.more(step > 0 ? "older" : "newer");
    setCurrent(next.id);
    return line(next.id).focus();
  }
  function toggle(wanted) {
    setCurrent(wanted);
    setOpen((was) => (was === wanted ? "" : wanted));
  }
  function close() {
    setOpen("");
    line(open)?.focus();
  }
  return { current, open, move, toggle, close };
}

export function Log() {
  const [place, go] = usePlace();
  const [feed, restart] = useFeed(place);
  const [list, input, help] = [useRef(null), useRef(null), useRef(null)];
  const { current, open, move, toggle, close } = useLines(feed, list);
  const turn = () => (feed.paused ? restart() : feed.live && feed.pause());
  const inList = (event) => list.current.contains(event.target);
  const inLine = (event) => event.target.matches(".line");
  useKeys({
    "/": () => input.current.focus(),
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: (event) => inList(event) && move(1),
    ArrowUp: (event) => inList(event) && move(-1),
    Enter: (event) => inLine(event) && toggle(event.target.id.slice(2)),
    Escape: close,
    p: turn,
    " ": (event) => (inLine(event) ? toggle(event.target.id.slice(2)) : turn()),
    "?": () => help.current.showModal(),
  });
  function scrolled({ target }) {
    if (target.scrollTop + target.clientHeight > target.scrollHeight - NEAR_END_PX) feed.more("older");
  }
  const first = feed.messages.some((message) => message.id === current) ? current : feed.messages[0]?.id; // for Tab
  return html`<section class="log">
    <h2>Messages <${State} feed=${feed} /></h2>
    <div class="tools">
      <${SearchBox} search=${place.search} input=${input} onSearch=${(search) => go({ search, from: place.from })} />
      <${JumpBox} from=${place.from} onJump=${(from) => go({ search: place.search, from })} />
      ${feed.live
        ? html`<button type="button" aria-keyshortcuts="p" onClick=${turn}>${feed.paused ? `Resume (${waitingText(feed)})` : "Pause"}</button>`
        : html`<button type="button" onClick=${() => go({ search: place.search })}>Live</button>`}
      <button type="button" aria-keyshortcuts="?" onClick=${() => help.current.showModal()}>Keys</button>
    </div>
    <p role="status" class=${feed.error ? "wrong" : ""}><bdi>${said(feed)}</bdi></p>
    <${More} feed=${feed} direction="newer" />
    <ol class="tail" ref=${list} onScroll=${scrolled} aria-label="The newest messages first" aria-busy=${feed.loading}>
      ${feed.messages.map((message) => html`<${Line} key=${message.id} message=${message} open=${message.id === open} current=${message.id === first} onToggle=${toggle} />`)}
    </ol>
    <${More} feed=${feed} direction="older" />
    <${Help} dialog=${help} />
  </section>`;
}
