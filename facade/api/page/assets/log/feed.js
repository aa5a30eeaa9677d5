// The part of the log that the page shows: a bounded window, which new messages and pages of history extend.
import { follow, isFinal, jsonOf } from "/assets/access.js";
import { parameters } from "/assets/search.js";

export const LIMIT = 1000; // most messages in the window, and most that are counted while it is paused
const PAGE = 100; // messages of one request for history
const NEIGHBOURS = 20; // messages on each side of a linked one
const RETRY_MS = 2000; // after the stream ended, or history could not be read
const FLUSH_MS = 200; // from a new message until it is shown, so that a burst is drawn at once

/** All messages once, the newest id first. */
function merged(some, others) {
  const byId = new Map([...some, ...others].map((message) => [message.id, message]));
  return [...byId.values()].sort((one, other) => (one.id < other.id ? 1 : -1));
}

/** The larger one of two ids, of which the second may be missing. */
function later(id, other = "") {
  return id > other ? id : other;
}

/**
 * Messages from one place of the log on.
 *
 * place: `search` is that of the search box. `id` or `from` (a time) say where to begin; without both, the newest
 * messages are shown, and new ones as they arrive.
 * changed: called after each change of the attributes.
 *
 * messages: the newest first.
 * older, newer: parameters of the next page in that direction; null if the window reaches the end of the log.
 */
export class Feed {
  constructor(place, changed, messages = []) {
    this.place = place;
    this.changed = changed;
    this.messages = messages; // those of the previous feed, until the first answer
    this.older = null;
    this.newer = null;
    this.live = !place.id && !place.from;
    this.connected = false;
    this.paused = false;
    this.loading = true;
    this.loaded = false; // there was an answer
    this.error = "";
    this.waiting = new Set(); // ids of the messages that came during the pause
    this.arrived = []; // from the stream, not shown yet
    this.last = ""; // id of the last message from the stream, or of the newest one in history
    this.stopped = new AbortController();
  }

  start() {
    const { id, from } = this.place;
    this.changed();
    if (this.live) this.connect();
    else this.load(() => (id ? this.around(id) : this.since(from)));
  }

  stop() {
    this.stopped.abort();
    for (const timer of [this.retrying, this.reconnecting, this.flushing]) clearTimeout(timer);
  }

  /** Stop showing new messages, and count them instead. */
  pause() {
    this.flush();
    this.paused = true;
    this.changed();
  }

  /** Load the next page in a direction, "older" or "newer". */
  async more(direction) {
    if (!this[direction] || this.loading) return;
    const full = this.messages.length + PAGE > LIMIT;
    if (this.live && !this.paused && full) this.pause(); // the newest messages leave the window
    const next = this[direction];
    await this.load(async () => {
      const page = await this.page({ order: direction === "older" ? "desc" : "asc", ...next });
      if (this[direction] === next) this.extend(direction, page); // else the window moved meanwhile
    });
  }

  extend(direction, { messages, next }) {
    const all = merged(this.messages, messages);
    this[direction] = next && { after: next };
    this.messages = direction === "older" ? all.slice(-LIMIT) : all.slice(0, LIMIT);
    if (all.length <= LIMIT) return;
    if (direction === "older") this.newer = { after: this.messages[0].id };
    else this.older = { after: later(this.messages.at(-1).id, this.older?.after) };
  }

  /** Await a change of the window, and keep the sentence of the facade if it fails. */
  async load(change) {
    this.loading = true;
    this.error = "";
    this.changed();
    try {
      await change();
    } catch (error) {
      if (this.stopped.signal.aborted) return;
      this.error = error.message;
      if (!this.loaded) this.messages = [];
      if (!this.loaded && this.live && !isFinal(error)) {
        clearTimeout(this.retrying); // one at a time, however many loads have failed
        this.retrying = setTimeout(() => this.newest(), RETRY_MS);
      }
    }
    this.loading = false;
    this.changed();
  }

  page(params) {
    const query = new URLSearchParams([...parameters(this.place.search), ...Object.entries({ limit: PAGE, ...params })]);
    return jsonOf(`/v1/messages?${query}`, { signal: this.stopped.signal });
  }

  replace(messages, older, newer) {
    this.messages = messages;
    this.older = older;
    this.newer = newer;
    this.loaded = true;
  }

  async around(id) {
    const wanted = jsonOf(`/v1/messages/${encodeURIComponent(id)}`, { signal: this.stopped.signal });
    const side = (order) => this.page({ order, after: id, limit: NEIGHBOURS });
    const [message, older, newer] = await Promise.all([wanted, wanted.then(() => side("desc")), wanted.then(() => side("asc"))]);
    const all = merged([message, ...older.messages], newer.messages);
    this.replace(all, older.next && { after: older.next }, newer.next && { after: newer.next });
  }

  async since(from) {
    const page = await this.page({ order: "asc", from });
    const messages = merged(page.messages, []);
    this.replace(messages, messages.length ? { after: messages.at(-1).id } : { to: from }, page.next && { after: page.next });
  }

  /** Load the newest messages, and add those that have arrived meanwhile. */
  newest() {
    return this.load(async () => {
      const page = await this.page({ order: "desc" });
      this.replace(page.messages, page.next && { after: page.next }, null);
      this.last ||= page.messages[0]?.id ?? "";
      this.flush();
    });
  }

  /** Follow the log until the feed is stopped; history is read once the stream is open, so that no message is missed. */
  async connect() {
    const onOpen = () => {
      this.connected = true;
      this.changed();
      if (!this.last) this.newest();
    };
    const onId = (id) => {
      this.last = id;
    };
    try {
      const query = new URLSearchParams(parameters(this.place.search));
      await follow(`/v1/messages?${query}`, this.last, this.stopped.signal, { onOpen, onId, onMessage: (one) => this.receive(one) });
    } catch (error) {
      if (this.stopped.signal.aborted) return;
      if (isFinal(error)) {
        this.refused(error);
        return;
      }
      if (!this.loaded && !this.loading && !this.retrying) this.newest();
    }
    this.connected = false;
    this.changed();
    this.reconnecting = setTimeout(() => this.connect(), RETRY_MS);
  }

  /** Show what the facade says of the search or of the token, which a retry would not change. */
  refused(error) {
    this.loading = false;
    this.error = error.message;
    this.messages = [];
    this.changed();
  }

  receive(message) {
    this.arrived.push(message);
    if (this.arrived.length > LIMIT) this.arrived.shift(); // it would not be shown
    this.flushing ??= setTimeout(() => this.flush(), FLUSH_MS);
  }

  /** Show the messages that have arrived, or count them during a pause. */
  flush() {
    clearTimeout(this.flushing);
    this.flushing = undefined;
    if (!this.loaded || !this.arrived.length) return;
    const arrived = this.arrived;
    this.arrived = [];
    if (this.paused) {
      const shown = new Set(this.messages.map((message) => message.id));
      const fresh = arrived.filter((message) => !shown.has(message.id));
      this.waiting = new Set([...this.waiting, ...fresh.map((message) => message.id)].slice(0, LIMIT));
    } else {
      this.extend("newer", { messages: arrived, next: null });
    }
    this.changed();
  }
}
