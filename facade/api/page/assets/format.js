// Formats numbers, times, texts and commands for display.

const HIDDEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const DATE = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" };

export function number(value) {
  return value.toLocaleString("en");
}

export function milliseconds(value) {
  return value === null ? "none" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; value >= 1000 && at < units.length - 1; at += 1) value /= 1000;
  return `${at ? value.toFixed(1) : value} ${units[at]}`;
}

/** The time of day in the time zone of the user. */
export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

/** The time of day with milliseconds, and the date if it is not today. */
export function stamp(time) {
  const at = new Date(time);
  const day = at.toDateString() === new Date().toDateString() ? "" : `${at.toLocaleDateString("sv-SE")} `;
  return `${day}${at.toLocaleTimeString("en-GB")}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** Date and time in the time zone of the user, with its name. */
export function full(time) {
  if (Number.isNaN(Date.parse(time))) return time;
  return `${new Date(time).toLocaleString("sv-SE", { timeZoneName: "longOffset", fractionalSecondDigits: 3, ...DATE })} (${zone()})`;
}

/** The name of the user's time zone, such as Europe/Kyiv. */
export function zone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** The time in which a UUIDv7 was made, in the form of RFC 3339. */
export function timeOf(id) {
  return new Date(parseInt(id.replace("-", "").slice(0, 12), 16)).toISOString();
}

/** A text in which control characters, and those that change the direction or have no width, are written as escapes. */
export function visible(text) {
  return text.replace(HIDDEN, (found) => {
    const code = found.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** The time between `time` and `now`, both of the facade's clock. */
export function ago(time, now) {
  const seconds = Math.max(0, Math.round((Date.parse(now) - Date.parse(time)) / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** The curl command that sends a message; the user has to set FACADE_TOKEN if a token is needed. */
export function curl(origin, text, withToken) {
  const body = JSON.stringify({ msg: text }).replaceAll("'", "'\\''");
  const token = withToken ? ` -H "Authorization: Bearer $FACADE_TOKEN"` : "";
  return `curl -X POST ${origin}/v1/messages${token} -H 'Content-Type: application/json' -d '${body}'`;
}
