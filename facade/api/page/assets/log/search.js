// The language of the search box: text, and terms such as level=error or host="web 1".

const TERM = /(?:("(?:[^"\\]|\\.)*"|[^\s"=]+)=)?("(?:[^"\\]|\\.)*"|\S+)/g;

function unquoted(text) {
  return /^".*"$/s.test(text) && text.length > 1 ? text.slice(1, -1).replace(/\\(.)/gs, "$1") : text;
}

/** The text to find, and pairs of a field's name and value; what is in quotes is taken literally. */
function parsed(search) {
  const terms = [...search.matchAll(TERM)].map(([, name, value]) => [name, unquoted(value)]);
  return {
    text: terms.filter(([name]) => name === undefined).map(([, value]) => value).join(" "),
    fields: terms.filter(([name]) => name !== undefined).map(([name, value]) => [unquoted(name), value]),
  };
}

/** The parameters of /v1/messages for a search; a field that is given twice stays so, and the facade refuses it. */
export function parameters(search) {
  const { text, fields } = parsed(search);
  return [...(text ? [["contains", text]] : []), ...fields.map(([name, value]) => [`field.${name}`, value])];
}

/** A search in words, "" for none. */
export function inWords(search) {
  const { text, fields } = parsed(search);
  return [...(text ? [`the text contains “${text}”`] : []), ...fields.map(([name, value]) => `${name} is “${value}”`)].join(", ");
}
