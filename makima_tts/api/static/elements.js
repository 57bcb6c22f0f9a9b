// @ts-check
/**
 * The page's elements, by id and kind.
 *
 * In: ids. Out: elements of the requested class; an id that is missing from
 * `speak.html`, or has another class, throws at once. Does not know: their use.
 */

/**
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {{new (): T}} [kind]
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof (kind ?? HTMLElement)))
    throw new TypeError(`speak.html has no such element: ${id}`);
  return /** @type {T} */ (element);
}

/**
 * @param {HTMLSelectElement} select
 * @param {{value: string, label: string, disabled?: boolean}[]} options
 */
export function fillSelect(select, options) {
  select.replaceChildren(
    ...options.map(({ value, label, disabled = false }) =>
      Object.assign(document.createElement("option"), { value, label, textContent: label, disabled }),
    ),
  );
}

/** The service's default, too. */
export const DEFAULT_LANGUAGE = "English";

/**
 * Keeps the choice where it is still offered.
 * @param {HTMLSelectElement} select
 * @param {string[]} languages
 */
export function fillLanguages(select, languages) {
  const wanted = select.value || DEFAULT_LANGUAGE;
  fillSelect(
    select,
    languages.map((value) => ({ value, label: value })),
  );
  select.value = languages.includes(wanted) ? wanted : (languages[0] ?? "");
}

/**
 * @param {HTMLElement} list
 * @param {string[]} lines
 */
export function fillList(list, lines) {
  list.replaceChildren(
    ...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })),
  );
}
